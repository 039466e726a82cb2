"""Reads the published CSVs into the catalog: classes, photos, boxes, and unreadable rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage, summary
from croplake import tables as t
from croplake.catalog.classes import parse_classes, parse_parents
from croplake.catalog.formats import Subset
from croplake.catalog.sources import CsvFile, check_boxes_csv, check_photos_csv, obtain
from croplake.catalog.transforms import (
    LINE_TEXT,
    merge_equal,
    parse_lines,
    type_boxes,
    type_photos,
)
from croplake.conf import CatalogConf, Settings
from croplake.errors import InputDataError
from croplake.jobs.context import Job, JobContext
from croplake.lake import spark_schema


@dataclass(frozen=True)
class _Typed:
    """One file's typed rows, good ones and others."""

    file: CsvFile
    rows: DataFrame

    @property
    def good(self) -> DataFrame:
        return self.rows.where(F.col(t.REASON).isNull()).drop(LINE_TEXT, t.REASON)


def run(context: JobContext) -> None:
    """CSV files or addresses → `classes`, `photos`, `boxes`, `rejected_rows`."""
    conf = context.settings.catalog
    limits = context.http_limits()
    folder = storage.join(context.lake.root, "_sources")

    def at(source: str) -> str:
        return obtain(source, folder, limits)

    class_names = parse_classes(_text(at(conf.classes)), conf.classes)
    parents = parse_parents(_text(at(conf.hierarchy)), conf.hierarchy)
    photos = [
        _typed(context, check_photos_csv(name, at(name)), type_photos, subset)
        for subset, name in conf.photos.items()
    ]
    boxes = [
        _typed(context, check_boxes_csv(name, at(name)), type_boxes, subset, list(class_names))
        for subset, name in conf.boxes.items()
    ]
    _write_rejected(context, photos + boxes)
    _write_photos(context, photos)
    _write_boxes(context, boxes)
    _write_classes(context, class_names, parents)
    summary.print_counts(context.console, "ingest_catalog", context.counts)


def _text(uri: str) -> str:
    return storage.read_bytes(uri).decode("utf-8", "replace")


def _typed(
    context: JobContext,
    file: CsvFile,
    to_rows: Callable[..., DataFrame],
    *args: Any,  # noqa: ANN401
) -> _Typed:
    lines = context.spark.read.text(storage.for_spark(file.uri))
    return _Typed(file, to_rows(parse_lines(lines, file), *args))


def _union(parts: list[_Typed]) -> DataFrame:
    rows = parts[0].good
    for part in parts[1:]:
        rows = rows.unionByName(part.good)
    return rows


def _write_photos(context: JobContext, parts: list[_Typed]) -> None:
    photos = merge_equal(_union(parts), [t.IMAGE_ID], t.PHOTOS.columns)
    context.written[t.PHOTOS.name] = context.lake.replace(photos, t.PHOTOS)
    context.counts["photos"] = context.lake.reader.info(t.PHOTOS.name).rows


def _write_boxes(context: JobContext, parts: list[_Typed]) -> None:
    """Lays boxes out by class, so that a dataset reads only its own."""
    # Ranges of classes hold equal boxes together, so merging them needs no second shuffle.
    by_class = _union(parts).repartitionByRange(t.LABEL_MID)
    merged = merge_equal(by_class, [t.LABEL_MID, t.BOX_ID], t.BOXES.columns)
    laid_out = merged.sortWithinPartitions(t.LABEL_MID, t.IMAGE_ID)
    context.written[t.BOXES.name] = context.lake.replace(laid_out, t.BOXES)
    num_boxes = context.lake.reader.info(t.BOXES.name).rows
    context.counts["boxes"] = num_boxes
    context.counts["equal boxes merged"] = context.counts.pop("box rows read") - num_boxes


def _write_rejected(context: JobContext, parts: list[_Typed]) -> None:
    """Keeps unreadable rows aside with their place and reason.

    Raises:
        InputDataError: so many rows of a file are unreadable that it cannot be what it should be.
    """
    found: list[tuple[str, int, str, str]] = []
    context.counts["box rows read"] = 0
    for part in parts:
        by_reason = {
            row[t.REASON]: int(row["count"])
            for row in part.rows.groupBy(t.REASON).count().collect()
        }
        num_good = by_reason.pop(None, 0)
        if t.BOX_ID in part.rows.columns:
            context.counts["box rows read"] += num_good
        num_bad = sum(by_reason.values())
        _refuse_if_hopeless(part.file, num_good, by_reason, context.settings.catalog)
        for reason, count in by_reason.items():
            name = f"rejected: {reason}"
            context.counts[name] = context.counts.get(name, 0) + count
        if num_bad:
            found += _with_line_numbers(part)
    rows = context.spark.createDataFrame(found, spark_schema(t.REJECTED_ROWS.schema))
    context.written[t.REJECTED_ROWS.name] = context.lake.replace(rows, t.REJECTED_ROWS)


def _refuse_if_hopeless(
    file: CsvFile, num_good: int, by_reason: dict[str, int], conf: CatalogConf
) -> None:
    num_bad = sum(by_reason.values())
    if num_bad <= 100 or num_bad <= conf.max_rejected_frac * (num_good + num_bad):
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(by_reason.items()))
    raise InputDataError(
        f"{file.name}: {num_bad} of {num_good + num_bad} rows cannot be read ({reasons}); at most "
        f"{conf.max_rejected_frac:.0%} may (catalog.max_rejected_frac)"
    )


def _with_line_numbers(part: _Typed) -> Iterator[tuple[str, int, str, str]]:
    """Looks up where rejected lines stand: Spark's splits do not know line numbers."""
    bad = part.rows.where(F.col(t.REASON).isNotNull()).select(LINE_TEXT, t.REASON)
    reasons = {row[LINE_TEXT]: row[t.REASON] for row in bad.collect()}
    with storage.open_input(part.file.uri) as stream:
        for number, line in enumerate(io.BufferedReader(stream), start=1):
            text = bytes(line).decode("utf-8", "replace").rstrip("\r\n")
            if text in reasons:
                yield part.file.name, number, text, reasons[text]


def _write_classes(
    context: JobContext, names: dict[str, str], parents: dict[str, tuple[str, ...]]
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
    context.written[t.CLASSES.name] = context.lake.replace(classes, t.CLASSES)
    context.counts["classes"] = len(rows)
    context.counts["classes with boxes"] = len({mid for mid, _ in num_boxes})


def _conf_of(settings: Settings) -> list[Any]:
    """The settings and the local files' sizes, so that a changed file is read again."""
    conf = settings.catalog
    sources = [conf.classes, conf.hierarchy, *conf.photos.values(), *conf.boxes.values()]
    local = [source for source in sources if storage.is_local(source)]
    return [conf, [[source, storage.size_bytes(source)] for source in local]]


JOB = Job(
    name="ingest_catalog",
    run=run,
    writes=(t.CLASSES, t.PHOTOS, t.BOXES, t.REJECTED_ROWS),
    conf_of=_conf_of,
    of_dataset=False,
)
