"""Pictures and training shards by hand, for the tests of training."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from croplake import tables as t

Pixels: TypeAlias = NDArray[np.uint8]

COLOURS = ((230, 40, 40), (40, 230, 40), (40, 40, 230))
"""Red, green, blue: the categories of the toy dataset."""


def jpeg_of(image: Pixels) -> bytes:
    target = io.BytesIO()
    Image.fromarray(image).save(target, "JPEG", quality=95)
    return target.getvalue()


def grey_jpeg(row: int) -> bytes:
    return jpeg_of(np.full((6, 5, 3), row % 256, np.uint8))


def colour_jpeg(row: int) -> bytes:
    """A noisy picture of the colour of `row % 3`, the same at every call."""
    noise = np.random.default_rng(row).integers(-40, 41, (10, 12, 3))
    return jpeg_of(np.clip(COLOURS[row % 3] + noise, 0, 255).astype(np.uint8))


def write_shard(
    path: Path,
    groups: Sequence[Sequence[int]],
    *,
    picture: Callable[[int], bytes] = grey_jpeg,
    label: Callable[[int], int] = int,
) -> str:
    """Writes rows, given by their numbers, as a Parquet file with these row groups.

    Returns:
        The file's address, as a snapshot's file list has it.
    """
    columns = [(t.EXAMPLE_ID, pa.string()), (t.IMAGE_ID, pa.string())]
    schema = pa.schema([*columns, (t.IMAGE, pa.binary()), (t.LABEL_INDEX, pa.int32())])
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema) as writer:
        for rows in groups:
            values = {
                t.EXAMPLE_ID: [f"e{row}" for row in rows],
                t.IMAGE_ID: [f"i{row}" for row in rows],
                t.IMAGE: [picture(row) for row in rows],
                t.LABEL_INDEX: [label(row) for row in rows],
            }
            table = pa.Table.from_pydict(values, schema=schema)
            writer.write_table(table, row_group_size=max(1, len(rows)))
    return path.as_uri()


def write_colours(path: Path, groups: Sequence[Sequence[int]]) -> str:
    """Rows of the toy dataset: the label is the colour."""
    return write_shard(path, groups, picture=colour_jpeg, label=lambda row: row % 3)
