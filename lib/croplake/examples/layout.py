"""How examples lie in files and row groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow.parquet as pq

from croplake import storage
from croplake.conf import ExamplesConf

_MIN_ROW_GROUP_BYTES: Final = 64 * 1024
CHECK_ROWS: Final = 4
"""Parquet's writer looks at a row group's size every so many rows at the soonest; its own 100 lets
a row group of large crops grow to several times its limit."""
_AIM: Final = 0.9
"""Share of the greatest row group that is aimed at: the writer closes it a few rows late."""
_PER_WORKER: Final = 4
"""Row groups of the training split for each worker, at least: all take as many steps as the one
that has most, and a worker has one row group more than another. About twice as many are made."""


@dataclass(frozen=True)
class ShardLayout:
    """A plan for one dataset's files.

    Attributes:
        num_files: of each split; also the partitions of the write.
        row_group_bytes: the writer's aim (`parquet.block.size`).
        max_rows_per_file: bound that keeps files below the greatest size.
    """

    num_files: int
    row_group_bytes: int
    max_rows_per_file: int


def plan_layout(
    *, num_rows: int, num_bytes: int, train_rows: int, num_workers: int, conf: ExamplesConf
) -> ShardLayout:
    """Chooses files and row groups so that every worker has some and none is too large.

    Args:
        num_rows: examples in all.
        num_bytes: of their pictures, estimated.
        train_rows: examples of the training split.
        num_workers: that share the training split.
        conf: greatest sizes, and the least row groups of the training split.
    """
    min_row_groups = max(conf.min_row_groups, _PER_WORKER * num_workers)
    mean_bytes = max(1.0, num_bytes / max(num_rows, 1))
    train_bytes = mean_bytes * train_rows
    max_rows = max(1, int(conf.file_bytes * 0.9 / mean_bytes))
    num_files = max(1, math.ceil(num_rows / max_rows))
    # Half of an even share: the files' last row groups are smaller than the rest.
    wanted_bytes = train_bytes / min_row_groups / 2
    greatest_bytes = conf.row_group_bytes * _AIM
    row_group_bytes = int(max(_MIN_ROW_GROUP_BYTES, min(greatest_bytes, wanted_bytes)))
    rows_per_group = max(CHECK_ROWS, row_group_bytes / mean_bytes)
    if train_rows / rows_per_group < min_row_groups:
        # Too few rows for the writer to look at them often enough: files part them instead.
        num_files = max(num_files, min(min_row_groups, train_rows))
    return ShardLayout(num_files, row_group_bytes, max_rows)


def writer_properties(row_group_bytes: int) -> dict[str, str | int]:
    """Session properties under which Parquet's writer makes row groups of a size."""
    return {
        "parquet.block.size": row_group_bytes,
        "parquet.page.size.row.check.min": CHECK_ROWS,
    }


@dataclass(frozen=True)
class ShardFacts:
    """What was written, read back from the files' footers.

    Attributes:
        num_files: of a split.
        num_row_groups: of all its files.
        largest_row_group_bytes: as stored.
    """

    num_files: int
    num_row_groups: int
    largest_row_group_bytes: int


def read_layout(files: Sequence[str]) -> ShardFacts:
    """Reads the footers of a split's files."""
    sizes: list[int] = []
    for file in files:
        with storage.open_random(file) as content:
            footer = pq.ParquetFile(content).metadata
            groups = (footer.row_group(index) for index in range(footer.num_row_groups))
            sizes += [
                sum(group.column(i).total_compressed_size for i in range(group.num_columns))
                for group in groups
            ]
    return ShardFacts(len(files), len(sizes), max(sizes, default=0))
