"""What the CSVs bring into the tables: read in parallel, then landed file by file."""

from __future__ import annotations

import itertools
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pyspark import StorageLevel
from pyspark.sql import DataFrame

from croplake import storage, summary
from croplake import tables as t
from croplake.catalog.csv_rows import BoxReader, PhotoReader, Reader
from croplake.catalog.formats import Subset
from croplake.catalog.reading import pieces_of, read_blocks, rejects_of, write_rows
from croplake.catalog.sources import CsvFile
from croplake.conf import CatalogConf
from croplake.data_files import DataFile
from croplake.errors import IncompleteError, InputDataError
from croplake.jobs.context import JobContext
from croplake.jobs.ingest_notes import note, state_of
from croplake.session import session_properties
from croplake.tables import Table

_READING: Final = 2
"""Goes up when the same files would give other rows."""
_BYTES_PER_PARTITION: Final = 8 * 1024 * 1024
"""Of a CSV: a class is in one partition, and the more there are the more even tasks can be made."""
_MUCH_SHORTER_FRAC: Final = 0.1
"""A file that loses more of its rows may be a copy that broke off between two lines."""
_CANCEL_AGAIN_S: Final = 0.5
"""A thread that was between two jobs may have begun the next."""
_FILES_AT_ONCE: Final = 2
"""The last tasks of one leave slots to the first of another."""
_LAYOUT: Final = {
    # Partitions are brought together by their size, not by the number of cores.
    "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
    "spark.sql.adaptive.advisoryPartitionSizeInBytes": "32m",
    # Of blocks of rows, not of rows: of the larger ones a few already make many MB.
    "spark.sql.inMemoryColumnarStorage.batchSize": "16",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "16",
}


@dataclass(frozen=True)
class Part:
    """What one file brings into one table.

    Attributes:
        table: `photos` or `boxes`.
        subset: the table's partition that the file fills.
        file: the CSV.
        reader: of its rows.
        stamp: of the file before its rows are read.
        fingerprint: of its content, once it is found out.
    """

    table: Table
    subset: Subset
    file: CsvFile
    reader: Reader
    stamp: str | None
    fingerprint: Future[str]

    @property
    def state(self) -> str:
        """What tells that the same rows would come of it."""
        mids = self.reader.mids if isinstance(self.reader, BoxReader) else ()
        return state_of(str(_READING), self.fingerprint.result(), *mids)

    @property
    def where(self) -> str:
        """The rows of the table that it replaces."""
        return f"{t.SUBSET} = '{self.subset}'"


def part_of(
    table: Table,
    subset: Subset,
    file: CsvFile,
    class_names: dict[str, str],
    pool: ThreadPoolExecutor,
) -> Part:
    """What a CSV is to bring, as it is now; its fingerprint is found out meanwhile, in the pool."""
    reader: Reader
    if table is t.PHOTOS:
        reader = PhotoReader(file.header, file.header_line)
    else:
        reader = BoxReader(file.header, file.header_line, tuple(sorted(class_names)))
    stamp = storage.stamp(file.uri)
    fingerprint = pool.submit(storage.fingerprint, file.uri)
    return Part(table, subset, file, reader, stamp, fingerprint)


@dataclass(frozen=True)
class _Written:
    """A CSV's rows as files that are not committed yet.

    Attributes:
        files: to commit.
        num_good: rows that can be read, equal ones counted each.
        rejected: those that cannot, as rows of `rejected_rows`.
    """

    files: list[DataFile]
    num_good: int
    rejected: list[dict[str, Any]]


def land(context: JobContext, parts: list[Part], due: list[Part]) -> None:
    """Replaces subsets of tables, each in one commit; then what could not be read of them.

    Args:
        context: of the run.
        parts: all that the settings name.
        due: those of them that have changed.

    Raises:
        InputDataError: so many rows of a file are unreadable, or so few are there, that it cannot
            be what it should be, or it is that of another subset; no table has changed.
        IncompleteError: a file changed while it was read; no table has changed.
    """
    sizes = [storage.size_bytes(part.file.uri) or 0 for part in due]
    num_partitions = 1 + max(sizes) // _BYTES_PER_PARTITION
    # The largest first: small ones leave no slot empty at the end.
    by_size = [due[number] for number in np.argsort(sizes)[::-1]]
    layout = _LAYOUT | {"spark.sql.shuffle.partitions": str(num_partitions)}
    with (
        session_properties(context.spark, layout),
        ThreadPoolExecutor(_FILES_AT_ONCE) as pool,
    ):
        writing = [pool.submit(_write, context, part) for part in by_size]
        try:
            all_written = [future.result() for future in writing]
        except BaseException as error:
            for future in writing:
                future.cancel()
            while wait(writing, timeout=_CANCEL_AGAIN_S).not_done:
                context.spark.sparkContext.cancelAllJobs()
            if isinstance(error, Exception):
                for part in due:  # then this is why
                    _refuse_if_changed(part)
            raise
    # Only now: a file that is refused leaves the catalog as a whole as it was.
    for part, written in zip(by_size, all_written, strict=True):
        _refuse_if_changed(part)
        _refuse_if_emptied(context, part, written)
        if written.num_good:
            _refuse_copy(part, parts)
    rejected: list[dict[str, Any]] = []
    for part, written in zip(by_size, all_written, strict=True):
        _commit(context, part, written)
        rejected += written.rejected
    of_parts = [f"({t.TABLE} = '{part.table.name}' AND {part.where})" for part in due]
    context.lake.put_rows(rejected, t.REJECTED_ROWS, where=" OR ".join(of_parts))
    for row in rejected:
        _count(context, f"rejected: {row[t.REASON]}", 1)


def _write(context: JobContext, part: Part) -> _Written:
    """Reads a CSV, and writes its rows beside those of the table; errors as `land`."""
    blocks = read_blocks(context.spark, part.file.uri, part.reader, part.subset)
    # On disk they are as good as a shuffle's files, and the CSV is read once.
    blocks.persist(StorageLevel.DISK_ONLY)
    try:
        pieces = pieces_of(blocks)
        num_rows = sum(piece.num_rows for piece in pieces)
        num_rejected = sum(piece.num_rejected for piece in pieces)
        _refuse_if_hopeless(part, num_rows, num_rejected, blocks, context.settings.catalog)
        folder = context.lake.path(part.table)
        files = write_rows(blocks, part.reader, part.subset, folder)
        rejects = rejects_of(blocks).collect() if num_rejected else []
    finally:
        blocks.unpersist()
    ends = itertools.accumulate((piece.num_lines for piece in pieces), initial=1)
    first_lines = {piece.offset: 1 + end for piece, end in zip(pieces, ends, strict=False)}
    rejected = [
        {
            t.TABLE: part.table.name,
            t.SUBSET: part.subset,
            t.FILE: part.file.name,
            t.LINE: first_lines[offset] + line,
            t.TEXT: text,
            t.REASON: reason,
        }
        for offset, line, text, reason in rejects
    ]
    return _Written(files, num_rows - num_rejected, rejected)


def _commit(context: JobContext, part: Part, written: _Written) -> None:
    """Replaces a subset of a table."""
    partition: dict[str, str] = {t.SUBSET: part.subset}
    told = note(context, part.table, part.subset, part.state)
    context.lake.put_files(written.files, part.table, partition, told)
    num_landed = context.lake.reader.info(part.table.name, partition=partition).rows
    _count(context, f"equal {part.table.name} merged", written.num_good - num_landed)


def _refuse_if_hopeless(
    part: Part, num_rows: int, num_rejected: int, blocks: DataFrame, conf: CatalogConf
) -> None:
    if num_rejected <= 100 or num_rejected <= conf.max_rejected_frac * num_rows:
        return
    counted = rejects_of(blocks).groupBy(t.REASON).count().collect()
    by_reason = {row[t.REASON]: row["count"] for row in counted}
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(by_reason.items()))
    raise InputDataError(
        f"{part.file.name}: {num_rejected} of {num_rows} rows cannot be read ({reasons}); at most "
        f"{conf.max_rejected_frac:.4g} of them may (catalog.max_rejected_frac)"
    )


def _refuse_if_changed(part: Part) -> None:
    part.fingerprint.result()  # of the file as it was before now
    if storage.stamp(part.file.uri) != part.stamp:
        raise IncompleteError(
            f"{part.file.name}: changed while it was read; once it is whole, run the same command "
            "again"
        )


def _refuse_copy(part: Part, parts: list[Part]) -> None:
    """A box of two subsets would be an example of two splits."""
    for other in parts:
        if other is not part and (other.table, other.state) == (part.table, part.state):
            raise InputDataError(
                f"{part.file.name}: has the same content as {other.file.name}, but one is "
                f"catalog.{part.table.name}.{part.subset} and the other {other.subset}; expected a "
                "file of its own for each subset"
            )


def _refuse_if_emptied(context: JobContext, part: Part, written: _Written) -> None:
    """A copy that has only begun is no newer file; one that has grown much shorter is told of.

    Raises:
        InputDataError: the file has no row, and the catalog has some of its subset.
    """
    if not context.lake.exists(part.table):
        return
    name, partition = part.table.name, {t.SUBSET: str(part.subset)}
    before = context.lake.reader.info(name, partition=partition).rows
    if before and not written.num_good:
        raise InputDataError(
            f"{part.file.name}: no row in it, and the catalog has {before:,} {name} of "
            f"{part.subset}; expected the whole file: download it again"
        )
    if written.num_good < (1 - _MUCH_SHORTER_FRAC) * before:
        summary.warn(
            context.console,
            f"{part.file.name}: {written.num_good:,} rows take the place of {before:,} "
            f"{name} of {part.subset}; if the file is not whole, download it and ingest again",
        )


def _count(context: JobContext, name: str, number: int) -> None:
    context.counts[name] = context.counts.get(name, 0) + number
