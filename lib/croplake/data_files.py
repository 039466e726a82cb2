"""Parquet files of a table that tasks write themselves; `Lake.put_files` commits them.

Spark writes Parquet row by row, Arrow column by column: for rows that a task holds as Arrow tables
that takes a third of the time.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from croplake import storage
from croplake import tables as t
from croplake.tables import Table

_ROW_GROUP_BYTES: Final = 16 * 1024 * 1024
"""Of the rows in memory. Small row groups of sorted rows: who asks for some reads little else."""
_REPEATED: Final = (
    t.AUTHOR,
    t.AUTHOR_URL,
    t.CATEGORY,
    t.CONFIDENCE,
    t.LABEL_MID,
    t.LICENSE,
    t.REJECT_REASON,
    t.ROTATION_DEG,
    t.SOURCE,
    t.SUBSET,
    *t.FLAGS,
)
"""Columns whose values come again and again; of others a dictionary is built in vain."""
_BOUNDED: Final = (t.BOX_ID, t.IMAGE_ID, t.LABEL_MID, t.CONFIDENCE, *t.CORNERS, *t.FLAGS)
"""Columns whose least and greatest values the log tells: none is a text of more than the 32
characters that Delta lets them have."""


class DataFile(NamedTuple):
    """A data file of a table.

    Attributes:
        path: in the table's folder.
        num_bytes: its size.
        stats: what Delta's log keeps of its rows, as JSON.
    """

    path: str
    num_bytes: int
    stats: str

    def as_batch(self) -> pa.RecordBatch:
        """As a row of `FILES`."""
        return pa.RecordBatch.from_pylist([self._asdict()], FILES)


FILES: Final = pa.schema(
    dict(zip(DataFile._fields, (pa.string(), pa.int64(), pa.string()), strict=True))
)
"""Data files as a task tells of them."""


def write_rows(
    batches: Iterable[pa.RecordBatch], *, folder: str, table: Table, partition: dict[str, str]
) -> Iterator[pa.RecordBatch]:
    """What a task does with rows of a partition: one file of them.

    Args:
        batches: rows, the table's columns in any order, but those it is partitioned by.
        folder: address of the table.
        table: that they are for.
        partition: value by partition column.

    Yields:
        `FILES`: one row, none where there are no rows.
    """
    filled = (batch for batch in batches if batch.num_rows)
    first = next(filled, None)
    if first is None:
        return
    with DataFileWriter(folder, table, partition) as file:
        for batch in itertools.chain([first], filled):
            rows = pa.Table.from_batches([batch])
            file.add(rows.select(file.schema.names).cast(file.schema))
        yield file.end().as_batch()


class DataFileWriter:
    """Writes a file of a partition; a context manager that ends it.

    A file counts once it is committed; one that is not is removed by `lake maintain`.
    """

    def __init__(self, folder: str, table: Table, partition: dict[str, str]) -> None:
        """Begins a file.

        Args:
            folder: address of the table.
            table: whose columns its rows have, but those it is partitioned by.
            partition: value by partition column.
        """
        names = [name for name in table.columns if name not in table.partition_by]
        self.schema = pa.schema([table.schema.field(name) for name in names])
        place = [f"{column}={partition[column]}" for column in table.partition_by]
        self._path = "/".join([*place, f"part-{uuid.uuid4()}.zstd.parquet"])
        self._stream = storage.open_output(storage.join(folder, self._path))
        self._closed: list[pq.FileMetaData] = []
        self._parquet = pq.ParquetWriter(
            self._stream,
            self.schema,
            compression="zstd",
            use_dictionary=[name for name in names if name in _REPEATED],
            metadata_collector=self._closed,
        )
        self._held: list[pa.Table] = []
        self._held_bytes = 0

    def __enter__(self) -> DataFileWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._parquet.is_open:
            self._parquet.close()
        self._stream.close()

    def add(self, rows: pa.Table) -> None:
        """Takes rows; they are written once there are enough for a row group."""
        self._held.append(rows)
        self._held_bytes += rows.nbytes
        if self._held_bytes >= _ROW_GROUP_BYTES:
            self._write()

    def end(self) -> DataFile:
        """Writes what is left, and tells of the file."""
        self._write()
        self._parquet.close()
        num_bytes = self._stream.tell()
        self._stream.close()
        (metadata,) = self._closed
        return DataFile(self._path, num_bytes, json.dumps(_stats(metadata)))

    def _write(self) -> None:
        if self._held:
            rows = pa.concat_tables(self._held).combine_chunks()
            self._held, self._held_bytes = [], 0
            # A class of a million rows is more than one row group.
            size = max(1, rows.num_rows * _ROW_GROUP_BYTES // max(1, rows.nbytes))
            self._parquet.write_table(rows, row_group_size=size)


def _stats(metadata: pq.FileMetaData) -> dict[str, Any]:
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for number in range(metadata.num_columns):
        groups = [metadata.row_group(g).column(number) for g in range(metadata.num_row_groups)]
        name = groups[0].path_in_schema if groups else ""
        if name not in _BOUNDED:
            continue
        stats = [group.statistics for group in groups]
        nulls[name] = sum(stat.null_count for stat in stats)
        bounded = [stat for stat in stats if stat.has_min_max]
        if bounded:
            least[name] = min(stat.min for stat in bounded)
            greatest[name] = max(stat.max for stat in bounded)
    return {
        "numRecords": metadata.num_rows,
        "minValues": least,
        "maxValues": greatest,
        "nullCount": nulls,
    }
