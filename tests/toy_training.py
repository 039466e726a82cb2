"""Trainings of toys: small networks, and 24 pictures of three colours.

It imports TensorFlow: what imports this module may not have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from croplake.conf import AugmentConf, PhaseConf, TrainConf
from croplake.training.loop import Data, Trained, train_classifier
from croplake.training.network import BASE
from croplake.training.shards import plan_shards
from croplake.training.stream import Shard

Floats: TypeAlias = NDArray[np.float64]

SIDE = 32
STILL = AugmentConf(rotation_deg=0, shift_frac=0, shear_frac=0, zoom_frac=0, horizontal_flip=False)
CONF = TrainConf(
    weights="none",
    phases=(PhaseConf(trainable="all", epochs=10, learning_rate=4e-3),),
    alpha=0.35,
    input_side_px=SIDE,
    dense_units=64,
    dropout_frac=0,
    batch_size=16,
    shuffle_buffer=64,
    augment=STILL,
)


def conf_with(*epochs: int, learning_rate: float = 4e-3, **changes: object) -> TrainConf:
    """The settings with phases of so many epochs, where any are named."""
    phases = [PhaseConf(trainable="all", epochs=n, learning_rate=learning_rate) for n in epochs]
    if phases:
        changes["phases"] = phases
    return TrainConf.model_validate(CONF.model_dump() | changes)


def head_then_top(
    trainable: str,
    *,
    epochs: int = 2,
    rate: float = 4e-3,
    **changes: Any,  # noqa: ANN401
) -> TrainConf:
    """The settings of transfer learning: the head first, then the top of the base, slower."""
    phases = [
        PhaseConf(trainable="head", epochs=epochs, learning_rate=rate),
        PhaseConf(trainable=trainable, epochs=epochs, learning_rate=rate / 10),
    ]
    return conf_with(phases=phases, weights="imagenet", **changes)


def shard_of(file: str) -> Shard:
    return Shard((file,), plan_shards([file], 1), worker_index=0)


def build_tiny(conf: TrainConf, num_classes: int) -> Any:  # noqa: ANN401
    """A network of 12 weights, which is quick and has no BatchNorm."""
    images = keras.Input((None, None, 3), dtype="uint8")
    inner = keras.Input((None, None, 3))
    base = keras.Model(inner, keras.layers.Activation("linear")(inner), name=BASE)
    pixels = keras.layers.Rescaling(1 / 255, dtype="float32")(images)
    pooled = keras.layers.GlobalAveragePooling2D()(base(pixels))
    softmax = keras.layers.Dense(num_classes, activation="softmax")
    return keras.Model(images, softmax(pooled))


def build_lively(conf: TrainConf, num_classes: int) -> Any:  # noqa: ANN401
    """A small network with BatchNorm and dropout."""
    images = keras.Input((None, None, 3), dtype="uint8")
    inner = keras.Input((None, None, 3))
    maps = keras.layers.BatchNormalization(momentum=0.8)(keras.layers.Conv2D(8, 3)(inner))
    base = keras.Model(inner, keras.layers.Activation("relu")(maps), name=BASE)
    pixels = keras.layers.Rescaling(1 / 255, dtype="float32")(images)
    maps = base(pixels) if conf.learns_batch_norm else base(pixels, training=False)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    dropped = keras.layers.Dropout(0.5, seed=conf.seed)(pooled)
    softmax = keras.layers.Dense(num_classes, activation="softmax")
    return keras.Model(images, softmax(dropped))


def train_on(data: Data, conf: TrainConf, **options: Any) -> Trained:  # noqa: ANN401
    return train_classifier(tf.distribute.get_strategy(), conf, data, num_classes=3, **options)


def weights_of(trained: Trained) -> Floats:
    return np.concatenate([weight.ravel() for weight in trained.model.get_weights()])


def start_weights() -> Floats:
    keras.utils.set_random_seed(CONF.seed)
    kernel = keras.layers.Dense(3)
    kernel.build((None, 3))
    return np.concatenate([weight.ravel() for weight in kernel.get_weights()])


def losses_of(probabilities: Floats, labels: Sequence[int]) -> Floats:
    return np.asarray(-np.log(probabilities[np.arange(len(labels)), labels]))


SQUARES = np.random.default_rng(5).integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8)
ROW_LABELS = np.arange(24, dtype=np.int32) % 3
SQUARES[np.arange(24), ..., ROW_LABELS] //= 3


def arrays(
    labels: NDArray[np.int32] = ROW_LABELS,
    validation: list[NDArray[np.int32]] | None = None,
    class_weights: Sequence[float] | None = None,
) -> Data:
    """Batches of 8 out of `SQUARES`; of validation epochs each with its own labels."""

    def batches(of: NDArray[np.int32]) -> Any:  # noqa: ANN401
        for start in range(0, 24, 8):
            part = slice(start, start + 8)
            yield SQUARES[part], of[part], np.ones(8, np.float32)

    waiting = iter(validation or [])
    return Data(
        lambda epoch: batches(labels),
        num_steps=3,
        num_rows=24,
        validation=None if validation is None else lambda: batches(next(waiting)),
        class_weights=class_weights,
    )


WRONG = (ROW_LABELS + 1) % 3


def first_batch() -> Any:  # noqa: ANN401
    return SQUARES[:8], ROW_LABELS[:8], np.ones(8, np.float32)
