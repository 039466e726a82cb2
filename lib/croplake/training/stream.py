"""Training shards → batches of a tf.data stream, read by Petastorm.

Every worker gets the same number of batches of the same shape. A shard shorter than the longest is
filled with rows of weight zero: repeats of its own rows, so that batch statistics stay natural.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import tensorflow as tf

from croplake import storage
from croplake import tables as t
from croplake.errors import SettingsError
from croplake.training.decoding import decode_image
from croplake.training.shards import ShardPlan

_COLUMNS = [t.IMAGE, t.LABEL_INDEX]


@dataclass(frozen=True)
class Shard:
    """One worker's part of a split.

    Attributes:
        files: of the split: paths or addresses, the same list and order for every worker.
        plan: how their row groups are shared out.
        worker_index: whose part this is, from 0.
        reader_threads: row groups read at once.
    """

    files: tuple[str, ...]
    plan: ShardPlan
    worker_index: int
    reader_threads: int = 2

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
    """

    seed: int
    epoch: int
    buffer_rows: int

    def derive(self, purpose: str) -> int:
        """A seed for one use of this order, in 1 … 2³¹ (to Petastorm 0 is no seed)."""
        return 1 + zlib.crc32(f"{self.seed}/{self.epoch}/{purpose}".encode()) // 2


def make_stream(
    shard: Shard, *, batch_size: int, side_px: int, order: Order | None = None
) -> tf.data.Dataset:
    """Streams one epoch of a worker's shard.

    Args:
        shard: which rows.
        batch_size: rows of a batch.
        side_px: side of the squares.
        order: shuffled so; None is the order of the files.

    Returns:
        Exactly `plan.num_steps(batch_size)` batches (images, labels, weights): uint8
        (batch_size, side_px, side_px, 3), int32 (batch_size,), float32 (batch_size,). Every row of
        the shard has weight 1 once; the rest is weight 0.
    """
    num_steps = shard.plan.num_steps(batch_size)
    if shard.num_rows == 0:
        return _empty_batches(num_steps, batch_size, side_px)
    rows = tf.data.Dataset.from_generator(
        lambda: _read_row_groups(shard, order),
        output_signature=(tf.TensorSpec((None,), tf.string), tf.TensorSpec((None,), tf.int32)),
    ).unbatch()
    if order is not None:
        rows = rows.shuffle(order.buffer_rows, order.derive("rows"), reshuffle_each_iteration=False)
    rows = rows.repeat().take(num_steps * batch_size).enumerate()

    def decode(index: tf.Tensor, row: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        jpeg, label = row
        weight = tf.cast(index < shard.num_rows, tf.float32)
        return decode_image(jpeg, side_px), label, weight

    return (
        rows.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .apply(tf.data.experimental.assert_cardinality(num_steps))
        .prefetch(2)
    )


def _empty_batches(num_steps: int, batch_size: int, side_px: int) -> tf.data.Dataset:
    """A worker without rows (a small validation split) takes its steps with weight zero."""
    batch = (
        tf.zeros((batch_size, side_px, side_px, 3), tf.uint8),
        tf.zeros((batch_size,), tf.int32),
        tf.zeros((batch_size,), tf.float32),
    )
    return tf.data.Dataset.from_tensors(batch).repeat(num_steps)


def _read_row_groups(shard: Shard, order: Order | None) -> Iterator[tuple[Any, Any]]:
    """Yields (JPEGs, labels) of one row group after another, in an order that repeats.

    Petastorm's pool of several threads hands row groups over in an order that depends on timing, so
    each thread is a reader of its own over a part of the shard, and they take turns.
    """
    group_rows = shard.plan.group_rows
    shards = min(shard.plan.num_workers, len(group_rows))
    threads = min(shard.reader_threads, len(group_rows) // shards)
    with ExitStack() as stack:
        readers = []
        for thread in range(threads):
            part, parts = shard.worker_index + thread * shards, shards * threads
            reader = _open_reader(shard.files, part, parts, order)
            stack.callback(reader.join)
            stack.callback(reader.stop)
            readers.append(_read_rows(reader, sum(group_rows[part::parts])))
        while readers:
            for reader in list(readers):
                group = next(reader, None)
                if group is None:
                    readers.remove(reader)
                else:
                    yield group


def _read_rows(reader: Any, num_rows: int) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401
    """Yields (JPEGs, labels) of a Petastorm reader's row groups until all its rows are there.

    Petastorm asks whether all handed out is read, then whether all is handed out. What is handed
    out between the two questions is taken for read, and the reader ends early; asked once more, it
    goes on. On a busy machine that was one reader in five.
    """
    num_read, has_ended = 0, False
    while num_read < num_rows:
        group = next(reader, None)
        if group is not None:
            jpegs, labels = getattr(group, t.IMAGE), getattr(group, t.LABEL_INDEX)
            num_read, has_ended = num_read + len(labels), False
            yield jpegs, labels
        elif not has_ended:
            has_ended = True
        else:
            raise OSError(
                f"the training shards gave {num_read} rows where their footers count {num_rows}"
            )


def _open_reader(files: Sequence[str], part: int, parts: int, order: Order | None) -> Any:  # noqa: ANN401
    """A Petastorm reader of one thread; Petastorm has no types."""
    _ignore_deprecations()
    from petastorm import make_batch_reader

    addresses, options = _petastorm_source(files)
    return make_batch_reader(
        addresses,
        schema_fields=_COLUMNS,
        reader_pool_type="thread",
        workers_count=1,
        results_queue_size=5,
        shuffle_row_groups=order is not None,
        seed=None if order is None else order.derive("row groups"),
        cur_shard=part,
        shard_count=parts,
        num_epochs=1,
        **options,
    )


def _petastorm_source(files: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The files as Petastorm names them, and the file system it needs for them."""
    scheme = urlsplit(files[0]).scheme
    if scheme not in ("s3", "s3a"):
        # Petastorm takes the path as it stands, without undoing an address' %3D for =.
        return [f"file://{storage.local_path(file).resolve()}" for file in files], {}
    try:
        import s3fs
    except ImportError as error:
        raise SettingsError(
            f"{files[0]}: training from S3 needs s3fs; pip install s3fs in the workers' environment"
        ) from error
    from pyarrow.filesystem import S3FSWrapper

    addresses = ["s3://" + file.split("://", 1)[1] for file in files]
    return addresses, {"filesystem": S3FSWrapper(s3fs.S3FileSystem())}


def _ignore_deprecations() -> None:
    """Petastorm uses what pyarrow 14 and setuptools call old, by the dozen; nobody here can act."""
    for category in (FutureWarning, DeprecationWarning):
        for module in (r"petastorm(\.|$)", r"pyarrow(\.|$)", r"pkg_resources(\.|$)"):
            warnings.filterwarnings("ignore", category=category, module=module)
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    # Of columns whose names begin like those asked for (image_id).
    warnings.filterwarnings("ignore", message="schema_fields behavior has changed")
