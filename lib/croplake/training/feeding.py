"""What a worker trains on: its shards, augmented and balanced as the settings say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import tensorflow as tf

from croplake.conf import TrainConf
from croplake.training.augmentation import augment_batch
from croplake.training.loop import Data
from croplake.training.shards import ShardPlan
from croplake.training.steps import Batch
from croplake.training.stream import Order, Shard, choose_readers, make_stream, read_batches


def feed(
    conf: TrainConf,
    *,
    train: Shard,
    validation: Shard | None,
    label_counts: Sequence[int],
    num_cores: int,
) -> Data:
    """Streams of a worker's shards.

    Args:
        conf: of the training.
        train: its part of the training split.
        validation: of the validation split; None where there is none.
        label_counts: examples of the training split by label.
        num_cores: that it decodes with.

    Returns:
        What the loop takes.

    Raises:
        SettingsError: a split's row groups are too large for `conf.reader_bytes`; for both splits
            it is found before the first epoch, and on every worker.
    """
    for shard in (train, validation):
        if shard is not None:
            choose_readers(shard)
    batches = partial(
        make_stream, batch_size=conf.batch_size, side_px=conf.input_side_px, num_cores=num_cores
    )
    balance = balance_factors(label_counts)
    copies = tuple(balance) if conf.class_balance == "sampling" else None
    buffer_rows = choose_buffer_rows(conf, train.plan)

    def read(epoch: int) -> Iterator[Batch]:
        order = Order(conf.seed, epoch, buffer_rows, copies)
        ordered = batches(train, order=order)
        seed = tf.constant(order.derive(f"augment {train.worker_index}"), tf.int64)

        def augment(index: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
            images, labels, weights = batch
            return augment_batch(images, conf.augment, tf.stack([seed, index])), labels, weights

        changed = ordered.enumerate().map(augment, num_parallel_calls=num_cores)
        return read_batches(changed.prefetch(2))

    return Data(
        train=read,
        num_steps=train.plan.num_steps(conf.batch_size),
        num_rows=train.plan.num_rows,
        validation=None if validation is None else lambda: read_batches(batches(validation)),
        class_weights=balance if conf.class_balance == "weights" else None,
    )


def choose_buffer_rows(conf: TrainConf, plan: ShardPlan) -> int:
    """Rows of the shuffle buffer: by the split's mean row they are within `shuffle_bytes`.

    Args:
        conf: of the training.
        plan: of the training split; the same on every worker.

    Returns:
        At least 1, at most `conf.shuffle_buffer`.
    """
    rows_of_the_bytes = conf.shuffle_bytes * plan.num_rows // max(1, plan.num_bytes)
    return max(1, min(conf.shuffle_buffer, rows_of_the_bytes))


def balance_factors(label_counts: Sequence[int]) -> list[float]:
    """What makes all categories weigh alike: their examples' mean is 1.

    Args:
        label_counts: examples by label.

    Returns:
        By label; 0 for one without examples.
    """
    num_present = sum(count > 0 for count in label_counts)
    total = sum(label_counts)
    return [total / (num_present * count) if count else 0.0 for count in label_counts]
