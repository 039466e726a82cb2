"""A loaded model and what its files are made from; this imports TensorFlow."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from croplake.errors import InputDataError

Pictures = NDArray[np.uint8]
Answers = NDArray[np.float32]

_HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Network:
    """A classifier as training saves it.

    Attributes:
        model: RGB 0..255, shape (N, any, any, 3), to probabilities, shape (N, C).
        resizing: its layer that makes squares.
    """

    model: keras.Model
    resizing: keras.layers.Resizing

    @property
    def side_px(self) -> int:
        """Side of the squares."""
        return int(self.resizing.height)

    @property
    def is_exact(self) -> bool:
        """Whether it computes in float32, not in 16 bits as models of older lakes may."""
        return not any(layer.compute_dtype in _HALVES for layer in _layers_of(self.model))

    def as_float32(self) -> Network:
        """The same weights, computed with in float32: not every format knows 16 bits."""
        if self.is_exact:
            return self
        model = keras.models.clone_model(self.model, clone_function=_clone_as_float32)
        model.set_weights(self.model.get_weights())
        return Network(model, model.get_layer(self.resizing.name))

    @cached_property
    def of_squares(self) -> keras.Model:
        """The network behind its resizing: squares, shape (N, side_px, side_px, 3), in."""
        return keras.Model(self.resizing.output, self.model.output, name="of_squares")

    def answer(self, pictures_NHWC: Pictures) -> Answers:
        """The probabilities of pictures, shape (N, C)."""
        return ask_model(self.model, pictures_NHWC)


def _layers_of(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers_of(layer)
        else:
            yield layer


def _clone_as_float32(layer: keras.layers.Layer) -> keras.layers.Layer:
    if hasattr(layer, "layers"):
        return keras.models.clone_model(layer, clone_function=_clone_as_float32)
    config = layer.get_config()
    is_half = layer.compute_dtype in _HALVES
    return type(layer).from_config(config | {"dtype": "float32"} if is_half else config)


def ask_model(model: keras.Model, pictures_NHWC: Pictures) -> Answers:
    """Runs any of Keras' models on uint8 pictures, whatever its input's type is.

    As a graph, like `predict` and all that is exported: outside of one Keras' Resizing gives uint8
    pictures back as whole numbers, in one it does not.
    """
    shape = tf.TensorSpec((None, None, None, 3), model.inputs[0].dtype)
    run = tf.function(lambda images: model(images, training=False), input_signature=[shape])
    return np.asarray(run(tf.cast(pictures_NHWC, shape.dtype)), np.float32)


def load_network(path: Path, name: str, num_labels: int) -> Network:
    """Loads a model as training saved it.

    Args:
        path: of its `.keras` file.
        name: of the file, for messages.
        num_labels: categories it has to have.

    Raises:
        InputDataError: it cannot be loaded, or is no classifier of training's.
    """
    if not zipfile.is_zipfile(path):
        raise InputDataError(
            f"{name}: Keras cannot load it: it is no whole .keras file; train again, or export "
            "another model"
        )
    try:
        model: Any = keras.models.load_model(path, compile=False)
    except Exception as error:  # zipfile's, h5py's, TensorFlow's, Keras' own: all mean the same
        raise InputDataError(
            f"{name}: Keras cannot load it: {type(error).__name__}: {error}; train again, or "
            "export another model"
        ) from error
    found = [layer for layer in model.layers if isinstance(layer, keras.layers.Resizing)]
    if len(found) != 1 or len(model.inputs) != 1 or found[0].height != found[0].width:
        raise InputDataError(
            f"{name}: expected one input and one layer that resizes to a square, found "
            f"{len(model.inputs)} and {len(found)}: it is no model of train_classifier's"
        )
    if (num_outputs := model.output_shape[-1]) != num_labels:
        raise InputDataError(f"{name} has {num_outputs} outputs, its labels.json {num_labels}")
    return Network(model, found[0])


def draw_pictures(num: int, side_px: int, seed: int = 17) -> Pictures:
    """Pictures to compare answers on: coarse patches of colour under noise.

    Returns:
        uint8 RGB, shape (num, side_px, side_px, 3).
    """
    random = np.random.default_rng(seed)
    patches = random.integers(0, 256, (num, 4, 4, 3)).repeat(-(-side_px // 4), 1)
    patches = patches.repeat(-(-side_px // 4), 2)[:, :side_px, :side_px]
    noise = random.normal(0, 40, patches.shape)
    return np.clip(patches + noise, 0, 255).astype(np.uint8)
