"""Removing files that no kept version of a table needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Final

import pyarrow as pa
from pyspark.sql import SparkSession

from croplake import storage
from croplake import tables as t
from croplake.care.photo_files import FILES_SCHEMA, files_with_photos
from croplake.care.pins import Pin, pinned_files
from croplake.lake import Lake, spark_schema
from croplake.session import session_properties
from croplake.storage import FoundFile
from croplake.tables import Table

TABLES_WITH_BYTES: Final = (t.CROPS, t.EXAMPLES, t.EMBEDDINGS)
"""The tables whose files hold parts of photos, or what a network made of them."""

_INVENTORY: Final = "path string, length long, isDir boolean, modificationTime long"
_VIEW: Final = "croplake_vacuum_inventory"
_PROPERTIES: Final = {
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    # Delta 4.4 takes RETAIN n HOURS for the table's own property unless n is 0 or this says no.
    "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
    # Each vacuum would add two versions to the table, also where there is nothing to remove.
    "spark.databricks.delta.vacuum.logging.enabled": "false",
}


@dataclass(frozen=True)
class VacuumPlan:
    """What goes from a table's folder.

    Attributes:
        expired: old files outside the last version that no pinned version needs; those go that
            left the table long enough ago, as its log says.
        forgotten: files outside the last version with rows of forgotten photos, of any age.
        losing: pins of models whose versions lose files thereby, and which.
        waiting: pins of running jobs that still read files with forgotten photos.
        lost: pins whose versions cannot be read any more.
        kept: pins that keep files which would go without them.
    """

    expired: tuple[FoundFile, ...] = ()
    forgotten: tuple[FoundFile, ...] = ()
    losing: dict[Pin, list[str]] = field(default_factory=dict)
    waiting: tuple[Pin, ...] = ()
    lost: tuple[Pin, ...] = ()
    kept: tuple[Pin, ...] = ()


@dataclass
class _Sorting:
    expired: list[FoundFile] = field(default_factory=list)
    forgotten: list[FoundFile] = field(default_factory=list)
    losing: dict[Pin, list[str]] = field(default_factory=dict)
    waiting: set[Pin] = field(default_factory=set)
    kept: set[Pin] = field(default_factory=set)


def plan_vacuum(
    spark: SparkSession,
    lake: Lake,
    table: Table,
    pins: Iterable[Pin],
    *,
    retention_hours: int,
    image_ids: frozenset[str],
) -> VacuumPlan:
    """Finds the files that nobody needs; the caller holds the table's lock.

    A photo that was to be forgotten wins over age and over models: files with rows of it go. Only a
    job that reads them at this moment keeps them, until it has ended.

    Args:
        spark: the session.
        lake: of the table.
        table: which.
        pins: of the table.
        retention_hours: younger files and versions stay.
        image_ids: of the forgotten photos.
    """
    unused = unused_files(lake, table)
    if not unused:
        return VacuumPlan()
    pinned, lost = pinned_files(lake, pins)
    of_photos: frozenset[str] = frozenset()
    if image_ids and table in TABLES_WITH_BYTES:
        of_photos = find_files_with_photos(spark, lake, table, unused, image_ids)
    sure_to_stay = datetime.now(UTC) - timedelta(hours=retention_hours)
    sorting = _Sorting()
    for file in unused:
        readers = pinned.get(file.path, [])
        running = [pin for pin in readers if pin.is_running]
        if file.path in of_photos and running:
            sorting.waiting |= set(running)
        elif file.path in of_photos:
            sorting.forgotten.append(file)
            for pin in readers:
                sorting.losing.setdefault(pin, []).append(file.path)
        elif readers:
            sorting.kept |= set(readers)
        elif file.changed_at < sure_to_stay:
            sorting.expired.append(file)
    return VacuumPlan(
        expired=tuple(sorting.expired),
        forgotten=tuple(sorting.forgotten),
        losing={pin: sorting.losing[pin] for pin in _in_order(sorting.losing)},
        waiting=_in_order(sorting.waiting),
        lost=tuple(lost),
        kept=_in_order(sorting.kept),
    )


def vacuum(
    spark: SparkSession,
    lake: Lake,
    table: Table,
    plan: VacuumPlan,
    *,
    retention_hours: int,
    dry_run: bool = False,
) -> tuple[FoundFile, ...]:
    """Removes what was planned; the caller holds the table's lock since before the plan.

    Delta's own VACUUM does it, from an inventory of just these files, so that it never takes one
    that the last version needs.

    Returns:
        What went, or with `dry_run` would go.
    """
    parts = ((plan.expired, retention_hours), (plan.forgotten, 0))
    named: set[str] = set()
    for files, hours in parts:
        if files:
            named |= _delta_vacuum(spark, lake, table, files, hours, dry_run=dry_run)
    all_files = [file for files, _ in parts for file in files]
    if dry_run or not all_files:
        return tuple(file for file in all_files if _qualified(lake, table, file.path) in named)
    left = {file.path for file in _data_files(lake, table)}
    return tuple(file for file in all_files if file.path not in left)


def find_files_with_photos(
    spark: SparkSession,
    lake: Lake,
    table: Table,
    files: Iterable[FoundFile],
    image_ids: frozenset[str],
) -> frozenset[str]:
    """Looks into files for rows of photos, on all slots; reads one column of them."""
    paths = [(file.path,) for file in files]
    if not paths or not image_ids:
        return frozenset()
    folder = lake.path(table)

    def find(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return files_with_photos(batches, folder=folder, image_ids=image_ids)

    slots = spark.sparkContext.defaultParallelism
    listed = spark.createDataFrame(paths, spark_schema(FILES_SCHEMA))
    spread = listed.repartition(max(1, min(slots * 4, len(paths))))
    return frozenset(row[t.PATH] for row in spread.mapInArrow(find, listed.schema).collect())


def unused_files(lake: Lake, table: Table) -> list[FoundFile]:
    """A table's files that its last version does not need."""
    current = lake.reader.file_sizes(table.name)
    return [file for file in _data_files(lake, table) if file.path not in current]


def _data_files(lake: Lake, table: Table) -> list[FoundFile]:
    """A table's files without its log, and without what hidden folders hold."""
    return [
        file
        for file in storage.files_below(lake.path(table))
        if not any(part.startswith(("_", ".")) for part in PurePosixPath(file.path).parts)
    ]


def _delta_vacuum(
    spark: SparkSession,
    lake: Lake,
    table: Table,
    files: Iterable[FoundFile],
    retention_hours: int,
    *,
    dry_run: bool,
) -> set[str]:
    files = list(files)
    rows = [
        (_qualified(lake, table, file.path), file.bytes, False, _millis(file)) for file in files
    ]
    # Without a row of its own, Delta takes a folder of one listed file for an empty one.
    folders = {parent for file in files for parent in PurePosixPath(file.path).parents}
    rows += [
        (_qualified(lake, table, str(folder)), 0, True, 0)
        for folder in folders
        if str(folder) != "."
    ]
    spark.createDataFrame(rows, _INVENTORY).createOrReplaceTempView(_VIEW)
    inventory = f"USING INVENTORY (SELECT * FROM {_VIEW})"  # noqa: S608  # a name of ours
    command = f"VACUUM {lake.sql_name(table)} {inventory} RETAIN {retention_hours} HOURS"
    if dry_run:
        command += " DRY RUN"
    try:
        with session_properties(spark, _PROPERTIES):
            return {row["path"] for row in spark.sql(command).collect()}
    finally:
        spark.catalog.dropTempView(_VIEW)


def _qualified(lake: Lake, table: Table, path: str) -> str:
    """A file's address as Hadoop prints it: one slash after `file:`, nothing encoded."""
    folder = storage.for_spark(lake.path(table))
    return f"{folder.replace('file:///', 'file:/', 1)}/{path}"


def _millis(file: FoundFile) -> int:
    return int(file.changed_at.timestamp() * 1000)


def _in_order(pins: Iterable[Pin]) -> tuple[Pin, ...]:
    return tuple(sorted(pins, key=lambda pin: (pin.version, pin.reader)))
