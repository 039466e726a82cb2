"""Reads the published CSVs into the catalog: classes, photos, boxes, and unreadable rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from croplake import storage, summary
from croplake import tables as t
from croplake.catalog.classes import parse_classes, parse_parents
from croplake.catalog.formats import SUBSETS, Subset
from croplake.catalog.sources import CsvFile, check_boxes_csv, check_photos_csv, obtain
from croplake.conf import Settings
from croplake.jobs.context import Job, JobContext
from croplake.jobs.ingest_notes import ALL, landed, note, state_of
from croplake.jobs.ingest_parts import land, part_of
from croplake.tables import Table


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
    before = landed(context)
    with ThreadPoolExecutor() as pool:
        parts = [part_of(*file, class_names, pool) for file in files]
        # Of what is read for the first time the fingerprint is not waited for.
        due = [
            part
            for part in parts
            if (state := before.get((part.table.name, part.subset))) is None or state != part.state
        ]
        if due:
            land(context, parts, due)
    _say_what_stays(context, files)
    classes_state = state_of(*class_texts)
    if not due and before.get((t.CLASSES.name, ALL)) == classes_state:
        _say_nothing_changed(context, len(parts))
        return
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


def _say_what_stays(context: JobContext, files: list[tuple[Table, Subset, CsvFile]]) -> None:
    named = {(table, subset) for table, subset, _ in files}
    for table in (t.PHOTOS, t.BOXES):
        for subset in SUBSETS:
            rows = context.lake.reader.info(table.name, partition={t.SUBSET: subset}).rows
            if rows and (table, subset) not in named:
                summary.warn(
                    context.console,
                    f"{table.name}: {rows:,} rows of {subset} stay in the lake, though the "
                    f"settings name no file of them (catalog.{table.name}.{subset}); "
                    "dataset.subsets leaves them out",
                )


def _say_nothing_changed(context: JobContext, num_files: int) -> None:
    for table in JOB.writes:
        context.written[table.name] = context.lake.version(table)
    context.counts["files that had not changed"] = num_files
    context.console.print(
        f"ingest_catalog: nothing to do, the {num_files} files are those that are in the catalog",
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
    told = note(context, t.CLASSES, ALL, state)
    context.written[t.CLASSES.name] = context.lake.put_rows(rows, t.CLASSES, metadata=told)
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
