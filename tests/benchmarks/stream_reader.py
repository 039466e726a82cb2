"""One contestant of bench-stream: reads an epoch for every line of its standard input."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from croplake.training.decoding import decode_image
from croplake.training.shards import plan_shards
from croplake.training.stream import CALLS_PER_CORE, Order, Shard, make_stream, read_batches

BATCH: Final = 64
SIDE_PX: Final = 224
BUFFER_ROWS: Final = 2_048
NUM_THREADS: Final = len(os.sched_getaffinity(0))


def petastorm_epoch(folder: Path) -> Callable[[int], tf.data.Dataset]:
    """As training reads."""
    files = tuple(sorted(str(file) for file in folder.glob("*.parquet")))
    shard = Shard(files, plan_shards(files, 1), 0)
    return lambda epoch: make_stream(
        shard,
        batch_size=BATCH,
        side_px=SIDE_PX,
        order=Order(17, epoch, BUFFER_ROWS),
        num_cores=NUM_THREADS,
    )


def tfrecord_epoch(folder: Path) -> Callable[[int], tf.data.Dataset]:
    """As TensorFlow's guide to tf.data's performance has it, with fixed numbers of threads."""
    files = sorted(str(file) for file in folder.glob("*.tfrecord"))
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }

    def decode(record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        row = tf.io.parse_single_example(record, features)
        label = tf.cast(row["label"], tf.int32)
        return decode_image(row["image"], SIDE_PX), label, tf.constant(1.0)

    def epoch_of(epoch: int) -> tf.data.Dataset:
        return (
            tf.data.Dataset.from_tensor_slices(files)
            .shuffle(len(files), seed=epoch)
            .interleave(
                tf.data.TFRecordDataset,
                cycle_length=8,
                block_length=16,
                num_parallel_calls=NUM_THREADS,
                deterministic=False,
            )
            .shuffle(BUFFER_ROWS, seed=epoch)
            .map(decode, num_parallel_calls=CALLS_PER_CORE * NUM_THREADS, deterministic=False)
            .batch(BATCH, drop_remainder=True)
            .prefetch(2)
        )

    return epoch_of


def rss_bytes() -> int:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Answers each line with the epoch's figures as JSON."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    epoch_of = {"petastorm": petastorm_epoch, "tfrecord": tfrecord_epoch}[kind](folder)
    for line in sys.stdin:
        started, cpu_before = time.perf_counter(), time.process_time()
        num_images = sum(len(images) for images, *_ in read_batches(epoch_of(int(line))))
        seconds = time.perf_counter() - started
        cpu_s = time.process_time() - cpu_before
        said: dict[str, Any] = {"num_images": num_images, "seconds": seconds, "cpu_s": cpu_s}
        print(json.dumps(said | {"rss_bytes": rss_bytes()}), flush=True)


if __name__ == "__main__":
    main()
