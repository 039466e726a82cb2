"""Drawn crops with the sizes that crops of photos have, as Parquet and as TFRecord."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from croplake import tables as t

Crop: TypeAlias = tuple[bytes, int]
"""JPEG and label."""

NUM_FILES: Final = 8
NUM_LABELS: Final = 10
ROW_GROUP_BYTES: Final = 8 * 2**20
_DETAIL: Final = ((6, 90.0), (24, 45.0), (96, 22.0))
"""Blobs along a side and how strong they are: coarse to fine, as in photos."""


def draw_crop(number: int) -> Crop:
    """Coloured clouds and an ellipse; the same number gives the same crop."""
    rng = np.random.default_rng(number)
    width, height = (int(side) for side in rng.integers(96, 257, 2))
    canvas = np.full((height, width, 3), 128.0)
    for blobs, strength in _DETAIL:
        noise = (128 + strength * rng.standard_normal((blobs, blobs, 3))).clip(0, 255)
        layer = Image.fromarray(noise.astype(np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        canvas += np.asarray(layer, np.float64) - 128
    y, x = np.mgrid[0:height, 0:width]
    is_inside = (2 * x / width - 1) ** 2 + (2 * y / height - 1) ** 2 < 0.5
    canvas[is_inside] = 0.5 * canvas[is_inside] + 0.5 * rng.integers(0, 256, 3)
    target = io.BytesIO()
    Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(target, "JPEG", quality=92)
    return target.getvalue(), number % NUM_LABELS


def draw_crops(num_crops: int) -> list[Crop]:
    """Draws on all cores."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(draw_crop, range(num_crops), chunksize=64))


def write_parquet(folder: Path, crops: Sequence[Crop]) -> None:
    """Shards as `build_examples` makes them: row groups of at most 8 MiB."""
    mean_bytes = sum(len(jpeg) for jpeg, _ in crops) / len(crops)
    group_rows = int(0.9 * ROW_GROUP_BYTES / mean_bytes)
    for number in range(NUM_FILES):
        own = crops[number::NUM_FILES]
        table = pa.table(
            {
                t.EXAMPLE_ID: [f"{number}-{row}" for row in range(len(own))],
                t.IMAGE: pa.array([jpeg for jpeg, _ in own], pa.binary()),
                t.LABEL_INDEX: pa.array([label for _, label in own], pa.int32()),
            }
        )
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=group_rows)


def write_tfrecord(folder: Path, crops: Sequence[Crop]) -> None:
    """The same crops in as many files of `tf.train.Example`s."""
    import tensorflow as tf

    for number in range(NUM_FILES):
        with tf.io.TFRecordWriter(str(folder / f"{number}.tfrecord")) as writer:
            for jpeg, label in crops[number::NUM_FILES]:
                image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg]))
                index = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
                features = tf.train.Features(feature={"image": image, "label": index})
                writer.write(tf.train.Example(features=features).SerializeToString())
