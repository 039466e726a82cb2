"""The classifier: a network of `keras.applications` without its top, pooling, a head, a softmax.

The saved model is whole: it takes RGB pictures of any size as they are, and loads with one line,
`keras.models.load_model(path)`, without croplake.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import keras

from croplake.conf import PhaseConf, TrainConf
from croplake.errors import SettingsError
from croplake.inference.network import EMBEDDING
from croplake.training.base_network import make_base, one_download, preprocess
from croplake.training.bases import find_base
from croplake.training.initial_weights import load_initial_weights

BASE: Final = "base"
"""Name of the nested network in the classifier."""
FEATURES: Final = "features"
"""Name of the dense layer before the softmax."""
PROBABILITIES: Final = "probabilities"
"""Name of the softmax layer."""

_BATCH_NORM_MOMENTUM: Final = 0.9
"""Where BatchNorm learns, its averages follow within tens of steps; Keras' own 0.999 needs
thousands, more than a small dataset has."""


def build_classifier(conf: TrainConf, num_classes: int) -> keras.Model:
    """Builds the classifier with its initial weights, and lets learn what learns first.

    Not in the scope of a strategy: workers there wait for each other at every variable, and what
    one of them cannot download or read would keep the others waiting.

    Args:
        conf: base, width, input size, weights, phases.
        num_classes: categories.

    Returns:
        A model: uint8 RGB, shape (N, any height, any width, 3), to float32 probabilities, shape
        (N, num_classes). BatchNorm is in training mode only with `conf.learns_batch_norm`.

    Raises:
        SettingsError: `weights` is a file that does not fit, the pictures are too small for the
            base, or `top_N` has too large an N.
        IncompleteError: the ImageNet weights could not be downloaded.
    """
    base = _make_base(conf)
    base.name = BASE
    if conf.learns_batch_norm:
        for layer in _batch_norms(base):
            layer.momentum = _BATCH_NORM_MOMENTUM
    images = keras.Input((None, None, 3), dtype="uint8", name="image")
    # training=False is stored in the model: a base that is not trained whole keeps its statistics.
    scaled = preprocess(images, find_base(conf.base).preprocessing, conf.input_side_px)
    maps = base(scaled) if conf.learns_batch_norm else base(scaled, training=False)
    vectors = keras.layers.GlobalAveragePooling2D(dtype="float32", name=EMBEDDING)(maps)
    if conf.dense_units:
        vectors = keras.layers.Dense(conf.dense_units, activation="relu", name=FEATURES)(vectors)
    dropped = keras.layers.Dropout(conf.dropout_frac, seed=conf.seed % 2**32, name="dropout")(
        vectors
    )
    softmax = keras.layers.Dense(
        num_classes, activation="softmax", dtype="float32", name=PROBABILITIES
    )
    model = keras.Model(images, softmax(dropped), name="croplake_classifier")
    if conf.weights not in ("imagenet", "none"):
        load_initial_weights(model, base, conf.base, conf.weights)
    for phase in conf.phases:
        check_phase(model, phase)
    choose_trainable(model, conf, conf.phases[0])
    return model


def _make_base(conf: TrainConf) -> Any:  # noqa: ANN401  # keras is untyped
    from_imagenet = conf.weights == "imagenet"
    with one_download() if from_imagenet else nullcontext():
        return make_base(
            conf.base,
            weights="imagenet" if from_imagenet else None,
            side_px=conf.input_side_px,
            alpha=conf.alpha,
            asked="train.weights: imagenet" if from_imagenet else "train.base",
        )


def check_phase(model: keras.Model, phase: PhaseConf) -> None:
    """Makes sure that a phase can be of this network.

    Raises:
        SettingsError: the base has fewer layers than are to learn.
    """
    num_layers = len(model.get_layer(BASE).layers)
    if _num_top(phase, num_layers) > num_layers:
        raise SettingsError(
            f"train.phases: trainable: {phase.trainable}: the base has {num_layers} layers; "
            f"take top_1 to top_{num_layers}, or all"
        )


def choose_trainable(model: keras.Model, conf: TrainConf, phase: PhaseConf) -> None:
    """Lets those layers learn that a phase trains.

    Args:
        model: of `build_classifier`, or a copy of it for training.
        conf: of the training.
        phase: that begins.
    """
    base = model.get_layer(BASE)
    base.trainable = True
    num_frozen = len(base.layers) - _num_top(phase, len(base.layers))
    for number, layer in enumerate(base.layers):
        learns = number >= num_frozen
        if not conf.learns_batch_norm and isinstance(layer, keras.layers.BatchNormalization):
            learns = False
        layer.trainable = learns
    if phase.trainable == "head":
        base.trainable = False


def batch_norm_statistics(model: keras.Model) -> list[Any]:
    """The variables of the base's running means and variances; see `choose_trainable`."""
    return [
        statistics
        for layer in _batch_norms(model.get_layer(BASE))
        for statistics in (layer.moving_mean, layer.moving_variance)
    ]


def _num_top(phase: PhaseConf, num_layers: int) -> int:
    """How many of the base's last layers learn."""
    if phase.trainable == "all":
        return num_layers
    return 0 if phase.trainable == "head" else int(phase.trainable.removeprefix("top_"))


def _batch_norms(base: keras.Model) -> list[Any]:
    return [layer for layer in base.layers if isinstance(layer, keras.layers.BatchNormalization)]
