"""Delta commits without Spark: of rows the driver holds, and of files that tasks have written."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import pyarrow as pa
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import (
    AddAction,
    CommitProperties,
    create_table_with_add_actions,
)

from croplake.data_files import DataFile
from croplake.reader import KEEP_LOG, delta_address, open_table, storage_options
from croplake.tables import Table

Rows = Sequence[Mapping[str, Any]]
MAX_TRIES: Final = 10
"""Runs that end at once each replace their own row; each time one of them comes through."""
_LONGEST_PAUSE_S: Final = 0.2
_NEW_TABLE: Final = {
    KEEP_LOG: "false",
    "delta.enableDeletionVectors": "false",  # readers outside Spark get plain files
    "delta.checkpointInterval": "10",  # Spark's own; delta-rs would wait for a hundred commits
}


def create_table(path: str, table: Table) -> None:
    """Makes an empty table; nothing where it exists.

    Args:
        path: its address.
        table: what it holds.
    """
    if _exists(path):
        return
    try:
        DeltaTable.create(
            delta_address(path),
            schema=table.schema,
            mode="ignore",
            partition_by=list(table.partition_by),
            configuration=_NEW_TABLE,
            storage_options=storage_options(),
        )
    except DeltaError:
        if not _exists(path):  # made by another run meanwhile
            raise


def commit_rows(
    rows: Rows,
    path: str,
    table: Table,
    *,
    mode: Literal["append", "overwrite"],
    where: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Writes rows in one commit; one that another got ahead of is tried again.

    Args:
        rows: value by column; a column that is not there is null.
        path: the table's address; it is made where it is not there.
        table: what it holds.
        mode: beside the rows that are there, or in their place.
        where: condition on the rows replaced; None replaces all.
        metadata: kept in the commit.
    """
    data = _arrow(rows, table)

    def write(exists: bool) -> None:
        # Where nothing is yet to be replaced, another run's first row may come in between.
        adds = where is not None and not exists
        options: dict[str, Any] = {
            "mode": "append" if adds else mode,
            "predicate": None if adds else where,
            "partition_by": list(table.partition_by) or None,
            "configuration": _NEW_TABLE,
            "storage_options": storage_options(),
            "commit_properties": _commit_properties(metadata),
        }
        write_deltalake(delta_address(path), data, **options)

    _try_until_first(path, write)


def commit_files(
    files: Sequence[DataFile],
    path: str,
    table: Table,
    partition: dict[str, str],
    metadata: dict[str, Any],
) -> None:
    """Puts files in the place of a partition's; one that another got ahead of is tried again.

    Args:
        files: all of the partition.
        path: the table's address; it is made where it is not there.
        table: what it holds.
        partition: value by partition column.
        metadata: kept in the commit.
    """
    now_ms = time.time_ns() // 1_000_000
    added = [
        AddAction(file.path, file.num_bytes, partition, now_ms, True, file.stats) for file in files
    ]
    partition_by, properties = list(table.partition_by), _commit_properties(metadata)

    def write(exists: bool) -> None:
        if exists:
            open_table(path).create_write_transaction(
                [*added],
                mode="overwrite",
                schema=table.schema,
                partition_by=partition_by,
                partition_filters=[(column, "=", value) for column, value in partition.items()],
                commit_properties=properties,
            )
        else:
            create_table_with_add_actions(
                delta_address(path),
                Schema.from_arrow(table.schema),
                added,
                partition_by=partition_by,
                configuration=_NEW_TABLE,
                storage_options=storage_options(),
                commit_properties=properties,
            )

    _try_until_first(path, write)


def _try_until_first(path: str, write: Callable[[bool], None]) -> None:
    """Commits; where another commit was faster, or has made the table, once more.

    Args:
        path: the table's address.
        write: commits once; is told whether the table is there.
    """
    for tries_left in reversed(range(MAX_TRIES)):
        exists = _exists(path)
        try:
            write(exists)
            return
        except DeltaError as error:
            may_pass = isinstance(error, CommitFailedError) or not exists
            if not (may_pass and tries_left):
                raise
            time.sleep(random.uniform(0, _LONGEST_PAUSE_S))


def _arrow(rows: Rows, table: Table) -> pa.Table:
    """Rows with exactly the table's columns.

    Raises:
        ValueError: a row has a column that the table does not declare.
    """
    for row in rows:
        if undeclared := row.keys() - set(table.columns):
            raise ValueError(f"table {table.name}: not declared {sorted(undeclared)}")
    columns = []
    for field in table.schema:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_map(field.type):
            values = [None if value is None else list(value.items()) for value in values]
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=table.schema)


def _commit_properties(metadata: dict[str, Any] | None) -> CommitProperties | None:
    """What is kept in a commit, where Spark keeps it too."""
    return CommitProperties({"userMetadata": json.dumps(metadata)}) if metadata else None


def _exists(path: str) -> bool:
    return DeltaTable.is_deltatable(delta_address(path), storage_options())
