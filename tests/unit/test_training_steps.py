"""A training's steps: the loss, the figures, and half precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

tf = pytest.importorskip("tensorflow")
import keras  # noqa: E402

from croplake.training.precision import LossScale  # noqa: E402
from croplake.training.steps import Steps, batch_sums, weighted_loss  # noqa: E402
from croplake.training.training_copy import copy_for_training  # noqa: E402
from tests.toy_training import build_lively, conf_with, first_batch, losses_of  # noqa: E402

LABELS = [2, 0, 1, 1]
PROBABILITIES = np.array([[0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.2, 0.5, 0.3], [0.98, 0.01, 0.01]])
WEIGHTS = [1.0, 1.0, 1.0, 0.0]


def as_tensors(count: int) -> tuple[Any, Any, Any]:
    return (
        tf.constant(LABELS[:count]),
        tf.constant(PROBABILITIES[:count], tf.float32),
        tf.constant(WEIGHTS[:count]),
    )


def test_the_loss_is_a_workers_part_of_the_mean_over_all_rows_that_count() -> None:
    loss = weighted_loss(*as_tensors(4), weight_sum=tf.constant(5.0))
    assert float(loss) == pytest.approx(losses_of(PROBABILITIES, LABELS)[:3].sum() / 5, rel=1e-5)
    without = weighted_loss(*as_tensors(3), weight_sum=tf.constant(5.0))
    assert float(loss) == pytest.approx(float(without), rel=1e-6)


def test_a_row_of_weight_zero_moves_nothing() -> None:
    labels, probabilities, weights = as_tensors(4)
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        loss = weighted_loss(labels, probabilities, weights, weight_sum=tf.constant(3.0))
    gradient = tape.gradient(loss, probabilities).numpy()
    assert (gradient[3] == 0).all()
    assert (np.abs(gradient[:3]).max(axis=1) > 0).all()


def test_the_figures_of_a_batch_leave_rows_of_weight_zero_out() -> None:
    loss, right, rows = batch_sums(*as_tensors(4)).numpy()
    assert loss == pytest.approx(losses_of(PROBABILITIES, LABELS)[:3].sum(), rel=1e-5)
    assert (right, rows) == (2, 3)


def test_smoothed_labels_give_a_share_to_all_categories() -> None:
    loss = weighted_loss(*as_tensors(3), weight_sum=tf.constant(3.0), label_smoothing=0.3)
    plain = losses_of(PROBABILITIES, LABELS)[:3]
    evenly = -np.log(PROBABILITIES[:3]).mean(axis=1)
    assert float(loss) == pytest.approx((0.7 * plain + 0.3 * evenly).mean(), rel=1e-5)


def test_half_precision_leaves_out_a_step_without_a_number_as_if_it_had_not_been() -> None:
    """Weights, Adam's memory and count of steps, BatchNorm's averages; then it goes on."""
    conf = conf_with(1, precision="mixed_float16")
    model = copy_for_training(build_lively(conf, 3), precision=conf.precision)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    scale = LossScale(scales=True)
    steps = Steps(
        tf.distribute.get_strategy(),
        model,
        optimizer,
        scale,
        label_smoothing=0.0,
        class_weights=None,
        xla=False,
    )

    def values_after(batch: Any) -> list[NDArray[Any]]:  # noqa: ANN401
        steps.train([batch])
        return [variable.numpy() for variable in model.variables + optimizer.variables]

    images, labels, ones = first_batch()
    begun = values_after((images, labels, ones))
    assert scale.variables[0].numpy() == 2**15
    left_out = values_after((images[::-1], labels, ones * np.float32("inf")))
    for one, other in zip(left_out, begun, strict=True):
        np.testing.assert_array_equal(one, other)
    assert scale.variables[0].numpy() == 2**14
    gone_on = values_after((images, labels, ones))
    assert all((one != other).any() for one, other in zip(gone_on, begun, strict=True) if one.ndim)
    assert optimizer.iterations.numpy() == 2
