"""A network of `keras.applications` as a base: its weights, and what it wants to see."""

from __future__ import annotations

import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from croplake.errors import IncompleteError, SettingsError
from croplake.inference.network import RESIZING, SQUARES
from croplake.training.bases import Preprocessing, find_base

_SILENCE_S: Final = 60.0
"""Keras waits for a download without end."""
_BGR_MEANS: Final = (103.939, 116.779, 123.68)
_RGB_MEANS: Final = (0.485, 0.456, 0.406)
_RGB_DEVIATIONS: Final = (0.229, 0.224, 0.225)


def make_base(
    name: str, *, weights: str | None, side_px: int, alpha: float = 1.0, asked: str
) -> Any:  # noqa: ANN401  # keras is untyped
    """A network of `keras.applications` without its top; from Keras' cache, or downloaded into it.

    Args:
        name: of the network.
        weights: `imagenet`, or None for random ones.
        side_px: side of the squares that it sees.
        alpha: width, where it comes in several.
        asked: the setting that asks for it, for errors.

    Returns:
        A Keras model: preprocessed squares, shape (N, side_px, side_px, 3), to maps of features.

    Raises:
        SettingsError: the squares are too small for it.
        IncompleteError: the ImageNet weights could not be downloaded.
    """
    options: dict[str, Any] = {"include_top": False, "input_shape": (side_px, side_px, 3)}
    if find_base(name).has_alpha:
        options["alpha"] = alpha
    with warnings.catch_warnings():
        # Keras warns that sizes of its own choosing are missing and takes the 224 px weights.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined")
        build = partial(getattr(keras.applications, name), **options)
        try:
            network = build(weights=weights)
            if weights is not None and _normalizations(network):
                # Keras adds a layer to EfficientNet's for ImageNet's weights alone: whoever went on
                # from a file would have another network.
                filled, network = network, build(weights=None)
                set_weights(network, filled.get_weights())
            return network
        except ValueError as error:
            raise SettingsError(f"{asked}: {name} at {side_px} px: {error}") from error
        except Exception as error:  # keras.utils.get_file raises plain Exception
            raise IncompleteError(
                f"{asked}: Keras could not get its {name} weights from storage.googleapis.com into "
                f"{os.environ.get('KERAS_HOME', '~/.keras')}/models: {error}; run again with a "
                "network, put the file there, or ask for a .keras file instead"
            ) from error


def flat_layers(model: keras.Model) -> list[Any]:
    """The layers of a model, and in place of a model in it that one's."""
    layers = []
    for layer in model.layers:
        layers += flat_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return layers


def set_weights(model: keras.Model, values: list[Any]) -> None:
    """Sets a model's weights, also those that Keras keeps a copy of."""
    model.set_weights(values)
    settle_normalization(model)


def settle_normalization(model: keras.Model) -> None:
    """Lets a model's Normalization compute with the weights that it has.

    Keras makes constants of them where it loads a file, not where weights are set. EfficientNet's
    weights of ImageNet have deviations in the place of variances, for which
    `keras.applications` makes up by a further layer; here they become variances.
    """
    for layer in _normalizations(model):
        mean, variance, *others = layer.get_weights()
        if np.allclose(variance, _RGB_DEVIATIONS):
            layer.set_weights([mean, np.square(variance), *others])
        layer.finalize_state()


def _normalizations(model: keras.Model) -> list[Any]:
    """Those whose statistics are weights."""
    layers = flat_layers(model)
    return [
        each for each in layers if isinstance(each, keras.layers.Normalization) and each.weights
    ]


def _in_whole_numbers(squares: Any) -> Any:  # noqa: ANN401
    """Rounds as `decoding.decode_image` does: what learns and is measured sees bytes."""
    raised = keras.layers.Rescaling(1.0, offset=0.5, dtype="float32", name="half")(squares)
    cut = keras.layers.Identity(dtype="uint8", name="whole")(raised)
    return keras.layers.Rescaling(1.0, dtype="float32", name=SQUARES)(cut)


def _swap_red_and_blue(squares: Any) -> Any:  # noqa: ANN401
    """By layers that any format knows: Keras reads no operation back from an HDF5 file."""
    channels = keras.layers.Permute((3, 1, 2), dtype="float32", name="channels")(squares)
    cuts = {"blue": (2, 0), "green": (1, 1), "red": (0, 2)}
    parts = [
        keras.layers.Cropping2D((cut, (0, 0)), dtype="float32", name=name)(channels)
        for name, cut in cuts.items()
    ]
    joined = keras.layers.Concatenate(axis=1, dtype="float32", name="bgr_channels")(parts)
    return keras.layers.Permute((2, 3, 1), dtype="float32", name="bgr")(joined)


@contextmanager
def one_download() -> Iterator[None]:
    """Processes on one machine share Keras' cache: one downloads, the others find the file."""
    before = socket.getdefaulttimeout()
    with ExitStack() as held:
        # Beside the files: workers have temporary folders of their own, but share these. A cache
        # that cannot be written to is not downloaded into.
        with suppress(OSError):
            models = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models")
            models.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((models / ".croplake.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        socket.setdefaulttimeout(_SILENCE_S)
        try:
            yield
        finally:
            socket.setdefaulttimeout(before)


def preprocess(images: Any, how: Preprocessing, side_px: int) -> Any:  # noqa: ANN401  # keras is untyped
    """Brings pictures to what a base sees, by layers of Keras' own.

    Args:
        images: a symbolic uint8 RGB tensor, shape (N, any height, any width, 3).
        how: of the base.
        side_px: side of the squares.

    Returns:
        A symbolic float32 tensor, shape (N, side_px, side_px, 3).
    """
    pixels = keras.layers.Rescaling(1.0, dtype="float32", name="pixels")(images)
    # Resizing takes training=True where none is given, and with it all layers behind it: a saved
    # model would change its own BatchNorm at every model(pictures).
    squares = keras.layers.Resizing(
        side_px, side_px, antialias=True, dtype="float32", name=RESIZING
    )(pixels, training=False)
    squares = _in_whole_numbers(squares)
    if how == "own":
        return squares
    if how == "caffe":
        squares = _swap_red_and_blue(squares)
        scale: Any = 1.0
        offset: Any = [-mean for mean in _BGR_MEANS]
    elif how == "torch":
        scale = [1 / (255 * deviation) for deviation in _RGB_DEVIATIONS]
        offset = [-m / d for m, d in zip(_RGB_MEANS, _RGB_DEVIATIONS, strict=True)]
    else:
        scale, offset = 1 / 127.5, -1.0
    return keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="preprocessing")(
        squares
    )
