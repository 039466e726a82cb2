"""A classifier that nobody trained: it knows red, green and blue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

CATEGORIES = ("red", "green", "blue")
COLOURS = ((230, 20, 20), (20, 230, 20), (20, 20, 230))


def write_colour_model(
    folder: Path, categories: Sequence[str] = CATEGORIES, *, weight: float = 0.02
) -> str:
    """A model's folder: older lakes' kind, with float input.

    Args:
        folder: made, where it is not there.
        categories: what red, green and blue are called.
        weight: of each colour's mean; a small one leaves it unsure, NaN has no answer.
    """
    keras = pytest.importorskip("keras")
    pooling = keras.layers.GlobalAveragePooling2D()
    dense = keras.layers.Dense(3, activation="softmax")
    network = keras.Sequential([keras.Input((None, None, 3)), pooling, dense])
    dense.set_weights([np.eye(3) * weight, np.zeros(3)])
    folder.mkdir(parents=True, exist_ok=True)
    network.save(folder / "model.keras")
    (folder / "labels.json").write_text(json.dumps(list(categories)))
    (folder / "settings.json").write_text(json.dumps({"input_side_px": 32}))
    return str(folder)
