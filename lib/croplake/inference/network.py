"""Everything that needs TensorFlow, which is imported at the first use only."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from croplake import storage
from croplake.errors import InputDataError
from croplake.fetching.outcome import PhotoError, Status

Photo: TypeAlias = NDArray[np.uint8]
Squares: TypeAlias = NDArray[Any]
Probabilities: TypeAlias = NDArray[np.float32]
Run: TypeAlias = Callable[[Squares], Probabilities]

EMBEDDING: Final = "embedding"
"""Name of the pooling layer of croplake's models: its output is a crop's vector."""
RESIZING: Final = "resizing"
"""Name of their layer that brings pictures to the network's size."""
SQUARES: Final = "squares"
"""Name of the layer behind it, whose output are pictures of that size, in whole numbers."""


class _Network(Protocol):
    """What is used of `keras.Model`, which has no types."""

    inputs: list[Any]
    outputs: list[Any]
    layers: list[Any]

    def __call__(self, squares_NHWC: object, *, training: bool) -> object: ...


def load_network(uri: str, side_px: int) -> tuple[Run, int]:
    """Loads a saved classifier.

    Args:
        uri: path or address of a `.keras` or `.h5` file.
        side_px: side of the squares it will be given.

    Returns:
        The network as a function of uint8 squares, shape (N, side_px, side_px, 3), to
        probabilities, shape (N, C); and C.

    Raises:
        InputDataError: Keras cannot load it, it takes other pictures, or its output is no list of
            probabilities.
    """
    prepare_tensorflow()
    network = _read_network(uri)
    if (fixed := fixed_side_px(network, uri)) not in (None, side_px):
        raise InputDataError(
            f"{uri}: the network takes pictures of {fixed} px only, its settings say {side_px}"
        )
    shapes = [tuple(output.shape) for output in network.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] is None:
        raise InputDataError(
            f"{uri}: the network's outputs have the shapes {shapes}; expected one, of as many "
            "probabilities as there are categories"
        )
    return compiled(asked_of(_from_squares(network, side_px)), side_px), int(shapes[0][1])


def load_embedder(uri: str, side_px: int) -> tuple[Run, int, int]:
    """Loads a saved network as one that makes vectors.

    A vector is what the layer `embedding` gives where there is one at the top level (croplake's
    models), else what the last top-level Dense layer is given, else the network's own output; in
    each case averaged over space or tokens.

    Args:
        uri: path or address of a `.keras` or `.h5` file.
        side_px: side of the squares it will be given, where it takes any.

    Returns:
        The network as a function of uint8 squares, shape (N, side, side, 3), to float32 vectors,
        shape (N, D); D; and the side in px.

    Raises:
        InputDataError: Keras cannot load it, it takes other pictures, or gives no vector.
    """
    prepare_tensorflow()
    import keras

    network = _read_network(uri)
    side_px = fixed_side_px(network, uri) or side_px
    vectors, num_features = pooled(_embedding_of(network, uri), uri)
    embedder = keras.Model(network.inputs, vectors)
    return compiled(asked_of(_from_squares(embedder, side_px)), side_px), num_features, side_px


def _from_squares(network: _Network, side_px: int) -> _Network:
    """A model of croplake's without the layers that bring pictures to their size.

    They take a twelfth of MobileNetV2's time or so, and change nothing of squares of that size.
    """
    import keras

    by_name = {layer.name: layer for layer in network.layers}
    if not {RESIZING, SQUARES} <= by_name.keys():
        return network
    resizing = by_name[RESIZING]
    if (resizing.height, resizing.width) != (side_px, side_px):
        return network
    shorter: _Network = keras.Model(by_name[SQUARES].output, network.outputs)
    return shorter


def _embedding_of(network: _Network, uri: str) -> Any:  # noqa: ANN401  # a Keras tensor
    import keras

    by_name = {layer.name: layer for layer in network.layers}
    if EMBEDDING in by_name:
        return by_name[EMBEDDING].output
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    if dense:
        return dense[-1].input
    if len(network.outputs) != 1:
        raise InputDataError(
            f"{uri}: the network has {len(network.outputs)} outputs and no Dense layer; expected "
            f"one output, or a layer named {EMBEDDING}"
        )
    return network.outputs[0]


def pooled(features: Any, uri: str) -> tuple[Any, int]:  # noqa: ANN401  # a Keras tensor
    """A network's features as a vector of known length.

    Args:
        features: Keras tensor, shape (N, D), (N, tokens, D) or (N, height, width, D).
        uri: of the network, for the error.

    Returns:
        The tensor of shape (N, D), float32; and D.

    Raises:
        InputDataError: it has another shape.
    """
    import keras

    shape = tuple(features.shape)
    if len(shape) not in (2, 3, 4) or not isinstance(shape[-1], int):
        raise InputDataError(
            f"{uri}: its features have the shape {shape}; expected (N, D), (N, tokens, D) or "
            "(N, height, width, D)"
        )
    # Sums over space overflow in half precision.
    vectors = keras.ops.cast(features, "float32")
    if len(shape) > 2:
        vectors = keras.ops.mean(vectors, axis=tuple(range(1, len(shape) - 1)))
    return vectors, int(shape[-1])


def fixed_side_px(network: _Network, uri: str) -> int | None:
    """The side of the squares that a network takes; None where it takes any.

    Raises:
        InputDataError: it does not take one square RGB picture.
    """
    shapes = [tuple(taken.shape) for taken in network.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3 or shapes[0][1] != shapes[0][2]:
        raise InputDataError(
            f"{uri}: the network takes {shapes}; expected one input of square RGB pictures, shape "
            "(N, side, side, 3)"
        )
    side_px: int | None = shapes[0][1]
    return side_px


def prepare_tensorflow() -> None:
    """Settings that count only before TensorFlow's first import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # One task would take all of a GPU's memory, and those beside it find none.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
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

    try:
        with storage.local_file(uri) as path:
            # Keras would say of a torn one that it is not there.
            if uri.endswith(".keras") and not zipfile.is_zipfile(path):
                raise InputDataError(f"{uri}: Keras cannot load it: it is no whole .keras file")
            network: _Network = keras.models.load_model(path, compile=False)
    except InputDataError:
        raise
    except Exception as error:  # Keras raises whatever the format's reader met
        raise InputDataError(f"{uri}: Keras cannot load it: {error}") from error
    return network


def compiled(ask: Callable[[Any], object], side_px: int) -> Run:
    """A network as a function that is traced once, for batches of any number of pictures.

    Args:
        ask: TensorFlow code, from uint8 squares to a tensor.
        side_px: side of the squares.

    Returns:
        A function of uint8 squares, shape (N, side_px, side_px, 3), to float32.
    """
    import tensorflow as tf

    shape = tf.TensorSpec((None, side_px, side_px, 3), tf.uint8)
    run = frozen(tf.function(ask, input_signature=[shape], autograph=False))
    return lambda squares_NHWC: np.asarray(run(squares_NHWC), dtype=np.float32)


def asked_of(network: _Network) -> Callable[[Any], object]:
    """What asks a network of any numeric type: older models take float, newer ones uint8."""
    import tensorflow as tf

    dtype = tf.as_dtype(network.inputs[0].dtype)
    return lambda squares_NHWC: network(tf.cast(squares_NHWC, dtype), training=False)


def frozen(run: Any) -> Callable[[Squares], object]:  # noqa: ANN401  # a tf.function of one input
    """The function with its weights as constants.

    TensorFlow then folds batch normalisation and activations into the convolutions, which on a CPU
    saves a fifth to a quarter of the time of MobileNetV2.

    Args:
        run: a `tf.function` with an input signature of one tensor, and one output.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    graph = convert_variables_to_constants_v2(run.get_concrete_function())

    def ask(squares_NHWC: Squares) -> object:
        answer = graph(tf.constant(squares_NHWC))
        return answer[0] if isinstance(answer, list | tuple) else answer

    return ask


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
