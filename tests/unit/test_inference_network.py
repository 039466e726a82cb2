"""Networks of any input type, asked for probabilities and for vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from croplake.errors import InputDataError
from croplake.inference.network import load_embedder, load_network

keras = pytest.importorskip("keras")
layers = keras.layers

from croplake.training.base_network import preprocess  # noqa: E402

SQUARES = np.random.default_rng(7).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def saved(folder: Path, network: Any, name: str = "model.keras") -> str:  # noqa: ANN401
    network.save(folder / name)
    return str(folder / name)


def new_model() -> Any:  # noqa: ANN401
    """As croplake trains them: uint8 in, the layer `embedding`, a dense layer before the last."""
    pictures = keras.Input((None, None, 3), dtype="uint8", name="image")
    # Resizing itself rounds whole numbers in one mode of TensorFlow, and not in the other.
    floats = layers.Rescaling(1.0)(pictures)
    squares = layers.Resizing(16, 16)(floats, training=False)
    base = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(6, 3)], name="base")
    pooled = layers.GlobalAveragePooling2D(name="embedding")(base(squares))
    features = layers.Dense(9, activation="relu", name="features")(pooled)
    softmax = layers.Dense(4, activation="softmax", name="probabilities", dtype="float32")
    return keras.Model(pictures, softmax(features))


def older_model() -> Any:  # noqa: ANN401
    """Float in, no layer `embedding`."""
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Rescaling(1 / 255),
            layers.GlobalAveragePooling2D(),
            layers.Dense(9, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(4, activation="softmax"),
        ]
    )


def bare_base() -> Any:  # noqa: ANN401
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(6, 3)])


@pytest.mark.parametrize("make", [new_model, older_model])
def test_probabilities_are_the_networks_own_whatever_type_it_takes(
    tmp_path: Path, make: Callable[[], Any]
) -> None:
    network = make()
    run, num_outputs = load_network(saved(tmp_path, network), 32)
    assert num_outputs == 4
    asked = SQUARES.astype(network.inputs[0].dtype)
    expected = np.asarray(network(asked, training=False))
    np.testing.assert_allclose(run(SQUARES), expected, atol=1e-5)


@pytest.mark.parametrize("side_px", [32, 16])
def test_squares_of_the_networks_size_and_of_another_get_its_own_answer(
    tmp_path: Path, side_px: int
) -> None:
    pictures = keras.Input((None, None, 3), dtype="uint8", name="image")
    scaled = preprocess(pictures, "caffe", 32)
    pooled = layers.GlobalAveragePooling2D(name="embedding")(layers.Conv2D(6, 3)(scaled))
    network = keras.Model(pictures, layers.Dense(4, activation="softmax")(pooled))
    squares = SQUARES[:, :side_px, :side_px]
    run, _ = load_network(saved(tmp_path, network), side_px)
    np.testing.assert_allclose(run(squares), np.asarray(network(squares)), rtol=1e-4, atol=1e-5)
    embed, num_features, _ = load_embedder(str(tmp_path / "model.keras"), side_px)
    vectors = keras.Model(pictures, pooled)(squares)
    assert num_features == 6
    np.testing.assert_allclose(embed(squares), np.asarray(vectors), rtol=1e-4, atol=1e-3)


def test_the_vector_of_a_new_model_is_its_layer_embedding(tmp_path: Path) -> None:
    network = new_model()
    run, num_features, side_px = load_embedder(saved(tmp_path, network), 32)
    expected = keras.Model(network.inputs, network.get_layer("embedding").output)([SQUARES])
    assert (num_features, side_px) == (6, 32)
    np.testing.assert_allclose(run(SQUARES), np.asarray(expected), rtol=1e-4, atol=1e-4)


def test_the_vector_of_an_older_model_is_what_its_last_dense_layer_is_given(tmp_path: Path) -> None:
    network = older_model()
    run, num_features, side_px = load_embedder(saved(tmp_path, network, "old.h5"), 24)
    expected = keras.Model(network.inputs, network.layers[-1].input)([SQUARES.astype(np.float32)])
    assert (num_features, side_px) == (9, 24)
    np.testing.assert_allclose(run(SQUARES[:, :24, :24]).shape, (5, 9))
    run, _, _ = load_embedder(str(tmp_path / "old.h5"), 32)
    np.testing.assert_allclose(run(SQUARES), np.asarray(expected), rtol=1e-4, atol=1e-5)


def test_a_network_without_a_head_is_averaged_over_space_at_its_own_size(tmp_path: Path) -> None:
    network = bare_base()
    run, num_features, side_px = load_embedder(saved(tmp_path, network), 224)
    expected = np.asarray(network(SQUARES.astype(np.float32))).mean(axis=(1, 2))
    assert (num_features, side_px) == (6, 32)
    np.testing.assert_allclose(run(SQUARES), expected, rtol=1e-4, atol=1e-3)


def of_two_pictures() -> Any:  # noqa: ANN401
    one, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([one, other], layers.Flatten()(layers.Add()([one, other])))


def of_oblongs() -> Any:  # noqa: ANN401
    return keras.Sequential([keras.Input((8, 9, 3)), layers.Flatten()])


def of_two_answers() -> Any:  # noqa: ANN401
    pictures = keras.Input((32, 32, 3))
    pooled = layers.GlobalAveragePooling2D()(pictures)
    return keras.Model(pictures, [pooled, layers.Rescaling(2.0)(pooled)])


def of_another_side() -> Any:  # noqa: ANN401
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2)])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_two_pictures, "expected one input of square RGB pictures"),
        (of_oblongs, r"takes \[\(None, 8, 9, 3\)\]"),
        (of_two_answers, r"expected one, of as many probabilities as there are categories"),
        (bare_base, r"shapes \[\(None, 30, 30, 6\)\]"),
        (of_another_side, "takes pictures of 8 px only, its settings say 32"),
    ],
)
def test_a_network_that_is_no_classifier_is_named_with_the_reason(
    tmp_path: Path, make: Callable[[], Any], said: str
) -> None:
    with pytest.raises(InputDataError, match=said) as caught:
        load_network(saved(tmp_path, make()), 32)
    assert "model.keras: " in str(caught.value)


def test_a_network_that_gives_no_vector_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="has 2 outputs and no Dense layer"):
        load_embedder(saved(tmp_path, of_two_answers()), 32)
    (tmp_path / "torn.keras").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputDataError, match=r"torn\.keras: Keras cannot load it"):
        load_embedder(str(tmp_path / "torn.keras"), 32)
