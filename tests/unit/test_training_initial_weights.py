"""The classifier's initial weights: from a file, from Keras' cache, or refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from croplake.errors import IncompleteError, SettingsError

pytest.importorskip("tensorflow")
import keras

from croplake.training.initial_weights import load_initial_weights
from croplake.training.network import BASE, FEATURES, build_classifier
from tests.mobilenet import (
    NUM_CLASSES,
    Model,
    assert_same_weights,
    bare_base,
    conf_with,
    save_weights_alone,
)


def save_as(model: Model, file: Path) -> str:
    save = model.save_weights if file.name.endswith(".weights.h5") else model.save
    save(file)
    return str(file)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_an_earlier_classifier_gives_base_and_head(
    classifier: Model,
    tmp_path: Path,
    name: str,
) -> None:
    file = save_as(classifier, tmp_path / name)
    assert_same_weights(build_classifier(conf_with(weights=file), NUM_CLASSES), classifier)


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_a_classifier_of_other_categories_gives_all_but_the_softmax(
    classifier: Model,
    tmp_path: Path,
    name: str,
) -> None:
    save_as(classifier, tmp_path / name)
    address = (tmp_path / name).as_uri()
    model = build_classifier(conf_with("head", weights=address), NUM_CLASSES + 2)
    for layer in (BASE, FEATURES):
        assert_same_weights(model.get_layer(layer), classifier.get_layer(layer))
    assert model.output_shape == (None, NUM_CLASSES + 2)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("name", ["base.keras", "base.h5", "base.weights.h5", "alone.h5"])
def test_a_bare_mobilenet_gives_the_base(
    base: Model,
    tmp_path: Path,
    name: str,
) -> None:
    file = tmp_path / name
    if name == "alone.h5":
        save_weights_alone(base, file)
    else:
        save_as(base, file)
    model = build_classifier(conf_with("head", weights=str(file)), NUM_CLASSES)
    assert_same_weights(model.get_layer(BASE), base)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def small_network() -> Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name=FEATURES)])


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("other.keras", lambda path: small_network().save(path)),
        ("other.weights.h5", lambda path: small_network().save_weights(path)),
        ("wide.weights.h5", lambda path: bare_base(alpha=0.5).save_weights(path)),
    ],
)
def test_a_file_that_does_not_fill_the_base_is_refused_by_name(
    tmp_path: Path, name: str, save: Callable[[Path], None]
) -> None:
    file = tmp_path / name
    save(file)
    with pytest.raises(SettingsError) as error:
        build_classifier(conf_with("head", weights=str(file)), NUM_CLASSES)
    text = str(error.value)
    assert text.startswith(f"train.weights: {file} fits ")
    assert "of the 104 layers of MobileNetV2" in text
    assert "the same train.alpha" in text


def test_a_deeper_network_of_the_same_kind_is_refused_by_its_layers(tmp_path: Path) -> None:
    def build(name: str, num_layers: int) -> Model:
        pictures = keras.Input((32, 32, 3))
        maps = pictures
        for number in range(num_layers):
            # The last one has the same name in both.
            last = number == num_layers - 1
            maps = keras.layers.Conv2D(3, 1, name="last" if last else f"conv{number}")(maps)
        return keras.Model(pictures, maps, name=name)

    base, file = build("shallow", 2), tmp_path / "deep.keras"
    build("deep", 4).save(file)
    before = base.get_weights()
    with pytest.raises(
        SettingsError,
        match=r"deep\.keras fits 2 of the 2 layers of Net, which has not its layers conv1, con",
    ):
        load_initial_weights(base, base, "Net", str(file))
    for one, other in zip(base.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_a_file_that_is_no_model_is_not_called_one_that_does_not_fit(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(b"no model")
    with pytest.raises(
        SettingsError, match=rf"^train\.weights: .*{name} cannot be read: .*expected"
    ):
        build_classifier(conf_with(weights=str(file)), NUM_CLASSES)


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    for missing in (str(tmp_path / "none.keras"), (tmp_path / "none.h5").as_uri(), str(tmp_path)):
        with pytest.raises(SettingsError) as error:
            build_classifier(conf_with(weights=missing), NUM_CLASSES)
        assert str(error.value).startswith(f"train.weights: {missing} cannot be read")


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Keras', on a machine without network."""

    def no_network(*_: object) -> None:
        raise URLError("no network here")

    # Keras reads KERAS_HOME once, at its import.
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", no_network)
    return tmp_path


@pytest.mark.parametrize(("side_px", "size"), [(32, 224), (96, 96)])
def test_imagenet_weights_come_from_keras_cache(
    base: Model,
    keras_home: Path,
    side_px: int,
    size: int,
) -> None:
    name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_{size}_no_top.h5"
    keras_home.joinpath("models").mkdir()
    save_weights_alone(base, keras_home / "models" / name)
    conf = conf_with("head", weights="imagenet", input_side_px=side_px)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build_classifier(conf, NUM_CLASSES)
    assert_same_weights(model.get_layer(BASE), base)


def test_without_network_imagenet_says_what_is_missing_and_the_ways_out(keras_home: Path) -> None:
    with pytest.raises(IncompleteError) as error:
        build_classifier(conf_with("head", weights="imagenet"), NUM_CLASSES)
    text = str(error.value)
    assert text.startswith("train.weights: imagenet: Keras could not get its MobileNetV2 weights")
    assert f"storage.googleapis.com into {keras_home}/models" in text
    assert "no network here" in text
    assert "ask for a .keras file instead" in text


def test_pictures_too_small_for_the_base_are_a_settings_error() -> None:
    conf = conf_with(base="InceptionV3", alpha=1.0)
    with pytest.raises(SettingsError, match=r"train\.base: InceptionV3 at 32 px: .*75"):
        build_classifier(conf, 3)
