"""Mixed precision: where it gains, and a loss scale that all workers keep alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import tensorflow as tf

from croplake.conf import TrainConf

_FIRST_SCALE: Final = 2.0**15
_STEPS_TO_DOUBLE: Final = 2000
_BFLOAT16_SINCE: Final = (8, 0)
_FLOAT16_SINCE: Final = (7, 0)
"""Compute capabilities from which NVIDIA's GPUs have units for it."""


def choose_precision(conf: TrainConf) -> str:
    """Keras' name of the precision that this worker trains in."""
    if conf.precision != "auto":
        return conf.precision
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capability = min((detail.get("compute_capability", (0, 0)) for detail in details), default=None)
    if capability is None or capability < _FLOAT16_SINCE:
        return "float32"
    return "mixed_bfloat16" if capability >= _BFLOAT16_SINCE else "mixed_float16"


class LossScale:
    """Keeps gradients of half precision from vanishing: the loss is scaled, the gradients back.

    Keras' own decides on every worker by itself whether a step is left out; here one in which a
    gradient of any worker is no number is left out by all. Without scaling it changes nothing.

    Attributes:
        scales: whether there is scaling.
    """

    def __init__(self, *, scales: bool) -> None:
        """Makes its variables; under a strategy, in its scope."""
        self.scales = scales
        self._scale = tf.Variable(_FIRST_SCALE if scales else 1.0, trainable=False)
        self._good_steps = tf.Variable(0, trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """What a checkpoint keeps."""
        return [self._scale, self._good_steps] if self.scales else []

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss that is differentiated."""
        return loss * self._scale if self.scales else loss

    def unscaled(self, gradients: Sequence[Any]) -> tuple[list[Any], tf.Tensor]:
        """The gradients of the loss itself, and whether they are a step; in replica context."""
        if not self.scales:
            return list(gradients), tf.constant(True)
        plain = [gradient / self._scale for gradient in gradients]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in plain])
        context = tf.distribute.get_replica_context()
        num_finite = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(finite, tf.int32))
        is_good = num_finite == context.num_replicas_in_sync
        steps = tf.where(is_good, self._good_steps + 1, 0)
        doubles = steps >= _STEPS_TO_DOUBLE
        factor = tf.where(is_good, tf.where(doubles, 2.0, 1.0), 0.5)
        self._scale.assign(tf.maximum(self._scale * factor, 1.0))
        self._good_steps.assign(tf.where(doubles, 0, steps))
        return plain, is_good
