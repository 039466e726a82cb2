"""Reads the published CSVs into the catalog: classes, photos, boxes, and unreadable rows."""

from __future__ import annotations

import hashlib
import itertools
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from pyspark import StorageLevel
from pyspark.sql import DataFrame

from croplake import storage, summary
from croplake import tables as t
from croplake.catalog.classes import parse_classes, parse_parents
from croplake.catalog.csv_rows import BoxReader, PhotoReader, Reader
from croplake.catalog.formats import SUBSETS, Subset
from croplake.catalog.reading import pieces_of, read_blocks, rejects_of, write_rows
from croplake.catalog.sources import CsvFile, check_boxes_csv, check_photos_csv, obtain
from croplake.conf import CatalogConf, Settings
from croplake.data_files import DataFile
from croplake.errors import IncompleteError, InputDataError
from croplake.jobs.context import Job, JobContext
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
_LANDED: Final = "landed"
_ALL: Final = "all"
"""Of a table that is replaced as a whole, in place of a subset."""
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
class _Part:
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
        return _hash(str(_READING), self.fingerprint.result(), *mids)

    @property
    def where(self) -> str:
        """The rows of the table that it replaces."""
        return f"{t.SUBSET} = '{self.subset}'"


def run(context: JobContext) -> None:
    """CSV files or addresses → `classes`, `photos`, `boxes`, `rejected_rows`."""
    conf = context.settings.catalog
    limits = context.http_limits()
    folder = storage.join(context.lake.root, "_sources")

    def at(source: str) -> str:
        return obtain(source, folder, limits)

    class_texts = [_text(at(conf.classes)), _text(at(conf.hierarchy))]
    class_names = parse_classes(class_texts[0], conf.classes)
    parents = parse_parents(class_texts[1], conf.hierarchy)
    files = [
        *(
            (t.PHOTOS, subset, check_photos_csv(name, at(name)))
            for subset, name in conf.photos.items()
        ),
        *(
            (t.BOXES, subset, check_boxes_csv(name, at(name)))
            for subset, name in conf.boxes.items()
        ),
    ]
    landed = _landed(context)
    with ThreadPoolExecutor() as pool:
        parts = [
            _part(
                *file,
                storage.stamp(file[-1].uri),
                pool.submit(storage.fingerprint, file[-1].uri),
                class_names,
            )
            for file in files
        ]
        # Of what is read for the first time the fingerprint is found out meanwhile.
        due = [
            part
            for part in parts
            if (before := landed.get((part.table.name, part.subset))) is None
            or before != part.state
        ]
        rejected = _land_all(context, due)
    _say_what_stays(context, files)
    classes_state = _hash(*class_texts)
    if not due and landed.get((t.CLASSES.name, _ALL)) == classes_state:
        _say_nothing_changed(context, len(parts))
        return
    if due:
        _keep_aside(context, due, rejected)
    _write_classes(context, class_names, parents, classes_state)
    for table in (t.PHOTOS, t.BOXES, t.REJECTED_ROWS):
        context.written[table.name] = context.lake.version(table)
    context.counts["photos"] = context.lake.reader.info(t.PHOTOS.name).rows
    context.counts["boxes"] = context.lake.reader.info(t.BOXES.name).rows
    if len(due) < len(parts):
        context.counts["files that had not changed"] = len(parts) - len(due)
    summary.print_counts(context.console, "ingest_catalog", context.counts)


def _text(uri: str) -> str:
    return storage.read_bytes(uri).decode("utf-8", "replace")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _part(
    table: Table,
    subset: Subset,
    file: CsvFile,
    stamp: str | None,
    fingerprint: Future[str],
    class_names: dict[str, str],
) -> _Part:
    reader: Reader
    if table is t.PHOTOS:
        reader = PhotoReader(file.header, file.header_line)
    else:
        reader = BoxReader(file.header, file.header_line, tuple(sorted(class_names)))
    return _Part(table, subset, file, reader, stamp, fingerprint)


def _landed(context: JobContext) -> dict[tuple[str, str], str]:
    """What completed runs have left in each table and subset (or `_ALL`), by its state."""
    if not context.lake.exists(t.RUNS):
        return {}
    runs = context.lake.reader.dataset(t.RUNS.name).to_table([t.RUN_ID, t.OUTCOME]).to_pylist()
    done = {row[t.RUN_ID] for row in runs if row[t.OUTCOME] == t.DONE}
    return {
        (table.name, subset): state if run_id in done else ""
        for table in (t.PHOTOS, t.BOXES, t.CLASSES)
        for subset, (state, run_id) in _noted(context, table).items()
    }


def _noted(context: JobContext, table: Table) -> dict[str, list[str]]:
    """What the last commit of this job tells of each subset: its state, and the run it is of.

    One commit tells of all, so that it does not matter how many of the log are left.
    """
    notes = context.lake.reader.notes(table.name) if context.lake.exists(table) else []
    return dict(notes[0].get(_LANDED, {})) if notes else {}


def _note(context: JobContext, table: Table, part: str, state: str) -> dict[str, Any]:
    """What a commit is to tell, that replaces a subset or `_ALL`."""
    return {_LANDED: _noted(context, table) | {part: [state, context.run_id]}}


def _say_what_stays(context: JobContext, files: list[tuple[Table, Subset, CsvFile]]) -> None:
    named = {(table, subset) for table, subset, _ in files}
    for table in (t.PHOTOS, t.BOXES):
        for subset in SUBSETS:
            rows = context.lake.reader.info(table.name, partition={t.SUBSET: subset}).rows
            if rows and (table, subset) not in named:
                context.console.print(
                    f"[yellow]{table.name}: {rows:,} rows of {subset} stay in the lake, though the "
                    f"settings name no file of them (catalog.{table.name}.{subset}); "
                    "dataset.subsets leaves them out",
                    highlight=False,
                )


def _say_nothing_changed(context: JobContext, num_files: int) -> None:
    for table in JOB.writes:
        context.written[table.name] = context.lake.version(table)
    context.counts["files that had not changed"] = num_files
    context.console.print(
        f"ingest_catalog: nothing to do, the {num_files} files are those that are in the catalog",
        highlight=False,
    )


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


def _land_all(context: JobContext, parts: list[_Part]) -> list[dict[str, Any]]:
    """Replaces subsets of tables, each in one commit.

    Returns:
        What could not be read, as rows of `rejected_rows`.

    Raises:
        InputDataError: so many rows of a file are unreadable, or so few are there, that it cannot
            be what it should be; no table has changed.
        IncompleteError: a file changed while it was read; no table has changed.
    """
    sizes = [storage.size_bytes(part.file.uri) or 0 for part in parts]
    num_partitions = 1 + max(sizes, default=0) // _BYTES_PER_PARTITION
    # The largest first: small ones leave no slot empty at the end.
    by_size = [parts[number] for number in np.argsort(sizes)[::-1]]
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
                for part in parts:  # then this is why
                    _refuse_if_changed(part)
            raise
    # Only now: a file that is refused leaves the catalog as a whole as it was.
    for part, written in zip(by_size, all_written, strict=True):
        _refuse_if_changed(part)
        _refuse_if_emptied(context, part, written)
    return [
        row
        for part, written in zip(by_size, all_written, strict=True)
        for row in _commit(context, part, written)
    ]


def _write(context: JobContext, part: _Part) -> _Written:
    """Reads a CSV, and writes its rows beside those of the table; errors as `_land_all`."""
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


def _commit(context: JobContext, part: _Part, written: _Written) -> list[dict[str, Any]]:
    """Replaces a subset of a table.

    Returns:
        What could not be read.
    """
    partition: dict[str, str] = {t.SUBSET: part.subset}
    note = _note(context, part.table, part.subset, part.state)
    context.lake.put_files(written.files, part.table, partition, note)
    num_landed = context.lake.reader.info(part.table.name, partition=partition).rows
    _count(context, f"equal {part.table.name} merged", written.num_good - num_landed)
    return written.rejected


def _keep_aside(context: JobContext, parts: list[_Part], rejected: list[dict[str, Any]]) -> None:
    """Replaces the unreadable rows of files, in one commit."""
    for row in rejected:
        _count(context, f"rejected: {row[t.REASON]}", 1)
    of_parts = [f"({t.TABLE} = '{part.table.name}' AND {part.where})" for part in parts]
    context.lake.put_rows(rejected, t.REJECTED_ROWS, where=" OR ".join(of_parts))


def _count(context: JobContext, name: str, number: int) -> None:
    context.counts[name] = context.counts.get(name, 0) + number


def _refuse_if_hopeless(
    part: _Part, num_rows: int, num_rejected: int, blocks: DataFrame, conf: CatalogConf
) -> None:
    if num_rejected <= 100 or num_rejected <= conf.max_rejected_frac * num_rows:
        return
    counted = rejects_of(blocks).groupBy(t.REASON).count().collect()
    by_reason = {row[t.REASON]: row["count"] for row in counted}
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(by_reason.items()))
    raise InputDataError(
        f"{part.file.name}: {num_rejected} of {num_rows} rows cannot be read ({reasons}); at most "
        f"{conf.max_rejected_frac:.0%} may (catalog.max_rejected_frac)"
    )


def _refuse_if_changed(part: _Part) -> None:
    part.fingerprint.result()  # of the file as it was before now
    if storage.stamp(part.file.uri) != part.stamp:
        raise IncompleteError(
            f"{part.file.name}: changed while it was read; once it is whole, run the same command "
            "again"
        )


def _refuse_if_emptied(context: JobContext, part: _Part, written: _Written) -> None:
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
        context.console.print(
            f"[yellow]{part.file.name}: {written.num_good:,} rows take the place of {before:,} "
            f"{name} of {part.subset}; if the file is not whole, download it and ingest again",
            highlight=False,
        )


def _write_classes(
    context: JobContext,
    names: dict[str, str],
    parents: dict[str, tuple[str, ...]],
    state: str,
) -> None:
    num_boxes = context.lake.reader.count_by(t.BOXES.name, [t.LABEL_MID, t.SUBSET])
    rows = [
        {
            t.LABEL_MID: mid,
            t.CLASS_NAME: name,
            t.PARENT_MIDS: list(parents.get(mid, ())),
            t.NUM_BOXES_TRAIN: num_boxes[mid, "train"],
            t.NUM_BOXES_VALIDATION: num_boxes[mid, "validation"],
            t.NUM_BOXES_TEST: num_boxes[mid, "test"],
        }
        for mid, name in names.items()
    ]
    note = _note(context, t.CLASSES, _ALL, state)
    context.written[t.CLASSES.name] = context.lake.put_rows(rows, t.CLASSES, metadata=note)
    context.counts["classes"] = len(rows)
    context.counts["classes with boxes"] = len({mid for mid, _ in num_boxes})


def _conf_of(settings: Settings) -> list[Any]:
    """The settings and the files' sizes and times, so that a changed file is looked at again."""
    conf = settings.catalog
    sources = [conf.classes, conf.hierarchy, *conf.photos.values(), *conf.boxes.values()]
    own = [source for source in sources if urlsplit(source).scheme not in ("http", "https")]
    return [conf, [[source, _stamp(source)] for source in own]]


def _stamp(source: str) -> str | None:
    """As `storage.stamp`; None, too, where the store does not answer: the job itself says so."""
    try:
        return storage.stamp(source)
    except OSError:
        return None


JOB = Job(
    name="ingest_catalog",
    run=run,
    writes=(t.CLASSES, t.PHOTOS, t.BOXES, t.REJECTED_ROWS),
    conf_of=_conf_of,
    of_dataset=False,
)
