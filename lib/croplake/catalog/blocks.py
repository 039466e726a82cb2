"""A CSV by way of Spark: byte ranges to blocks of checked rows, blocks to the files of a table.

Rows pass from task to task as blocks: all rows of one bucket that a range of the file held, as an
Arrow stream. Spark moves a few thousand of them instead of millions of rows, and never looks
inside.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # the name the Spark documentation uses

from croplake import storage
from croplake import tables as t
from croplake.catalog.csv_rows import (
    BUCKET,
    BoxReader,
    PhotoReader,
    Reject,
    read_rows,
)
from croplake.catalog.formats import Subset
from croplake.catalog.merging import finish_boxes, finish_photos
from croplake.catalog.pieces import pieces
from croplake.data_files import DataFile, DataFileWriter
from croplake.lake import spark_schema

Reader = BoxReader | PhotoReader

_LEAST_RANGE_BYTES: Final = 16 * 1024 * 1024
_GREATEST_RANGE_BYTES: Final = 128 * 1024 * 1024
"""Of a file, a task's: it holds so much in memory."""
_ROWS_PER_BATCH: Final = 32 * 1024
"""Of rejects on their way to the JVM."""
_BLOCKS_PER_BATCH: Final = 64

_OFFSET: Final = "offset"
_NUM_LINES: Final = "num_lines"
_NUM_ROWS: Final = "num_rows"
_NUM_REJECTED: Final = "num_rejected"
_DATA: Final = "data"
_LINE, _TEXT, _REASON = Reject._fields
_BLOCKS: Final = pa.schema(
    {
        BUCKET: pa.int32(),
        _OFFSET: pa.int64(),
        _NUM_LINES: pa.int64(),
        _NUM_ROWS: pa.int64(),
        _NUM_REJECTED: pa.int64(),
        _DATA: pa.binary(),
    }
)
"""A block has its bucket and its rows. A row without a bucket tells of a piece of the file: where
it begins, its lines, its rows, how many of them are rejected, and these."""
_REJECTS: Final = pa.schema(
    {_OFFSET: pa.int64(), _LINE: pa.int64(), _TEXT: pa.string(), _REASON: pa.string()}
)
_FILES: Final = pa.schema(
    dict(zip(DataFile._fields, (pa.string(), pa.int64(), pa.string()), strict=True))
)
_REJECTS_OF_PIECE: Final = pa.schema({_LINE: pa.int64(), _TEXT: pa.string(), _REASON: pa.string()})


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

    def of_ranges(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                start = number * range_bytes
                yield from _blocks_of(uri, start, start + range_bytes, reader, subset)

    ranges = spark.range(0, num_ranges, 1, num_ranges)
    return ranges.mapInArrow(of_ranges, spark_schema(_BLOCKS))


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

    def unpack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                rejects = _unpack(row[_DATA])
                offsets = pa.repeat(row[_OFFSET], rejects.num_rows)
                rejects = rejects.add_column(0, _OFFSET, offsets).cast(_REJECTS)
                yield from rejects.to_batches(max_chunksize=_ROWS_PER_BATCH)

    is_bad = F.col(BUCKET).isNull() & (F.col(_NUM_REJECTED) > 0)
    return blocks.where(is_bad).select(_OFFSET, _DATA).mapInArrow(unpack, spark_schema(_REJECTS))


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
    table = t.PHOTOS if isinstance(reader, PhotoReader) else t.BOXES

    def finish(rows: pa.Table, bucket: int) -> dict[str, pa.Array]:
        if isinstance(reader, PhotoReader):
            return finish_photos(rows)
        return finish_boxes(rows, reader.mids[bucket])

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = ((row[BUCKET], row[_DATA]) for batch in batches for row in batch.to_pylist())
        by_bucket = itertools.groupby(rows, key=lambda row: row[0])
        first = next(by_bucket, None)
        if first is None:
            return
        with DataFileWriter(folder, table, {t.SUBSET: subset}) as file:
            for bucket, of_bucket in itertools.chain([first], by_bucket):
                unpacked = pa.concat_tables(_unpack(data) for _, data in of_bucket)
                columns = finish(unpacked, bucket)
                file.add(pa.table([columns[name] for name in file.schema.names], file.schema))
            written = file.end()
        yield pa.RecordBatch.from_pylist([written._asdict()], _FILES)

    together = blocks.where(F.col(BUCKET).isNotNull()).select(BUCKET, _DATA).repartition(BUCKET)
    written = together.sortWithinPartitions(BUCKET).mapInArrow(write, spark_schema(_FILES))
    return [DataFile(*row) for row in written.collect()]


def _blocks_of(
    uri: str, start: int, end: int, reader: Reader, subset: Subset
) -> Iterator[pa.RecordBatch]:
    """Blocks of the lines that begin in a range of bytes."""
    tables, told = [], []
    for offset, piece in pieces(uri, start, end):
        # The first line is the header.
        skipped = piece.find(b"\n") + 1 if offset == 0 else 0
        if skipped == len(piece):
            continue
        rows = read_rows(piece[skipped:], reader, subset)
        tables.append(rows.table)
        rejects = pa.Table.from_pylist(
            [reject._asdict() for reject in rows.rejects], _REJECTS_OF_PIECE
        )
        told.append(
            {
                _OFFSET: offset + skipped,
                _NUM_LINES: rows.num_lines,
                _NUM_ROWS: rows.num_rows,
                _NUM_REJECTED: len(rows.rejects),
                _DATA: _pack(rejects) if rows.rejects else None,
            }
        )
    if told:
        yield pa.RecordBatch.from_pylist(told, _BLOCKS)
        yield from _in_buckets(pa.concat_tables(tables))


def _in_buckets(table: pa.Table) -> Iterator[pa.RecordBatch]:
    if not table.num_rows:
        return
    buckets = table[BUCKET].to_numpy()
    # Small numbers are sorted by counting.
    order = np.argsort(buckets.astype(np.min_scalar_type(buckets.max())), kind="stable")
    rows = table.drop_columns([BUCKET]).take(order).combine_chunks()
    ordered = buckets[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(ordered))
    found = zip(ordered[starts].tolist(), starts.tolist(), ends.tolist(), strict=True)
    for some in _batched(found, _BLOCKS_PER_BATCH):
        packed = [
            {BUCKET: bucket, _DATA: _pack(rows.slice(start, end - start))}
            for bucket, start, end in some
        ]
        yield pa.RecordBatch.from_pylist(packed, _BLOCKS)


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while some := list(itertools.islice(iterator, size)):
        yield some


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _unpack(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
