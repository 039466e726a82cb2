"""Small classifiers, as training saves them or by hand: their answers differ by picture.

It imports Keras where it is called: what imports this module may not have it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIDE_PX = 64
TWO_LAYERS = "two layers"
"""A base that is made, written and loaded in no time."""


def build_model(
    num_classes: int, *, is_new: bool = True, base: str = "MobileNetV2", side_px: int = SIDE_PX
) -> Any:  # noqa: ANN401  # keras has no types
    """A classifier of random weights.

    Args:
        num_classes: categories.
        is_new: of training as it is; else of float pictures and without a layer `embedding`, as
            older lakes have.
        base: of keras.applications, or `TWO_LAYERS`.
        side_px: of its squares.
    """
    import keras

    keras.utils.set_random_seed(17)
    if is_new and base != TWO_LAYERS:
        model = _of_training(num_classes, base, side_px)
    else:
        model = _by_hand(num_classes, base, side_px, is_new=is_new)
    _tell_pictures_apart(model, side_px)
    return model


def _of_training(num_classes: int, base: str, side_px: int) -> Any:  # noqa: ANN401
    from croplake.conf import TrainConf
    from croplake.training.network import build_classifier

    values = {
        "base": base,
        "alpha": 0.35 if base == "MobileNetV2" else 1.0,
        "weights": "none",
        "phases": [{"trainable": "all"}],
        "input_side_px": side_px,
        "dense_units": 32,
    }
    return build_classifier(TrainConf.model_validate(values), num_classes)


def _by_hand(num_classes: int, base: str, side_px: int, *, is_new: bool) -> Any:  # noqa: ANN401
    import keras

    layers = keras.layers
    inputs = keras.Input((None, None, 3), dtype="uint8" if is_new else None, name="image")
    squares = layers.Resizing(side_px, side_px, antialias=True, name="resizing")(
        inputs, training=False
    )
    scaled = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(squares)
    nested = _two_layers(side_px) if base == TWO_LAYERS else _mobile_net(side_px)
    nested.name = "base" if is_new else "mobilenet_v2"
    pooled = nested(scaled, training=False)
    if is_new:
        pooled = layers.GlobalAveragePooling2D(name="embedding")(pooled)
    features = layers.Dense(32, activation="relu", name="features")(pooled)
    dropped = layers.Dropout(0.2, name="dropout")(features)
    outputs = layers.Dense(
        num_classes, activation="softmax", dtype="float32", name="probabilities"
    )(dropped)
    return keras.Model(inputs, outputs, name="croplake_classifier")


def _mobile_net(side_px: int) -> Any:  # noqa: ANN401
    import keras

    return keras.applications.MobileNetV2(
        alpha=0.35,
        include_top=False,
        weights=None,
        input_shape=(side_px, side_px, 3),
        pooling="avg",
    )


def _two_layers(side_px: int) -> Any:  # noqa: ANN401
    import keras

    layers = [keras.layers.Conv2D(num, 3, 2, activation="relu") for num in (8, 16)]
    return keras.Sequential([keras.Input((side_px, side_px, 3)), *layers])


def _tell_pictures_apart(model: Any, side_px: int) -> None:  # noqa: ANN401
    """Behind random layers all pictures look nearly the same: the head makes much of the rest."""
    import keras

    pictures = [fit(picture, side_px) for picture in draw_crops(32, side_px=side_px)]
    head = model.get_layer("probabilities")
    features = keras.Model(model.input, head.input).predict(np.stack(pictures), verbose=0)
    spread = np.random.default_rng(5).normal(0, 0.7, head.kernel.shape)
    features = features.astype(np.float32)
    deviations = features.std(axis=0)
    kernel = spread / (deviations + 1e-3 * deviations.max())[:, None]  # some units may be dead
    head.set_weights([kernel, -features.mean(axis=0) @ kernel])


def draw_crops(num: int, *, side_px: int = SIDE_PX, seed: int = 3) -> list[Any]:
    """Pictures of many sizes: patches of colour under noise, uint8 RGB, (height, width, 3) each."""
    random = np.random.default_rng(seed)
    crops = []
    for _ in range(num):
        height, width = random.integers(side_px // 3, 3 * side_px, 2)
        rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
        patches = random.integers(0, 256, (4, 4, 3))[rows][:, columns]
        noise = random.normal(0, 30, (height, width, 3))
        crops.append(np.clip(patches + noise, 0, 255).astype(np.uint8))
    return crops


def fit(crop: Any, side_px: int) -> Any:  # noqa: ANN401
    """A crop as a square."""
    from PIL import Image

    return np.asarray(Image.fromarray(crop).resize((side_px, side_px), Image.Resampling.BILINEAR))


def save_model_folder(
    folder: Path,
    model: Any,  # noqa: ANN401
    labels: Sequence[str],
    *,
    side_px: int = SIDE_PX,
) -> None:
    """The files of a model as `train_classifier` leaves them in a lake."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    folder.joinpath("labels.json").write_text(json.dumps(list(labels)))
    settings = {"input_side_px": side_px, "epochs": 1, "weights": "none"}
    folder.joinpath("settings.json").write_text(json.dumps(settings))
    history = [{"epoch": 1.0, "phase": 1.0, "loss": 1.5, "accuracy": 0.5}]
    folder.joinpath("history.json").write_text(json.dumps(history))
