"""A small MobileNetV2, and classifiers on it, as training begins with them.

It imports TensorFlow: what imports this module may not have it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from croplake.conf import PhaseConf, TrainConf
from croplake.training.network import BASE, build_classifier

Model: TypeAlias = Any  # keras is untyped

SIDE = 32
NUM_CLASSES = 3
CONF = TrainConf(
    weights="none",
    phases=(PhaseConf(trainable="all"),),
    alpha=0.35,
    input_side_px=SIDE,
    dense_units=8,
    dropout_frac=0,
)


def conf_with(*trainable: str, **changes: str | float) -> TrainConf:
    """The settings with phases that train this, where any are named."""
    phases = [{"trainable": what} for what in trainable] or CONF.model_dump()["phases"]
    return TrainConf.model_validate(CONF.model_dump() | {"phases": phases} | changes)


def bare_base(alpha: float = 0.35) -> Model:
    """MobileNetV2 as Keras makes it, with weights like a trained one's."""
    base = keras.applications.MobileNetV2(
        include_top=False, weights=None, alpha=alpha, input_shape=(96, 96, 3)
    )
    rng = np.random.default_rng(7)
    base.set_weights([rng.uniform(0.1, 1.0, weight.shape) for weight in base.get_weights()])
    return base


def lively_classifier() -> Model:
    """Random weights, with the BatchNorm statistics of a trained one: its answers differ."""
    model = build_classifier(CONF, NUM_CLASSES)
    for layer in batch_norms(model):
        layer.momentum = 0.0
    model(noise(16, SIDE, SIDE, 3), training=True)
    for layer in batch_norms(model):
        layer.momentum = 0.9
    return model


def save_weights_alone(base: Model, path: Path) -> None:
    """Writes weights in the layout of the files that Keras downloads."""
    whole = path.with_name(f"whole-{path.name}")
    base.save(whole)
    with h5py.File(whole) as source, h5py.File(path, "w") as alone:
        for name, value in source["model_weights"].attrs.items():
            alone.attrs[name] = value
        for name in source["model_weights"]:
            source.copy(f"model_weights/{name}", alone)
    whole.unlink()


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(9).integers(0, 256, shape, dtype=np.uint8)


def batch_norms(model: Model) -> list[Model]:
    layers = model.get_layer(BASE).layers
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def assert_same_weights(found: Model, expected: Model) -> None:
    pairs = zip(found.get_weights(), expected.get_weights(), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)
