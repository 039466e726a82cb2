"""Networks of `keras.applications` with ImageNet weights, which know their own preprocessing."""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import importlib
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from croplake.errors import IncompleteError, SettingsError
from croplake.inference.network import Run, compiled, pooled, prepare_tensorflow

PREFIX: Final = "imagenet:"
DEFAULT_BASE: Final = "MobileNetV2"
_SILENCE_S: Final = 60.0
"""Keras waits for a download without end."""


def load_imagenet_embedder(name: str, side_px: int) -> tuple[Run, int, str]:
    """Loads a bare base with ImageNet weights as one that makes vectors.

    Args:
        name: of the base, as `keras.applications` has it.
        side_px: side of the squares it will be given.

    Returns:
        The network as a function of uint8 squares, shape (N, side_px, side_px, 3), to float32
        vectors, shape (N, D); D; and a SHA-256 of its weights.

    Raises:
        SettingsError: there is no such base, or it takes no squares of this side.
        IncompleteError: its weights can not be had.
    """
    prepare_tensorflow()
    import keras
    import tensorflow as tf

    base = make_base(name, weights="imagenet", side_px=side_px)
    vectors, num_features = pooled(base.outputs[0], PREFIX + name)
    network = keras.Model(base.inputs, vectors)
    preprocess = importlib.import_module(_class_of(name).__module__).preprocess_input
    digest = hashlib.sha256()
    for weight in base.get_weights():
        digest.update(weight.tobytes())

    def ask(squares_NHWC: Any) -> object:  # noqa: ANN401  # a tensor
        return network(preprocess(tf.cast(squares_NHWC, tf.float32)), training=False)

    return compiled(ask, side_px), num_features, digest.hexdigest()


def make_base(name: str, *, weights: str | None, side_px: int) -> Any:  # noqa: ANN401  # a model
    """A base of `keras.applications` without its top; from Keras' cache, or downloaded into it.

    Args:
        name: of the base.
        weights: `imagenet`, or None for random ones.
        side_px: side of the squares it will be given.

    Returns:
        A Keras model: preprocessed squares to features over space.

    Raises:
        SettingsError: there is no such base, or it takes no squares of this side.
        IncompleteError: its weights can not be had.
    """
    import keras

    make = _class_of(name)
    keras.config.disable_interactive_logging()  # else it counts the bytes of a download
    with _one_download(), warnings.catch_warnings():
        # Keras warns that sizes of its own choosing are missing and takes other weights.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined")
        try:
            return make(include_top=False, weights=weights, input_shape=(side_px, side_px, 3))
        except ValueError as error:
            raise SettingsError(f"{PREFIX}{name} at {side_px} px: {error}") from error
        except Exception as error:  # keras.utils.get_file raises plain Exception
            raise IncompleteError(
                f"{PREFIX}{name}: Keras could not get its weights from storage.googleapis.com "
                f"into {os.environ.get('KERAS_HOME', '~/.keras')}/models: {error}; run again with "
                "a network, put the file there, or set probe.network to a .keras file or a model "
                "id (auto takes one of these by itself)"
            ) from error


def _class_of(name: str) -> Any:  # noqa: ANN401  # a function of Keras, which has no types
    import keras

    found = getattr(keras.applications, name, None)
    names = [known for known in dir(keras.applications) if known[0].isupper()]
    if name not in names or found is None:
        near = difflib.get_close_matches(name, names) or names
        raise SettingsError(
            f"{PREFIX}{name}: keras.applications has no such base; there are {', '.join(near)}"
        )
    return found


@contextmanager
def _one_download() -> Iterator[None]:
    """Processes on one machine share Keras' cache: one downloads, the others find the file."""
    lock = Path(tempfile.gettempdir(), f"croplake-keras-download-{os.getuid()}.lock")
    before = socket.getdefaulttimeout()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        socket.setdefaulttimeout(_SILENCE_S)
        try:
            yield
        finally:
            socket.setdefaulttimeout(before)
