"""The compiled steps of a training, and what its workers tell each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from croplake.errors import SettingsError
from croplake.training.precision import LossScale

Batch: TypeAlias = tuple[Any, Any, Any]
"""Images, uint8 or float, shape (B, side, side, 3); labels, int32, shape (B,); weights, float32,
shape (B,), 0 for rows that fill a short shard."""


def weighted_loss(
    labels: tf.Tensor,
    probabilities: tf.Tensor,
    weights: tf.Tensor,
    weight_sum: tf.Tensor,
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """A worker's part of the mean cross-entropy of a global batch.

    Args:
        labels: int32, shape (B,).
        probabilities: float32, shape (B, C), rows add up to 1.
        weights: float32, shape (B,), 0 for rows that fill a short shard.
        weight_sum: scalar, of the batches of all workers.
        label_smoothing: share of a label that all C categories get evenly.

    Returns:
        Scalar; added up over the workers it is the weighted mean.
    """
    if label_smoothing:
        wanted = tf.one_hot(labels, probabilities.shape[1])
        losses = keras.losses.categorical_crossentropy(
            wanted, probabilities, label_smoothing=label_smoothing
        )
    else:
        losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
    return tf.reduce_sum(losses * weights) / weight_sum


def batch_sums(labels: tf.Tensor, probabilities: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """What a batch adds to an epoch's figures.

    Args:
        labels: int32, shape (B,).
        probabilities: float32, shape (B, C).
        weights: float32, shape (B,).

    Returns:
        float64, shape (3,): weighted sums of the loss, of the right guesses, and of one.
    """
    losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
    right = tf.argmax(probabilities, axis=1, output_type=labels.dtype) == labels
    parts = tf.stack([losses, tf.cast(right, tf.float32), tf.ones_like(losses)])
    return tf.reduce_sum(tf.cast(parts * weights, tf.float64), axis=1)


class Exchange:
    """What the workers of a strategy tell each other, each with one replica."""

    def __init__(self, strategy: tf.distribute.Strategy, worker_index: int) -> None:
        self._strategy = strategy
        self.is_first = worker_index == 0
        self._sum = compile_step(strategy, sum_over_workers)

    def add_up(self, values: tf.Tensor | Sequence[float]) -> NDArray[np.float64]:
        """Sums of all workers' numbers, the same on each."""
        return np.asarray(self._sum(tf.convert_to_tensor(values, tf.float64)), np.float64)

    def tell(self, values: Sequence[float]) -> list[float]:
        """The first worker's numbers, on all of them."""
        own = values if self.is_first else [0.0] * len(values)
        return [float(value) for value in self.add_up(own)]

    def average(self, variables: Sequence[Any]) -> None:
        """Gives all workers the mean of their values, in one exchange."""
        if not variables:
            return
        values = [variable.numpy() for variable in variables]
        num_workers = self._strategy.num_replicas_in_sync
        means = self.add_up(np.concatenate([value.ravel() for value in values])) / num_workers
        ends = np.cumsum([value.size for value in values])
        parts = np.split(means, ends[:-1])
        for variable, value, part in zip(variables, values, parts, strict=True):
            variable.assign(part.reshape(value.shape))

    def require_same(self, value: int, what: str, expected: str) -> None:
        """Makes sure that all workers have the first one's number.

        Args:
            value: this worker's.
            what: is compared, for the error.
            expected: what makes it the same, for the error.

        Raises:
            SettingsError: one has another; on every worker.
        """
        (first,) = self.tell([value])
        (num_other,) = self.add_up([float(value != first)])
        if num_other:
            raise SettingsError(
                f"{what}: {num_other:.0f} of {self._strategy.num_replicas_in_sync} workers differ "
                f"from the first; expected {expected}"
            )


class Steps:
    """The compiled steps of one phase."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        scale: LossScale,
        *,
        label_smoothing: float,
        class_weights: Sequence[float] | None,
        xla: bool,
    ) -> None:
        """Compiles them.

        Args:
            strategy: with one replica a worker.
            model: the one that learns.
            optimizer: of the variables that learn now.
            scale: of the loss.
            label_smoothing: see `weighted_loss`.
            class_weights: what an example counts in the loss, by its label; None is 1.
            xla: whether the network and its gradients are compiled by XLA. The exchange between
                workers is not: XLA has none.
        """
        self._model = model
        self._optimizer = optimizer
        self._scale = scale
        self._label_smoothing = label_smoothing
        self._class_weights = None if class_weights is None else tf.constant(class_weights)
        self._gradients: Callable[..., Any] = self._compute_gradients
        self._ask: Callable[..., Any] = lambda images: self._model(images, training=False)
        if xla:
            self._gradients = tf.function(self._gradients, autograph=False, jit_compile=True)
            self._ask = tf.function(self._ask, autograph=False, jit_compile=True)
        self._train = compile_step(strategy, self._train_replica)
        self._evaluate = compile_step(strategy, self._evaluate_replica)

    def train(self, batches: Iterable[Batch]) -> tf.Tensor:
        """Takes a training step with every batch; this worker's `batch_sums`, added up."""
        return _run(self._train, batches)

    def evaluate(self, batches: Iterable[Batch]) -> tf.Tensor:
        """Asks the model about every batch; this worker's `batch_sums`, added up."""
        return _run(self._evaluate, batches)

    def _train_replica(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        counted = weights
        if self._class_weights is not None:
            counted = weights * tf.gather(self._class_weights, labels)
        weight_sum = sum_over_workers(tf.reduce_sum(counted))
        # A step that is left out is taken back: an exchange of workers is in it, and BatchNorm has
        # moved before the gradients are known.
        may_move = self._model.variables + self._optimizer.variables if self._scale.scales else []
        before = [tf.identity(variable) for variable in may_move]
        gradients, sums = self._gradients(images, labels, weights, counted, weight_sum)
        gradients, is_step = self._scale.unscaled(gradients)
        # The optimizer adds the workers' gradients up.
        self._optimizer.apply(gradients, self._model.trainable_variables)
        for variable, value in zip(may_move, before, strict=True):
            variable.assign(tf.where(is_step, variable, value))
        return sums

    def _compute_gradients(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor,
        counted: tf.Tensor,
        weight_sum: tf.Tensor,
    ) -> tuple[list[Any], tf.Tensor]:
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            probabilities = self._model(images, training=True)
            loss = weighted_loss(labels, probabilities, counted, weight_sum, self._label_smoothing)
            scaled = self._scale.scaled(loss)
        gradients = tape.gradient(scaled, variables)
        return gradients, batch_sums(labels, probabilities, weights)

    def _evaluate_replica(
        self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
    ) -> tf.Tensor:
        return batch_sums(labels, self._ask(images), weights)


def compile_step(
    strategy: tf.distribute.Strategy, step: Callable[..., tf.Tensor]
) -> Callable[..., tf.Tensor]:
    """A step of one replica as a function of the whole strategy."""
    compiled: Callable[..., tf.Tensor] = tf.function(
        lambda *batch: strategy.run(step, batch), autograph=False
    )
    return compiled


def sum_over_workers(value: tf.Tensor) -> tf.Tensor:
    """Adds up the workers' values; in replica context."""
    # The identity puts the value on the replica's device; a function's bare argument has none.
    value = tf.identity(value)
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def _run(step: Callable[..., tf.Tensor], batches: Iterable[Batch]) -> tf.Tensor:
    sums = tf.zeros((3,), tf.float64)
    for batch in batches:
        sums += step(*batch)
    return sums
