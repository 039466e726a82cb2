"""Checks of what lies on the disk and in the logs, without looking at rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from croplake import storage
from croplake import tables as t
from croplake.care.findings import Check, Scope
from croplake.care.losses import explained_losses
from croplake.care.vacuum import TABLES_WITH_BYTES, find_files_with_photos, unused_files
from croplake.errors import InputDataError
from croplake.lake import MARKER, spark_schema
from croplake.tables import Table


def find_wrong_marker(root: str) -> list[str]:
    """What is wrong with the marker of a lake's schema version."""
    marker = storage.join(storage.absolute(root), MARKER)
    if not storage.exists(marker):
        return [f"{MARKER} is missing"]
    try:
        found = json.loads(storage.read_bytes(marker)).get("schema_version")
    except (ValueError, AttributeError):
        return [f"{MARKER} is no JSON object"]
    if found != t.SCHEMA_VERSION:
        return [f"{MARKER} says {found}, this croplake knows {t.SCHEMA_VERSION}"]
    return []


def existing_tables(scope: Scope) -> list[Table]:
    """The tables that have been written."""
    return [table for table in t.ALL_TABLES if scope.lake.exists(table)]


def wrong_schema(scope: Scope, table: Table) -> Iterator[str]:
    """How a table's columns and partitions differ from the declared ones."""
    declared = spark_schema(table.schema)
    fields = scope.lake.read(table).schema.fields
    found = {field.name: field.dataType.simpleString() for field in fields}
    wanted = {field.name: field.dataType.simpleString() for field in declared.fields}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            kind, other = wanted.get(name, "not there"), found.get(name, "missing")
            yield f"{table.name}.{name} is {other}, declared {kind}"
    partitions = scope.lake.reader.partition_columns(table.name)
    if partitions != list(table.partition_by):
        yield f"{table.name} is partitioned by {partitions}, declared {list(table.partition_by)}"


def _find_wrong_schemas(scope: Scope) -> Iterator[str]:
    for table in existing_tables(scope):
        yield from wrong_schema(scope, table)


def _find_features(scope: Scope) -> Iterator[str]:
    for table in existing_tables(scope):
        properties = scope.lake.reader.properties(table.name)
        if properties.get("delta.enableDeletionVectors") == "true":
            yield f"{table.name}: deletion vectors are on"
        if properties.get("delta.columnMapping.mode", "none") != "none":
            yield f"{table.name}: column mapping is on"


def _find_cleaned_logs(scope: Scope) -> Iterator[str]:
    for table in existing_tables(scope):
        if not scope.lake.reader.keeps_log(table.name):
            yield f"{table.name}: Delta would drop old log entries; lake maintain ends that"


def missing_files(scope: Scope, table: Table, version: int | None = None) -> Iterator[str]:
    """The files of a version that are not there, or not of the size that its log says."""
    there = {file.path: file.bytes for file in storage.files_below(scope.lake.path(table))}
    label = table.name if version is None else f"{table.name} version {version}"
    for path, size in scope.lake.reader.file_sizes(table.name, version=version).items():
        if path not in there:
            yield f"{label}: {path} is missing"
        elif there[path] != size:
            yield f"{label}: {path} has {there[path]} bytes, its log says {size}"


def _find_missing_files(scope: Scope) -> Iterator[str]:
    for table in existing_tables(scope):
        yield from missing_files(scope, table)
        explained = explained_losses(scope.lake, scope.readers.of(table))
        for version in sorted({pin.version for pin in scope.readers.of(table)}):
            try:
                broken = list(missing_files(scope, table, version))
            except InputDataError as error:
                broken = [str(error)]
            readers = ", ".join(
                pin.reader for pin in scope.readers.of(table) if pin.version == version
            )
            for text in broken:
                if not any(f": {path} is missing" in text for path in explained):
                    yield f"{text} (read by {readers})"


def _find_dead_runs(scope: Scope) -> Iterator[str]:
    for run in scope.readers.dead:
        yield f"{run[t.JOB]} {run[t.RUN_ID]}: killed; croplake lake maintain ends its row"


def _find_forgotten_files(scope: Scope) -> Iterator[str]:
    forgotten = scope.lake.read(t.FORGOTTEN_PHOTOS).select(t.IMAGE_ID).distinct().collect()
    image_ids = frozenset(row[t.IMAGE_ID] for row in forgotten)
    for table in TABLES_WITH_BYTES:
        if scope.lake.exists(table):
            files = unused_files(scope.lake, table)
            found = find_files_with_photos(scope.spark, scope.lake, table, files, image_ids)
            for path in found:
                yield f"{table.name}: {path}; croplake lake maintain removes it"


MARKER_CHECK: Final = Check(
    "schema_version", "the lake carries the schema version of this croplake", lambda scope: ()
)
FILE_CHECKS: Final = (
    Check(
        "schemas",
        "every table has the columns and partitions that are declared",
        _find_wrong_schemas,
    ),
    Check(
        "plain_tables",
        "no deletion vectors and no column mapping, so that any reader will do",
        _find_features,
    ),
    Check(
        "log_retention",
        "log entries go by lake maintain alone, which knows whose versions they are",
        _find_cleaned_logs,
    ),
    Check(
        "files",
        "every file of the last version, and of those that models and running jobs read, is there",
        _find_missing_files,
    ),
    Check("runs_end", "every run that is not under way has ended", _find_dead_runs, (t.RUNS,)),
    Check(
        "forgotten_files",
        "no file on the disk, of whatever version, holds a forgotten photo",
        _find_forgotten_files,
        (t.FORGOTTEN_PHOTOS,),
    ),
)
