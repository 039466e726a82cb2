"""The training loop: epochs of steps under a tf.distribute strategy, on public API.

Keras 3's `fit` fails under MultiWorkerMirroredStrategy (keras#20585), so the steps stand here. One
worker and many run the same code; a worker has one replica.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from croplake.conf import TrainConf
from croplake.errors import InputDataError
from croplake.training.augmentation import augment_batch
from croplake.training.batch_norm import share_batch_norm
from croplake.training.network import build_classifier
from croplake.training.stream import Order, Shard, make_stream

EpochRecord = dict[str, float]
"""An epoch's figures by name: epoch (from 1), loss, accuracy, learning_rate, seconds,
images_per_s, and with a validation split validation_loss and validation_accuracy."""


def weighted_loss(
    labels: tf.Tensor, probabilities: tf.Tensor, weights: tf.Tensor, weight_sum: tf.Tensor
) -> tf.Tensor:
    """A worker's part of the mean cross-entropy of a global batch.

    Args:
        labels: int32, shape (B,).
        probabilities: float32, shape (B, C), rows add up to 1.
        weights: float32, shape (B,), 0 for rows that fill a short shard.
        weight_sum: scalar, of the batches of all workers.

    Returns:
        Scalar; added up over the workers it is the weighted mean.
    """
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


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        model: the classifier with its final weights, the same on every worker.
        history: one record an epoch.
    """

    model: keras.Model
    history: list[EpochRecord]


def train_classifier(
    strategy: tf.distribute.Strategy,
    conf: TrainConf,
    *,
    train: Shard,
    validation: Shard | None,
    num_classes: int,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
) -> Trained:
    """Trains a classifier; every worker of the strategy calls this with its own shards.

    Args:
        strategy: with one replica a worker.
        conf: of the training.
        train: this worker's part of the training split.
        validation: of the validation split; None skips it.
        num_classes: categories.
        on_epoch: is given each epoch's record, on every worker.

    Returns:
        The model and the history.

    Raises:
        InputDataError: an example's picture cannot be decoded.
    """
    keras.utils.set_random_seed(conf.seed % 2**32)
    num_steps = train.plan.num_steps(conf.batch_size)
    with strategy.scope():
        saved = build_classifier(conf, num_classes)
        is_shared = conf.trainable == "all" and strategy.num_replicas_in_sync > 1
        model = share_batch_norm(saved) if is_shared else saved
        rate = keras.optimizers.schedules.CosineDecay(conf.learning_rate, conf.epochs * num_steps)
        optimizer = keras.optimizers.Adam(rate)
        optimizer.build(model.trainable_variables)
    steps = _Steps(strategy, model, optimizer)
    history = []
    for epoch in range(conf.epochs):
        started = time.monotonic()
        figures = steps.run(steps.train, _training_stream(conf, train, epoch))
        seconds = time.monotonic() - started
        record: EpochRecord = {"epoch": epoch + 1, **figures}
        if validation is not None:
            stream = make_stream(validation, batch_size=conf.batch_size, side_px=conf.input_side_px)
            measured = steps.run(steps.evaluate, stream)
            record |= {f"validation_{name}": value for name, value in measured.items()}
        record["learning_rate"] = float(optimizer.learning_rate)
        record["seconds"] = time.monotonic() - started
        record["images_per_s"] = train.plan.num_rows / seconds
        history.append(record)
        on_epoch(record)
    if model is not saved:
        saved.set_weights(model.get_weights())
    return Trained(saved, history)


def _training_stream(conf: TrainConf, shard: Shard, epoch: int) -> tf.data.Dataset:
    order = Order(conf.seed, epoch, conf.shuffle_buffer)
    stream = make_stream(shard, batch_size=conf.batch_size, side_px=conf.input_side_px, order=order)
    seed = tf.constant(order.derive(f"augment {shard.worker_index}"), tf.int64)

    def augment(index: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        images, labels, weights = batch
        return augment_batch(images, conf.augment, tf.stack([seed, index])), labels, weights

    return stream.enumerate().map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


class _Steps:
    """The compiled steps of one training."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
    ) -> None:
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self.train = _compile(strategy, self._train_replica)
        self.evaluate = _compile(strategy, self._evaluate_replica)
        self._add_up = _compile(strategy, _sum_over_workers)

    def run(self, step: Callable[..., tf.Tensor], stream: tf.data.Dataset) -> EpochRecord:
        """Takes a step with every batch; the figures are of all workers' rows."""
        sums = tf.zeros((3,), tf.float64)
        for batch in _read(stream):
            sums += step(*batch)
        loss, right, rows = self._add_up(sums).numpy()
        return {"loss": float(loss / rows), "accuracy": float(right / rows)}

    def _train_replica(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> Any:  # noqa: ANN401
        weight_sum = _sum_over_workers(tf.reduce_sum(weights))
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            probabilities = self._model(images, training=True)
            loss = weighted_loss(labels, probabilities, weights, weight_sum)
        # The optimizer adds the workers' gradients up.
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        return batch_sums(labels, probabilities, weights)

    def _evaluate_replica(
        self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
    ) -> tf.Tensor:
        return batch_sums(labels, self._model(images, training=False), weights)


def _read(stream: tf.data.Dataset) -> Iterator[tuple[tf.Tensor, ...]]:
    try:
        yield from stream
    except tf.errors.InvalidArgumentError as error:
        cause = re.sub(r"\{\{.*?\}\}\s*", "", error.message).split("\n")[0]
        raise InputDataError(
            f"a training shard holds an example that cannot be decoded: {cause}; "
            "run build_examples again"
        ) from error


def _compile(
    strategy: tf.distribute.Strategy, step: Callable[..., tf.Tensor]
) -> Callable[..., tf.Tensor]:
    """A step of one replica as a function of the whole strategy.

    XLA is left out: it cannot compile the exchange between workers, and compiled for one worker on
    CPU the step was seven times slower.
    """
    compiled: Callable[..., tf.Tensor] = tf.function(
        lambda *batch: strategy.run(step, batch), autograph=False
    )
    return compiled


def _sum_over_workers(value: tf.Tensor) -> tf.Tensor:
    # The identity puts the value on the replica's device; a function's bare argument has none.
    value = tf.identity(value)
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)
