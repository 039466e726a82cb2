"""The model that learns: a copy of the one that is saved, as fast as training may be."""

from __future__ import annotations

from typing import Any

import keras

from croplake.training.base_network import set_weights
from croplake.training.batch_norm import SharedBatchNormalization


def copy_for_training(
    model: keras.Model, *, shares_batch_norm: bool = False, precision: str = "float32"
) -> keras.Model:
    """A copy with the same weights, whose pictures already have their size.

    Args:
        model: with plain layers in float32; it is what is saved, for it needs no class of
            croplake's to be loaded, and no hardware.
        shares_batch_norm: whether BatchNorm is over the batches of all workers.
        precision: Keras' name of the policy of the base's layers; the head stays in float32.

    Returns:
        The copy: its `get_weights()` fit `model.set_weights`. Nothing is resized in it, which takes
        time even where it changes nothing, and which XLA cannot compile.
    """
    inner = [
        layer for part in model.layers if isinstance(part, keras.Model) for layer in part.layers
    ]

    def clone_layer(layer: Any) -> keras.layers.Layer:  # noqa: ANN401  # keras is untyped
        kind, config = type(layer), layer.get_config()
        if isinstance(layer, keras.layers.Resizing):
            return keras.layers.Identity(name=layer.name, dtype="float32")
        if shares_batch_norm and isinstance(layer, keras.layers.BatchNormalization):
            kind = SharedBatchNormalization
        is_inner = any(layer is known for known in inner)
        if is_inner and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = precision
        return kind.from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone_layer, recursive=True)
    set_weights(copy, model.get_weights())
    return copy
