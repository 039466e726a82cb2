"""Writes a model in each format, labels and preprocessing inside; this imports TensorFlow."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import tensorflow as tf

from croplake.conf.models import Quantization
from croplake.model_export.formats import CARD, LABELS, LABELS_TEXT, Format
from croplake.model_export.network import Answers, Network, Pictures, ask_model
from croplake.model_export.orientation import turn_upright
from croplake.model_export.tflite_metadata import put_metadata


@dataclass(frozen=True)
class Source:
    """What is written.

    Attributes:
        network: the loaded model.
        file: its `.keras` file.
        labels: its categories.
        card: what is told of the model beside.
        quantization: of the weights of a `.tflite` file.
    """

    network: Network
    file: Path
    labels: tuple[str, ...]
    card: Mapping[str, Any]
    quantization: Quantization

    @property
    def texts(self) -> dict[str, str]:
        """The files that go inside: name to content."""
        return {LABELS: json.dumps(self.labels), CARD: json.dumps(self.card)}


def write_keras(source: Source, path: Path) -> None:
    """The file as training saved it, with further members, which Keras passes over."""
    path.write_bytes(source.file.read_bytes())
    _add_members(path, source.texts)


def write_h5(source: Source, path: Path) -> None:
    """Keras' older file, with further datasets: an attribute holds 64 kB at most."""
    source.network.model.save(path)
    with h5py.File(path, "a") as file:
        for name, text in source.texts.items():
            file.create_dataset(name, data=text)


def write_savedmodel(source: Source, path: Path) -> None:
    """TensorFlow's folder, with one signature for pixels and one for files."""
    network = source.network
    labels = tf.constant([label.encode() for label in source.labels])
    of_squares, dtype = network.of_squares, network.model.inputs[0].dtype
    square = tf.TensorSpec((network.side_px, network.side_px, 3), network.resizing.output.dtype)

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": network.model(tf.cast(images, dtype), training=False)}

    def decode(jpeg: tf.Tensor) -> tf.Tensor:
        # It takes PNG, too; and what it decodes JPEG by is what training does.
        pixels_HWC = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
        upright_HWC = turn_upright(jpeg, pixels_HWC)
        return network.resizing(tf.cast(upright_HWC, dtype)[None], training=False)[0]

    def classify_jpegs(jpegs: tf.Tensor) -> dict[str, tf.Tensor]:
        squares_NHWC = tf.map_fn(decode, jpegs, fn_output_signature=square)
        probabilities_NC = of_squares(squares_NHWC, training=False)
        return {
            "label": tf.gather(labels, tf.argmax(probabilities_NC, axis=1)),
            "probability": tf.reduce_max(probabilities_NC, axis=1),
            "probabilities": probabilities_NC,
        }

    pixels = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
    files = tf.TensorSpec((None,), tf.string, name="jpegs")
    archive = keras.export.ExportArchive()
    archive.track(network.model)
    archive.add_endpoint("serve", serve, [pixels])  # the first is serving_default
    archive.add_endpoint("classify_jpegs", classify_jpegs, [files])
    archive.add_endpoint("labels", tf.function(lambda: {"labels": labels}, input_signature=[]))
    archive.write_out(path, verbose=False)
    beside = path / "assets.extra"  # TensorFlow's own place for what it does not read
    beside.mkdir()
    for name, text in source.texts.items():
        beside.joinpath(name).write_text(text, encoding="utf-8")


def write_tflite(source: Source, path: Path) -> None:
    """A file for LiteRT: one square in, at a fixed size, as its delegates want it."""
    network = source.network.as_float32()
    shape = (1, network.side_px, network.side_px, 3)
    of_squares, dtype = network.of_squares, network.resizing.output.dtype

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": of_squares(tf.cast(image, dtype), training=False)}

    archive = keras.export.ExportArchive()
    archive.track(of_squares)
    archive.add_endpoint("serve", serve, [tf.TensorSpec(shape, tf.uint8, name="image")])
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        if source.quantization != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if source.quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(converter.convert())
    put_metadata(
        path,
        name=source.card["model_id"],
        description=f"classifies pictures into {len(source.labels)} categories",
        licence=source.card["annotations"],
        side_px=network.side_px,
    )
    lines = "".join(" ".join(label.splitlines()) + "\n" for label in source.labels)
    _add_members(path, {LABELS_TEXT: lines, **source.texts})


def _add_members(path: Path, texts: Mapping[str, str]) -> None:
    """Adds files to a zip, or appends one: of no date, so that the same model is the same file."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), text)


def ask_keras(path: Path, pictures_NHWC: Pictures) -> Answers:
    """What a `.keras` or `.h5` file answers, loaded in one line."""
    return ask_model(keras.models.load_model(path), pictures_NHWC)


def ask_savedmodel(path: Path, pictures_NHWC: Pictures) -> Answers:
    """What a SavedModel answers."""
    loaded = tf.saved_model.load(str(path))
    answer = loaded.signatures["serving_default"](images=tf.constant(pictures_NHWC))
    return np.asarray(answer["probabilities"], np.float32)


def ask_tflite(path: Path, pictures_NHWC: Pictures) -> Answers:
    """What a `.tflite` file answers, picture by picture."""
    run = tf.lite.Interpreter(str(path)).get_signature_runner()
    answers = [run(image=picture[None])["probabilities"] for picture in pictures_NHWC]
    return np.asarray(np.concatenate(answers), np.float32)


WRITERS: Final[dict[Format, Callable[[Source, Path], None]]] = {
    "keras": write_keras,
    "h5": write_h5,
    "savedmodel": write_savedmodel,
    "tflite": write_tflite,
}
READERS: Final[dict[Format, Callable[[Path, Pictures], Answers]]] = {
    "keras": ask_keras,
    "h5": ask_keras,
    "savedmodel": ask_savedmodel,
    "tflite": ask_tflite,
}
