"""Compaction: many small files of a partition become few, large ones are never touched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from croplake import storage
from croplake import tables as t
from croplake.conf import MaintainConf
from croplake.lake import Lake
from croplake.session import session_properties
from croplake.tables import Table

LAID_OUT: Final = (t.PHOTOS, t.BOXES, t.EXAMPLES)
"""Tables whose files and row groups are as a job planned them: they are left as they are."""


@dataclass(frozen=True)
class Compaction:
    """Files read and written by a compaction.

    Attributes:
        num_before: small files that were, or would be, put together.
        bytes_before: of them.
        num_after: files they became; None where nothing was done.
    """

    num_before: int = 0
    bytes_before: int = 0
    num_after: int | None = None


def plan_compaction(file_sizes: dict[str, int], conf: MaintainConf) -> Compaction:
    """Which files would be put together, packed as Delta packs them.

    Args:
        file_sizes: of a snapshot: path in the table's folder, bytes.
        conf: which files are small, and how large one may become.
    """
    by_partition: dict[str, list[int]] = {}
    for path, size in file_sizes.items():
        if size < conf.small_file_bytes:
            by_partition.setdefault(str(PurePosixPath(path).parent), []).append(size)
    bins = [bin_ for sizes in by_partition.values() for bin_ in _pack(sizes, conf.max_file_bytes)]
    several = [bin_ for bin_ in bins if len(bin_) > 1]
    return Compaction(sum(map(len, several)), sum(map(sum, several)))


def _pack(sizes: Iterable[int], max_bytes: int) -> list[list[int]]:
    bins: list[list[int]] = [[]]
    for size in sorted(sizes):
        if sum(bins[-1]) + size > max_bytes:
            bins.append([])
        bins[-1].append(size)
    return bins


def compact(spark: SparkSession, lake: Lake, table: Table, conf: MaintainConf) -> Compaction:
    """Puts a table's small files together, each partition for itself, in one commit.

    Rows do not change, so a writer that only appends is not disturbed; one file is one task, no
    shuffle carries bytes.
    """
    if not plan_compaction(lake.reader.file_sizes(table.name), conf).num_before:
        return Compaction()
    properties = {
        "spark.databricks.delta.optimize.minFileSize": conf.small_file_bytes,
        "spark.databricks.delta.optimize.maxFileSize": conf.max_file_bytes,
    }
    with session_properties(spark, properties):
        delta = DeltaTable.forPath(spark, storage.for_spark(lake.path(table)))
        metrics = delta.optimize().executeCompaction().collect()[0]["metrics"]
    return Compaction(
        int(metrics["numFilesRemoved"]),
        int(metrics["filesRemoved"]["totalSize"] or 0),
        int(metrics["numFilesAdded"]),
    )
