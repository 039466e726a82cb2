"""Training shards → batches of a tf.data stream, read by Petastorm.

Every worker gets the same number of batches of the same shape. A shard shorter than the longest is
filled with rows of weight zero: repeats of its first batch, so that batch statistics stay natural.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from croplake.errors import CroplakeError, IncompleteError, InputDataError, SettingsError
from croplake.training.allocator import keep_freed_memory
from croplake.training.decoding import decode_image
from croplake.training.row_groups import RowGroup, RowGroupReader
from croplake.training.shards import ShardPlan

Rows: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""JPEGs and labels."""

CALLS_PER_CORE: Final = 8
"""Pictures in work: with as many as cores, all would wait for the one that takes longest."""
_MOST_WAITING: Final = 2
"""Row groups of a reader that wait; more do not make it faster."""
_FEWEST_HELD: Final = 3
"""Row groups: one that waits, one in work and one handed over."""


@dataclass(frozen=True)
class Shard:
    """One worker's part of a split.

    Attributes:
        files: of the split: paths or addresses, the same list and order for every worker.
        plan: how their row groups are shared out.
        worker_index: whose part this is, from 0.
        reader_threads: row groups read at once, at most.
        reader_bytes: greatest size of the row groups held at once: waiting, in work, handed over.
    """

    files: tuple[str, ...]
    plan: ShardPlan
    worker_index: int
    reader_threads: int = 2
    reader_bytes: int = 128 * 2**20

    @property
    def num_rows(self) -> int:
        """Rows of this part."""
        return self.plan.shard_rows(self.worker_index)


@dataclass(frozen=True)
class Order:
    """A shuffled order, another one in every epoch.

    Attributes:
        seed: the same seed gives the same orders.
        epoch: from 0.
        buffer_rows: rows among which each next one is drawn; row groups are shuffled as a whole.
        copies: by label index, how often a row comes on average (0.3: in three epochs of ten); None
            is once. With copies, all rows of the epoch's steps count.
    """

    seed: int
    epoch: int
    buffer_rows: int
    copies: tuple[float, ...] | None = None

    def derive(self, purpose: str) -> int:
        """A seed for one use of this order, in 1 … 2³¹ (to Petastorm 0 is no seed)."""
        return 1 + zlib.crc32(f"{self.seed}/{self.epoch}/{purpose}".encode()) // 2


def make_stream(
    shard: Shard,
    *,
    batch_size: int,
    side_px: int,
    order: Order | None = None,
    num_cores: int = 2,
) -> tf.data.Dataset:
    """Streams one epoch of a worker's shard.

    Args:
        shard: which rows.
        batch_size: rows of a batch.
        side_px: side of the squares.
        order: shuffled so; None is the order of the files.
        num_cores: that decode. tf.data's own choice (AUTOTUNE) can wait for a minute at the end of
            a stream.

    Returns:
        Exactly `plan.num_steps(batch_size)` batches (images, labels, weights): uint8
        (batch_size, side_px, side_px, 3), int32 (batch_size,), float32 (batch_size,). Every row of
        the shard has weight 1 once; the rest is weight 0. With `order.copies` all have weight 1.

    Raises:
        SettingsError: three of the largest row groups are more than `reader_bytes`.
    """
    num_steps = shard.plan.num_steps(batch_size)
    if shard.num_rows == 0:
        return _empty_batches(num_steps, batch_size, side_px)
    num_readers, queue_size = choose_readers(shard)
    num_wanted = num_steps * batch_size
    num_counted = shard.num_rows if order is None or order.copies is None else num_wanted
    rows = tf.data.Dataset.from_generator(
        lambda: _cut(_read_passes(shard, order, num_readers, queue_size), num_counted),
        output_signature=(tf.TensorSpec((None,), tf.string), tf.TensorSpec((None,), tf.int32)),
    ).unbatch()
    if order is not None:
        rows = rows.shuffle(order.buffer_rows, order.derive("rows"), reshuffle_each_iteration=False)

    def decode(jpeg: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return decode_image(jpeg, side_px), label, tf.constant(1.0)

    num_calls = CALLS_PER_CORE * num_cores
    decoded = rows.map(decode, num_parallel_calls=num_calls, deterministic=True)
    if num_counted < num_wanted:
        blank = tf.zeros((side_px, side_px, 3), tf.uint8), tf.constant(0), tf.constant(0.0)
        blanks = tf.data.Dataset.from_tensors(blank).repeat(num_wanted - num_counted)
        decoded = decoded.concatenate(blanks)
    batches = decoded.batch(batch_size, drop_remainder=True)
    if num_counted < num_wanted:
        batches = _fill(batches, batch_size, side_px, num_counted)
    return batches.apply(tf.data.experimental.assert_cardinality(num_steps)).prefetch(2)


def read_batches(stream: tf.data.Dataset) -> Iterator[tuple[tf.Tensor, ...]]:
    """Yields a stream's batches.

    Raises:
        InputDataError: an example's picture cannot be decoded, or a shard cannot be read.
        IncompleteError: the storage does not answer.
    """
    try:
        yield from stream
    except tf.errors.OpError as error:
        raise _user_error(error) from error


def choose_readers(shard: Shard) -> tuple[int, int]:
    """Readers and the row groups that wait at each, so that all held are within `reader_bytes`.

    Raises:
        SettingsError: three of the largest row groups are more than that.
    """
    largest = max(1, shard.plan.largest_group_bytes)
    num_held = shard.reader_bytes // largest
    if num_held < _FEWEST_HELD:
        raise SettingsError(
            f"train.reader_bytes: {shard.reader_bytes} is less than {_FEWEST_HELD} row groups of "
            f"{largest} bytes, the largest of the training shards; set train.reader_bytes to "
            f"{_FEWEST_HELD * largest} or more, or rerun build_examples with a lower "
            "examples.row_group_bytes"
        )
    # The rows of one row group, whichever reader's, are with the caller.
    num_ahead = num_held - 1
    shards = min(shard.plan.num_workers, len(shard.plan.group_rows))
    most = min(shard.reader_threads, len(shard.plan.group_rows) // shards)
    num_readers = max(1, min(most, num_ahead // 2))
    return num_readers, min(_MOST_WAITING, num_ahead // num_readers - 1)


def _empty_batches(num_steps: int, batch_size: int, side_px: int) -> tf.data.Dataset:
    """A worker without rows (a small validation split) takes its steps with weight zero."""
    batch = (
        tf.zeros((batch_size, side_px, side_px, 3), tf.uint8),
        tf.zeros((batch_size,), tf.int32),
        tf.zeros((batch_size,), tf.float32),
    )
    return tf.data.Dataset.from_tensors(batch).repeat(num_steps)


def _fill(
    batches: tf.data.Dataset, batch_size: int, side_px: int, num_counted: int
) -> tf.data.Dataset:
    """Puts rows of the first batch where rows have no weight; nothing is decoded twice."""

    def first_rows(images: tf.Tensor, labels: tf.Tensor) -> Any:  # noqa: ANN401
        places = tf.range(batch_size) % num_counted
        return tf.gather(images, places), tf.gather(labels, places)

    def fill(first: Any, indexed: Any) -> Any:  # noqa: ANN401
        index, (images, labels, weights) = indexed
        first = tf.cond(index == 0, lambda: first_rows(images, labels), lambda: first)
        counts = weights > 0

        def filled() -> Any:  # noqa: ANN401
            return (
                tf.where(counts[:, None, None, None], images, first[0]),
                tf.where(counts, labels, first[1]),
            )

        images, labels = tf.cond(tf.reduce_all(counts), lambda: (images, labels), filled)
        images = tf.ensure_shape(images, (batch_size, side_px, side_px, 3))
        return first, (images, tf.ensure_shape(labels, (batch_size,)), weights)

    none = (
        tf.zeros((batch_size, side_px, side_px, 3), tf.uint8),
        tf.zeros((batch_size,), tf.int32),
    )
    return batches.enumerate().scan(none, fill)


def _cut(groups: Iterator[Rows], num_rows: int) -> Iterator[Rows]:
    for jpegs, labels in groups:
        yield jpegs[:num_rows], labels[:num_rows]
        num_rows -= len(labels)
        del jpegs, labels
        if num_rows <= 0:
            return


def _read_passes(
    shard: Shard, order: Order | None, num_readers: int, queue_size: int
) -> Iterator[Rows]:
    """Yields the rows of row groups in an order that repeats, as often as they are asked for.

    Every pass over the shard is drawn anew; without copies, one gives all rows.
    """
    keep_freed_memory()
    copies = None if order is None or order.copies is None else np.asarray(order.copies)
    number = 0
    while True:
        num_given = 0
        for group in _read_pass(shard, order, number, num_readers, queue_size):
            rows = group.jpegs, group.labels
            if order is not None and copies is not None:
                rows = _copy(group, copies, order.derive(f"copies {number} of {group.number}"))
            del group
            num_given += len(rows[1])
            if len(rows[1]):
                yield rows
            del rows
        if not num_given and copies is not None and not copies.any():
            raise InputDataError("no category of the training split has an example")
        number += 1


def _copy(group: RowGroup, copies: NDArray[np.float64], seed: int) -> Rows:
    """Each row as often as its label's copies say; the fraction is drawn."""
    expected = copies[group.labels]
    whole = np.floor(expected)
    drawn = np.random.default_rng(seed).random(len(expected)) < expected - whole
    times = whole.astype(np.int64) + drawn
    return np.repeat(group.jpegs, times), np.repeat(group.labels, times)


def _read_pass(
    shard: Shard, order: Order | None, number: int, num_readers: int, queue_size: int
) -> Iterator[RowGroup]:
    """Yields the row groups of a shard.

    Each of several readers has a part of the shard and they take turns, so that the order does not
    depend on timing.

    Raises:
        InputDataError, IncompleteError: a shard cannot be read, or has lost rows.
    """
    group_rows = shard.plan.group_rows
    shards = min(shard.plan.num_workers, len(group_rows))
    seed = None if order is None else order.derive(f"row groups {number}")
    num_read = 0
    with ExitStack() as stack:
        readers = []
        for reader_index in range(num_readers):
            part, parts = shard.worker_index + reader_index * shards, shards * num_readers
            reader = RowGroupReader(shard.files, part, parts, seed=seed, queue_size=queue_size)
            stack.callback(reader.close)
            readers.append(reader)
        while readers:
            for reader in list(readers):
                group = reader.take()
                if group is None:
                    readers.remove(reader)
                    continue
                num_read += len(group.labels)
                yield group
                # Else it would be held while the next one is waited for.
                del group
    if num_read != shard.num_rows:
        raise InputDataError(
            f"the training shards gave {num_read} rows where their footers counted "
            f"{shard.num_rows} when the training began; run build_examples again"
        )


_AROUND: Final = re.compile(
    r"Error in user-defined function passed to \S+ transformation with iterator: \S+: "
)
"""What tf.data puts before an error, once for each stage that it passes."""


def _user_error(error: tf.errors.OpError) -> CroplakeError | tf.errors.OpError:
    """What the graph made text of, as the error it was."""
    text = re.sub(r"\{\{.*?\}\}\s*", "", error.message)
    line = _AROUND.sub("", text.split("\n")[0])
    for kind in (InputDataError, IncompleteError):
        _, found, cause = line.partition(f"{kind.__name__}: ")
        if found:
            return kind(cause)
    if isinstance(error, tf.errors.InvalidArgumentError):
        return InputDataError(
            f"a training shard holds an example that cannot be decoded: {line}; "
            "run build_examples again"
        )
    return error
