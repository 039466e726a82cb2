"""A CSV by way of Spark: to blocks of checked rows in parallel, and from them into a table."""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # the name the Spark documentation uses

from croplake import storage
from croplake.catalog.blocks import (
    BLOCKS,
    DATA,
    NUM_REJECTED,
    OFFSET,
    PART,
    REJECTS,
    read_ranges,
    unpack_rejects,
    write_blocks,
)
from croplake.catalog.csv_rows import BUCKET, Reader
from croplake.catalog.formats import Subset
from croplake.data_files import FILES, DataFile
from croplake.lake import spark_schema

_LEAST_RANGE_BYTES: Final = 16 * 1024 * 1024
_GREATEST_RANGE_BYTES: Final = 64 * 1024 * 1024
"""Of a file, a task's: it holds so much in memory."""


class Piece(NamedTuple):
    """What is known of a piece of a file.

    Attributes:
        offset: where it begins, bytes.
        num_lines: its lines, the header and empty ones too.
        num_rows: those of them that are rows.
        num_rejected: those of them that cannot be read.
    """

    offset: int
    num_lines: int
    num_rows: int
    num_rejected: int


def read_blocks(spark: SparkSession, uri: str, reader: Reader, subset: Subset) -> DataFrame:
    """Reads a CSV, in parallel.

    Args:
        spark: the session.
        uri: of the file.
        reader: of its rows.
        subset: the one that the file belongs to.

    Returns:
        For `pieces_of`, `rejects_of` and `write_rows`, which read the file once each unless it is
        kept.
    """
    num_bytes = storage.size_bytes(uri) or 0
    share = -(-num_bytes // spark.sparkContext.defaultParallelism)
    range_bytes = min(max(share, _LEAST_RANGE_BYTES), _GREATEST_RANGE_BYTES)
    num_ranges = max(1, -(-num_bytes // range_bytes))
    read = partial(read_ranges, uri=uri, range_bytes=range_bytes, reader=reader, subset=subset)
    return spark.range(0, num_ranges, 1, num_ranges).mapInArrow(read, spark_schema(BLOCKS))


def pieces_of(blocks: DataFrame) -> list[Piece]:
    """All pieces of a file, in its order.

    Args:
        blocks: from `read_blocks`.
    """
    found = blocks.where(F.col(BUCKET).isNull()).select(*Piece._fields).collect()
    return sorted(Piece(*row) for row in found)


def rejects_of(blocks: DataFrame) -> DataFrame:
    """The rows that cannot be read.

    Args:
        blocks: from `read_blocks`.

    Returns:
        `offset` of the piece, `line` within it, `text`, `reason`.
    """
    is_bad = F.col(BUCKET).isNull() & (F.col(NUM_REJECTED) > 0)
    pieces = blocks.where(is_bad).select(OFFSET, DATA)
    return pieces.mapInArrow(unpack_rejects, spark_schema(REJECTS))


def write_rows(blocks: DataFrame, reader: Reader, subset: Subset, folder: str) -> list[DataFile]:
    """Writes the rows of a table: laid out by bucket and photo, one left of equal ones.

    Args:
        blocks: from `read_blocks`.
        reader: the one that they were read with.
        subset: the one that they belong to.
        folder: address of `boxes` or `photos`.

    Returns:
        Files to commit.
    """
    write = partial(write_blocks, folder=folder, reader=reader, subset=subset)
    together = (
        blocks.where(F.col(BUCKET).isNotNull()).select(BUCKET, PART, DATA).repartition(BUCKET)
    )
    written = together.sortWithinPartitions(BUCKET, PART).mapInArrow(write, spark_schema(FILES))
    return [DataFile(*row) for row in written.collect()]
