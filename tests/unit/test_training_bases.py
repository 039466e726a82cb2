"""Every network of `keras.applications` as a base: its preprocessing, and how it is saved."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from croplake.conf import PhaseConf, TrainConf
from croplake.training.bases import BASES, find_base

tf = pytest.importorskip("tensorflow")
import keras  # noqa: E402

from croplake.training.base_network import preprocess  # noqa: E402
from croplake.training.network import BASE, build_classifier  # noqa: E402
from croplake.training.training_copy import copy_for_training  # noqa: E402

FAMILIES = {
    "MobileNet": 64,
    "MobileNetV3Small": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "ConvNeXtTiny": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "DenseNet121": 64,
    "VGG16": 64,
    "InceptionV3": 96,
    "InceptionResNetV2": 96,
    "Xception": 96,
    "NASNetMobile": 64,
}
"""One of each, and the side of the squares."""


def module_of(name: str) -> Any:  # noqa: ANN401  # keras is untyped
    """The module of `keras.applications` that the network stands in."""
    return inspect.getmodule(inspect.unwrap(getattr(keras.applications, name)))


def test_all_networks_of_keras_applications_are_known() -> None:
    names = {name for name in dir(keras.applications) if name[0].isupper()}
    assert names == set(BASES)


@pytest.mark.parametrize("name", BASES)
def test_pictures_are_preprocessed_as_keras_does_for_the_base(name: str) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    images = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(images, preprocess(images, find_base(name).preprocessing, 32))
    expected = module_of(name).preprocess_input(pictures.astype(np.float32))
    np.testing.assert_allclose(model(pictures), expected, atol=1e-4)


def conf_of(name: str, side_px: int, **changes: Any) -> TrainConf:  # noqa: ANN401
    values: dict[str, Any] = {
        "base": name,
        "weights": "none",
        "phases": (PhaseConf(trainable="all"),),
        "input_side_px": side_px,
        "dense_units": 0,
        "dropout_frac": 0,
    }
    return TrainConf.model_validate(values | changes)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_classifier_on_any_base_is_saved_loaded_and_gone_on_from(
    name: str, tmp_path: Path
) -> None:
    side_px = FAMILIES[name]
    pictures = np.random.default_rng(2).integers(0, 256, (2, 110, 130, 3), dtype=np.uint8)
    model = build_classifier(conf_of(name, side_px), 3)
    expected = np.asarray(model(pictures))
    file = tmp_path / "model.keras"
    model.save(file)
    np.testing.assert_allclose(keras.models.load_model(file)(pictures), expected, atol=1e-4)
    # Layers that Keras numbers through a process are found all the same.
    frozen = conf_of(name, side_px, weights=str(file), phases=({"trainable": "head"},))
    again = build_classifier(frozen, 3)
    for one, other in zip(
        again.get_layer(BASE).get_weights(), model.get_layer(BASE).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    squares = pictures[:, :side_px, :side_px]
    copy = copy_for_training(again)
    np.testing.assert_allclose(copy(squares, training=True), again(squares), atol=1e-3)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAMILIES)
def test_whether_keras_reads_a_classifier_back_from_hdf5_is_known(
    name: str, tmp_path: Path
) -> None:
    model = build_classifier(conf_of(name, FAMILIES[name]), 3)
    pictures = np.random.default_rng(3).integers(0, 256, (2, 90, 70, 3), dtype=np.uint8)
    file = tmp_path / "model.h5"
    try:
        model.save(file)
        found = keras.models.load_model(file, compile=False)
        loads = np.allclose(found(pictures), model(pictures), atol=1e-4)
    except Exception:
        loads = False
    assert loads == find_base(name).loads_from_h5


SQUARE = (64, 64, 3)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    """EfficientNetB0 as Keras makes it of ImageNet's weights, which here are a file of ours.

    It has a layer more for them, which makes up for deviations that stand for variances.
    """
    plain = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=SQUARE)
    found = [each for each in plain.layers if isinstance(each, keras.layers.Normalization)]
    statistics = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 0
    found[0].set_weights([np.array(values) for values in statistics])
    file = tmp_path / "notop.weights.h5"
    plain.save_weights(file)
    utils = module_of("EfficientNetB0").file_utils
    monkeypatch.setattr(utils, "get_file", lambda *_, **__: str(file))
    return keras.applications.EfficientNetB0(
        weights="imagenet", include_top=False, input_shape=SQUARE
    )


@pytest.mark.full
def test_efficientnet_is_the_same_from_imagenet_from_files_and_in_training(
    published: keras.Model, tmp_path: Path
) -> None:
    squares = np.random.default_rng(4).integers(0, 256, (2, *SQUARE)).astype(np.float32)
    expected = np.asarray(published(squares))
    classifier = build_classifier(conf_of("EfficientNetB0", 64, weights="imagenet"), 3)
    bases = [classifier.get_layer(BASE), copy_for_training(classifier).get_layer(BASE)]
    for name, model in {"ours.keras": classifier, "theirs.keras": published}.items():
        model.save(tmp_path / name)
        again = build_classifier(conf_of("EfficientNetB0", 64, weights=str(tmp_path / name)), 3)
        bases.append(again.get_layer(BASE))
    largest = np.abs(expected).max()
    for base in bases:
        np.testing.assert_allclose(base(squares) / largest, expected / largest, atol=1e-4)
    assert len({len(base.layers) for base in bases}) == 1
