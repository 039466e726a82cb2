"""The classifier: MobileNetV2 without its top, pooling, a dense layer, a softmax.

The saved model is whole: it takes RGB pictures of any size in 0..255, and loads with one line,
`keras.models.load_model(path)`, without croplake.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import keras

from croplake.conf import TrainConf
from croplake.errors import IncompleteError, SettingsError
from croplake.training.initial_weights import load_initial_weights

BASE: Final = "mobilenet_v2"
"""Name of the nested MobileNetV2 in the classifier."""
FEATURES: Final = "features"
"""Name of the dense layer before the softmax."""
PROBABILITIES: Final = "probabilities"
"""Name of the softmax layer."""

_BATCH_NORM_MOMENTUM: Final = 0.9
"""Where BatchNorm learns, its averages follow within tens of steps; Keras' own 0.999 needs
thousands, more than a small dataset has."""

_IMAGENET_ALPHAS: Final = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
"""Widths that Keras has ImageNet weights of."""


def build_classifier(conf: TrainConf, num_classes: int) -> keras.Model:
    """Builds the classifier with its initial weights.

    Args:
        conf: width, input size, weights, what is trainable.
        num_classes: categories.

    Returns:
        A model: RGB 0..255, shape (N, any height, any width, 3), to float32 probabilities, shape
        (N, num_classes). BatchNorm is in training mode only with `trainable: all`.

    Raises:
        SettingsError: `weights` is a file that does not fit, there are none for this `alpha`, or
            `top_N` has too large an N.
        IncompleteError: the ImageNet weights could not be downloaded.
    """
    base = _make_base(conf)
    inputs = keras.Input((None, None, 3), name="image")
    # Resizing takes training=True where none is given, and with it all layers behind it: a saved
    # model would change its own BatchNorm at every model(pictures).
    squares = keras.layers.Resizing(
        conf.input_side_px, conf.input_side_px, antialias=True, name="resizing"
    )(inputs, training=False)
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(squares)
    # training=False is stored in the model: a base that is not trained whole keeps its statistics.
    pooled = base(scaled) if conf.trainable == "all" else base(scaled, training=False)
    features = keras.layers.Dense(conf.dense_units, activation="relu", name=FEATURES)(pooled)
    dropped = keras.layers.Dropout(conf.dropout_frac, seed=conf.seed, name="dropout")(features)
    outputs = keras.layers.Dense(num_classes, activation="softmax", name=PROBABILITIES)(dropped)
    model = keras.Model(inputs, outputs, name="croplake_classifier")
    if conf.weights not in ("imagenet", "none"):
        load_initial_weights(model, base, conf.weights)
    _choose_trainable(base, conf.trainable)
    return model


def _make_base(conf: TrainConf) -> keras.Model:
    base = _imagenet_base(conf) if conf.weights == "imagenet" else _random_base(conf)
    momentum = _BATCH_NORM_MOMENTUM if conf.trainable == "all" else None

    def clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if momentum is not None and isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = momentum
        return type(layer).from_config(config)

    clone = keras.models.clone_model(base, clone_function=clone_layer)
    clone.set_weights(base.get_weights())
    clone.name = BASE
    return clone


def _random_base(conf: TrainConf, weights: str | None = None) -> keras.Model:
    side = conf.input_side_px
    return keras.applications.MobileNetV2(
        include_top=False,
        weights=weights,
        alpha=conf.alpha,
        input_shape=(side, side, 3),
        pooling="avg",
    )


def _imagenet_base(conf: TrainConf) -> keras.Model:
    if conf.alpha not in _IMAGENET_ALPHAS:
        raise SettingsError(
            f"train.alpha: {conf.alpha}: train.weights: imagenet comes with one of "
            f"{', '.join(map(str, _IMAGENET_ALPHAS))}; take one of these, or other train.weights"
        )
    # Workers on one machine share Keras' cache: one downloads, the others wait and find the file.
    lock = Path(tempfile.gettempdir(), f"croplake-keras-download-{os.getuid()}.lock")
    with lock.open("w") as held, warnings.catch_warnings():
        fcntl.flock(held, fcntl.LOCK_EX)
        # Keras warns that sizes of its own choosing are missing and takes the 224 px weights.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined")
        try:
            return _random_base(conf, weights="imagenet")
        except Exception as error:  # keras.utils.get_file raises plain Exception
            raise IncompleteError(
                "train.weights: imagenet: Keras could not get its MobileNetV2 weights from "
                f"storage.googleapis.com into {os.environ.get('KERAS_HOME', '~/.keras')}/models: "
                f"{error}; run again with a network, put the file there, or set train.weights to "
                "a weights file or to none (with train.trainable: all)"
            ) from error


def _choose_trainable(base: keras.Model, trainable: str) -> None:
    if trainable == "all":
        return
    if trainable == "head":
        base.trainable = False
        return
    num_top, num_layers = int(trainable.removeprefix("top_")), len(base.layers)
    if num_top > num_layers:
        raise SettingsError(
            f"train.trainable: {trainable}: MobileNetV2 has {num_layers} layers; "
            f"take top_1 to top_{num_layers}, or all"
        )
    for index, layer in enumerate(base.layers):
        learns: Any = index >= num_layers - num_top
        layer.trainable = learns and not isinstance(layer, keras.layers.BatchNormalization)
