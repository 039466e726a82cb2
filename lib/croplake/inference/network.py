"""Everything that needs TensorFlow, which is imported at the first use only."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from croplake import storage
from croplake.errors import InputDataError
from croplake.fetching.outcome import PhotoError, Status

Photo: TypeAlias = NDArray[np.uint8]
Squares: TypeAlias = NDArray[Any]
Probabilities: TypeAlias = NDArray[np.float32]
Run: TypeAlias = Callable[[Squares], Probabilities]


class _Network(Protocol):
    """What is used of `keras.Model`, which has no types."""

    output_shape: tuple[int | None, ...]

    def __call__(self, squares_NHWC: object, *, training: bool) -> object: ...


def load_network(uri: str, side_px: int) -> tuple[Run, int]:
    """Loads a saved network.

    Args:
        uri: path or address of a `.keras` or `.h5` file.
        side_px: side of the squares it will be given.

    Returns:
        The network as a function of squares, shape (N, side_px, side_px, 3), to probabilities,
        shape (N, C); and C.

    Raises:
        InputDataError: Keras cannot load it.
    """
    prepare_tensorflow()
    network = _read_network(uri)
    num_outputs = network.output_shape[-1]
    if num_outputs is None:
        raise InputDataError(f"{uri}: a network with any number of outputs is no classifier")
    return _compile(network, side_px), num_outputs


def prepare_tensorflow() -> None:
    """Settings that count only before TensorFlow's first import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # Spark gives each Python worker its share of the cores by this name; TensorFlow has its own.
    if "OMP_NUM_THREADS" in os.environ:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ["OMP_NUM_THREADS"])
    with _stderr_unless_it_fails():
        import tensorflow  # noqa: F401  # its import is the point


@contextmanager
def _stderr_unless_it_fails() -> Iterator[None]:
    """Drops what native code writes to standard error, unless an exception comes of it.

    Whatever its log level, TensorFlow tells every process while it is loaded of oneDNN and of
    CUDA drivers that are not there.
    """
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        original = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(original, kept.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


def _read_network(uri: str) -> _Network:
    import keras

    with _local_file(uri) as path:
        try:
            network: _Network = keras.models.load_model(path, compile=False)
        except (OSError, ValueError, TypeError) as error:
            raise InputDataError(f"{uri}: Keras cannot load it: {error}") from error
    return network


@contextmanager
def _local_file(uri: str) -> Iterator[Path]:
    if storage.is_local(uri):
        yield storage.local_path(uri)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, uri.rsplit("/", 1)[-1])
        path.write_bytes(storage.read_bytes(uri))
        yield path


def _compile(network: _Network, side_px: int) -> Run:
    """The network as a function that is traced once, for batches of any number of pictures."""
    import tensorflow as tf

    shape = tf.TensorSpec((None, side_px, side_px, 3), tf.float32)
    run = tf.function(
        functools.partial(network, training=False), input_signature=[shape], autograph=False
    )
    return lambda squares_NHWC: np.asarray(run(squares_NHWC), dtype=np.float32)


def decode_with_tensorflow(jpeg: bytes, side_px: int) -> Squares:
    """Decodes a crop with the very function that training reads with.

    Returns:
        uint8 RGB, shape (side_px, side_px, 3).

    Raises:
        PhotoError: it cannot be decoded (`broken_photo`).
    """
    import tensorflow as tf

    try:
        return np.asarray(_compiled_decoder(side_px)(tf.constant(jpeg)))
    except tf.errors.InvalidArgumentError as error:
        raise PhotoError(Status.BROKEN_PHOTO, error.message) from error


@functools.cache
def _compiled_decoder(side_px: int) -> Callable[[object], object]:
    """The decoder as a graph: op by op from Python it takes twice as long."""
    import tensorflow as tf

    from croplake.training.decoding import decode_image

    decoder: Callable[[object], object] = tf.function(
        functools.partial(decode_image, side_px=side_px),
        input_signature=[tf.TensorSpec((), tf.string)],
        autograph=False,
    )
    return decoder
