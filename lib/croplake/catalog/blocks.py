"""What tasks do of a CSV: ranges of bytes to blocks of checked rows, blocks to a table's files.

Rows pass from task to task as blocks: all rows of one bucket that a range of the file held, as an
Arrow stream. Spark moves a few thousand of them instead of millions of rows, and never looks
inside. Of a class with many boxes in a range there is a block for each first digit of the photos'
ids, so that however large a class is, a task holds a sixteenth of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from croplake import tables as t
from croplake.catalog.csv_rows import (
    BUCKET,
    IMAGE,
    PhotoReader,
    Reader,
    Reject,
    read_rows,
)
from croplake.catalog.formats import Subset
from croplake.catalog.merging import finish_boxes, finish_photos
from croplake.catalog.pieces import pieces
from croplake.data_files import DataFileWriter

_ROWS_PER_BATCH: Final = 32 * 1024
"""Of rejects on their way to the JVM."""
_BLOCKS_PER_BATCH: Final = 16
_LARGE: Final = 8 * 1024
"""Rows of a bucket in a range that become more than one block."""
_DIGITS: Final = 16
_DIGIT_SHIFT: Final = np.uint64(60)

PART: Final = "part"
"""Of a block: 0 where it has all rows of its bucket in a range, else 1 + the first digit of its
photos."""
OFFSET: Final = "offset"
NUM_LINES: Final = "num_lines"
NUM_ROWS: Final = "num_rows"
NUM_REJECTED: Final = "num_rejected"
DATA: Final = "data"
_LINE, _TEXT, _REASON = Reject._fields
BLOCKS: Final = pa.schema(
    {
        BUCKET: pa.int32(),
        PART: pa.int32(),
        OFFSET: pa.int64(),
        NUM_LINES: pa.int64(),
        NUM_ROWS: pa.int64(),
        NUM_REJECTED: pa.int64(),
        DATA: pa.binary(),
    }
)
"""A block has its bucket, its part and its rows. A row without a bucket tells of a piece of the
file: where it begins, its lines, its rows, how many of them are rejected, and these."""
REJECTS: Final = pa.schema(
    {OFFSET: pa.int64(), _LINE: pa.int64(), _TEXT: pa.string(), _REASON: pa.string()}
)
_REJECTS_OF_PIECE: Final = pa.schema({_LINE: pa.int64(), _TEXT: pa.string(), _REASON: pa.string()})


def read_ranges(
    batches: Iterable[pa.RecordBatch],
    *,
    uri: str,
    range_bytes: int,
    reader: Reader,
    subset: Subset,
) -> Iterator[pa.RecordBatch]:
    """Ranges of a file to blocks.

    Args:
        batches: one column, the ranges' numbers.
        uri: of the file.
        range_bytes: of each range.
        reader: of the file's rows.
        subset: the one that the file belongs to.

    Yields:
        `BLOCKS`.
    """
    for batch in batches:
        for number in batch.column(0).to_pylist():
            start = number * range_bytes
            yield from _blocks_of(uri, start, start + range_bytes, reader, subset)


def unpack_rejects(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Pieces with rejected rows (`offset`, `data`) to `REJECTS`."""
    for batch in batches:
        for row in batch.to_pylist():
            rejects = _unpack(row[DATA])
            offsets = pa.repeat(row[OFFSET], rejects.num_rows)
            rejects = rejects.add_column(0, OFFSET, offsets).cast(REJECTS)
            yield from rejects.to_batches(max_chunksize=_ROWS_PER_BATCH)


def write_blocks(
    batches: Iterable[pa.RecordBatch], *, folder: str, reader: Reader, subset: Subset
) -> Iterator[pa.RecordBatch]:
    """Blocks (`bucket`, `part`, `data`), sorted, to one file of their table.

    Args:
        batches: the blocks.
        folder: address of `boxes` or `photos`.
        reader: the one that they were read with.
        subset: the one that they belong to.

    Yields:
        `FILES`: one row, none where there are no blocks.
    """
    table = t.PHOTOS if isinstance(reader, PhotoReader) else t.BOXES
    blocks = ((row[BUCKET], row[PART], row[DATA]) for batch in batches for row in batch.to_pylist())
    by_bucket = itertools.groupby(blocks, key=lambda block: block[0])
    first = next(by_bucket, None)
    if first is None:
        return
    with DataFileWriter(folder, table, {t.SUBSET: subset}) as file:
        for bucket, of_bucket in itertools.chain([first], by_bucket):
            for rows in _by_part((part, data) for _, part, data in of_bucket):
                if isinstance(reader, PhotoReader):
                    columns = finish_photos(rows)
                else:
                    columns = finish_boxes(rows, reader.mids[bucket])
                file.add(pa.table([columns[name] for name in file.schema.names], file.schema))
        yield file.end().as_batch()


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
                OFFSET: offset + skipped,
                NUM_LINES: rows.num_lines,
                NUM_ROWS: rows.num_rows,
                NUM_REJECTED: len(rows.rejects),
                DATA: _pack(rejects) if rows.rejects else None,
            }
        )
    if told:
        yield pa.RecordBatch.from_pylist(told, BLOCKS)
        yield from _in_buckets(pa.concat_tables(tables))


def _in_buckets(table: pa.Table) -> Iterator[pa.RecordBatch]:
    if not table.num_rows:
        return
    buckets = table[BUCKET].to_numpy()
    is_large = np.bincount(buckets)[buckets] >= _LARGE
    keys = buckets * (_DIGITS + 1) + np.where(is_large, _part_of(table), 0)
    # Small numbers are sorted by counting.
    order = np.argsort(keys.astype(np.min_scalar_type(keys.max())), kind="stable")
    rows = table.drop_columns([BUCKET]).take(order).combine_chunks()
    ordered = keys[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(ordered))
    found = zip(ordered[starts].tolist(), starts.tolist(), ends.tolist(), strict=True)
    for some in _batched(found, _BLOCKS_PER_BATCH):
        packed = [
            {
                BUCKET: key // (_DIGITS + 1),
                PART: key % (_DIGITS + 1),
                DATA: _pack(rows.slice(start, end - start)),
            }
            for key, start, end in some
        ]
        yield pa.RecordBatch.from_pylist(packed, BLOCKS)


def _by_part(blocks: Iterator[tuple[int, bytes]]) -> Iterator[pa.Table]:
    """The rows of a bucket: all of them, or digit by digit where some of its blocks are so.

    Args:
        blocks: part and data, sorted by part.
    """
    groups = itertools.groupby(blocks, key=lambda block: block[0])

    def take() -> tuple[int, pa.Table | None]:
        part, group = next(groups, (_DIGITS + 1, iter(())))
        tables = [_unpack(data) for _, data in group]
        return part, pa.concat_tables(tables) if tables else None

    part, rows = take()
    whole = None
    if part == 0:
        whole, (part, rows) = rows, take()
        if rows is None:
            yield whole
            return
    for digit in range(1, _DIGITS + 1):
        tables = []
        if whole is not None:
            tables.append(whole.filter(pa.array(_part_of(whole) == digit)))
        if part == digit and rows is not None:
            tables.append(rows)
            part, rows = take()
        if sum(table.num_rows for table in tables):
            yield pa.concat_tables(tables)


def _part_of(rows: pa.Table) -> NDArray[np.int32]:
    """Of each row the part that it belongs to where its bucket is large."""
    digits: NDArray[np.uint64] = rows[IMAGE].to_numpy() >> _DIGIT_SHIFT
    return np.asarray(digits + np.uint64(1), np.int32)


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
