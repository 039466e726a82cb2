"""Reads the published CSVs into the catalog: classes, photos, boxes, and unreadable rows."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage, summary
from croplake import tables as t
from croplake.catalog.classes import parse_classes, parse_parents
from croplake.catalog.formats import Subset
from croplake.catalog.sources import CsvFile, check_boxes_csv, check_photos_csv, obtain
from croplake.catalog.transforms import (
    BOX_KINDS,
    LINE_TEXT,
    PHOTO_KINDS,
    data_lines,
    good_rows,
    merge_boxes,
    merge_photos,
    parse_lines,
    type_boxes,
    type_photos,
)
from croplake.conf import CatalogConf, Settings
from croplake.errors import InputDataError
from croplake.jobs.context import Job, JobContext
from croplake.lake import spark_schema
from croplake.session import session_properties
from croplake.tables import Table

_READING: Final = 1
"""Goes up when the same files would give other rows."""
_BYTES_PER_BUCKET: Final = 8 * 1024 * 1024
"""Of a CSV: a class is in one bucket, and the more there are the more even tasks can be made."""
_LAYOUT: Final = {
    # Small row groups of sorted rows: who asks for some classes reads little else.
    "parquet.block.size": "16777216",
    # Buckets are brought together by their size, not by the number of cores.
    "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
    "spark.sql.adaptive.advisoryPartitionSizeInBytes": "64m",
}


@dataclass(frozen=True)
class _Part:
    """What one file brings into one table.

    Attributes:
        table: `photos` or `boxes`.
        subset: the table's partition that the file fills.
        file: the CSV.
        lines: its rows as they stand in it.
        typed: the same as the table has them, with the raw line and the reason why not.
        merge: leaves one of equal rows.
        state: what tells that the same rows would come of it.
    """

    table: Table
    subset: Subset
    file: CsvFile
    lines: DataFrame
    typed: DataFrame
    merge: Callable[[DataFrame], DataFrame]
    state: str

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
    photos = [
        _part(context, t.PHOTOS, subset, check_photos_csv(name, at(name)), class_names)
        for subset, name in conf.photos.items()
    ]
    boxes = [
        _part(context, t.BOXES, subset, check_boxes_csv(name, at(name)), class_names)
        for subset, name in conf.boxes.items()
    ]
    parts = photos + boxes
    landed = _landed(context)
    due = [part for part in parts if landed.get((part.table.name, part.subset)) != part.state]
    classes_state = _hash(*class_texts)
    if not due and landed.get((t.CLASSES.name, None)) == classes_state:
        _say_nothing_changed(context, len(parts))
        return
    context.lake.create(t.REJECTED_ROWS)
    for part in due:
        num_buckets = 1 + (storage.size_bytes(part.file.uri) or 0) // _BYTES_PER_BUCKET
        layout = _LAYOUT | {"spark.sql.shuffle.partitions": str(num_buckets)}
        with session_properties(context.spark, layout):
            _land(context, part)
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
    context: JobContext, table: Table, subset: Subset, file: CsvFile, class_names: dict[str, str]
) -> _Part:
    kinds = PHOTO_KINDS if table is t.PHOTOS else BOX_KINDS
    lines = data_lines(context.spark.read.text(storage.for_spark(file.uri)), file)
    parsed = parse_lines(lines, file, kinds)
    state = [str(_READING), storage.fingerprint(file.uri)]
    if table is t.PHOTOS:
        typed = type_photos(parsed, subset)
        return _Part(table, subset, file, lines, typed, merge_photos, _hash(*state))
    typed = type_boxes(parsed, subset, list(class_names))
    state += sorted(class_names)
    return _Part(table, subset, file, lines, typed, merge_boxes, _hash(*state))


def _landed(context: JobContext) -> dict[tuple[str, Subset | None], str]:
    """What completed runs have left in each table and subset, by its state."""
    if not context.lake.exists(t.RUNS):
        return {}
    runs = context.lake.reader.dataset(t.RUNS.name).to_table([t.RUN_ID, t.OUTCOME]).to_pylist()
    done = {row[t.RUN_ID] for row in runs if row[t.OUTCOME] == t.DONE}
    landed: dict[tuple[str, Subset | None], str] = {}
    for table in (t.PHOTOS, t.BOXES, t.CLASSES):
        if not context.lake.exists(table):
            continue
        for note in reversed(context.lake.reader.notes(table.name)):
            state = note["state"] if note["run_id"] in done else ""
            landed[table.name, note.get("subset")] = state
    return landed


def _say_nothing_changed(context: JobContext, num_files: int) -> None:
    for table in JOB.writes:
        context.written[table.name] = context.lake.version(table)
    context.counts["files that had not changed"] = num_files
    context.console.print(
        f"ingest_catalog: nothing to do, the {num_files} files are those that are in the catalog",
        highlight=False,
    )


def _land(context: JobContext, part: _Part) -> None:
    """Replaces a subset of a table in one commit, and notes what could not be read.

    Raises:
        InputDataError: so many rows are unreadable that the file cannot be what it should be; the
            table is as it was.
    """
    lake = context.lake
    before = lake.version(part.table) if lake.exists(part.table) else None
    note = {"subset": part.subset, "state": part.state, "run_id": context.run_id}
    landing = part.merge(good_rows(part.typed))
    lake.replace(landing, part.table, where=part.where, metadata=note)
    num_landed = lake.reader.info(part.table.name, partition={t.SUBSET: part.subset}).rows
    # Counting while the rows pass by (`observe`) costs as much as half the reading; lines are
    # counted in a tenth of it, and only where some are missing it matters why.
    num_rows, num_rejected = part.lines.count(), 0
    if num_landed < num_rows:
        num_rejected = int(part.typed.agg(F.count(t.REASON)).collect()[0][0])
    try:
        rejected = _rejected(context, part, num_rows, num_rejected) if num_rejected else []
    except InputDataError:
        lake.restore(part.table, before)
        raise
    of_part = f"`{t.TABLE}` = '{part.table.name}' AND {part.where}"
    rows = context.spark.createDataFrame(rejected, spark_schema(t.REJECTED_ROWS.schema))
    lake.replace(rows.coalesce(1), t.REJECTED_ROWS, where=of_part)
    name = f"equal {part.table.name} merged"
    num_merged = num_rows - num_rejected - num_landed
    context.counts[name] = context.counts.get(name, 0) + num_merged


def _rejected(
    context: JobContext, part: _Part, num_rows: int, num_rejected: int
) -> list[tuple[Any, ...]]:
    """Rows of `rejected_rows`, if they are few enough; errors as `_land`."""
    bad = part.typed.where(F.col(t.REASON).isNotNull()).select(LINE_TEXT, t.REASON)
    _refuse_if_hopeless(part.file, num_rows, num_rejected, bad, context.settings.catalog)
    reasons = {row[LINE_TEXT]: row[t.REASON] for row in bad.collect()}
    found = []
    for number, text in _lines(part.file):
        if text in reasons:
            name = f"rejected: {reasons[text]}"
            context.counts[name] = context.counts.get(name, 0) + 1
            place = (part.table.name, part.subset, part.file.name, number)
            found.append((*place, text, reasons[text]))
    return found


def _refuse_if_hopeless(
    file: CsvFile, num_rows: int, num_rejected: int, bad: DataFrame, conf: CatalogConf
) -> None:
    if num_rejected <= 100 or num_rejected <= conf.max_rejected_frac * num_rows:
        return
    by_reason = {row[t.REASON]: row["count"] for row in bad.groupBy(t.REASON).count().collect()}
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(by_reason.items()))
    raise InputDataError(
        f"{file.name}: {num_rejected} of {num_rows} rows cannot be read ({reasons}); at most "
        f"{conf.max_rejected_frac:.0%} may (catalog.max_rejected_frac)"
    )


def _lines(file: CsvFile) -> Iterator[tuple[int, str]]:
    """A file's lines with their numbers, which Spark's splits do not know."""
    with storage.open_input(file.uri) as stream:
        for number, line in enumerate(io.BufferedReader(stream), start=1):
            yield number, bytes(line).decode("utf-8", "replace").rstrip("\r\n")


def _write_classes(
    context: JobContext,
    names: dict[str, str],
    parents: dict[str, tuple[str, ...]],
    state: str,
) -> None:
    boxes = context.lake.read(t.BOXES)
    counted = boxes.groupBy(t.LABEL_MID, t.SUBSET).count().collect()
    num_boxes: dict[tuple[str, Subset], int] = {
        (row[t.LABEL_MID], row[t.SUBSET]): int(row["count"]) for row in counted
    }
    rows = [
        (
            mid,
            name,
            list(parents.get(mid, ())),
            num_boxes.get((mid, "train"), 0),
            num_boxes.get((mid, "validation"), 0),
            num_boxes.get((mid, "test"), 0),
        )
        for mid, name in names.items()
    ]
    classes = context.spark.createDataFrame(rows, spark_schema(t.CLASSES.schema)).coalesce(1)
    note = {"state": state, "run_id": context.run_id}
    context.written[t.CLASSES.name] = context.lake.replace(classes, t.CLASSES, metadata=note)
    context.counts["classes"] = len(rows)
    context.counts["classes with boxes"] = len({mid for mid, _ in num_boxes})


def _conf_of(settings: Settings) -> list[Any]:
    """The settings and the files' sizes and times, so that a changed file is looked at again."""
    conf = settings.catalog
    sources = [conf.classes, conf.hierarchy, *conf.photos.values(), *conf.boxes.values()]
    own = [source for source in sources if urlsplit(source).scheme not in ("http", "https")]
    return [conf, [[source, storage.stamp(source)] for source in own]]


JOB = Job(
    name="ingest_catalog",
    run=run,
    writes=(t.CLASSES, t.PHOTOS, t.BOXES, t.REJECTED_ROWS),
    conf_of=_conf_of,
    of_dataset=False,
)
