"""A lake's tables in Spark: every write checked against its declared schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import pyarrow as pa
from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)
from delta.tables import DeltaTable as SparkDeltaTable
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from croplake import storage
from croplake.commits import MAX_TRIES, Rows, commit_files, commit_rows, create_table
from croplake.data_files import FILES, DataFile, write_rows
from croplake.errors import InputDataError
from croplake.reader import KEEP_LOG, LakeReader
from croplake.session import session_properties
from croplake.tables import SCHEMA_VERSION, Table

MARKER: Final = "_lake.json"
"""The file at a lake's root that carries its schema version."""
_CONFLICTS: Final = (
    DeltaConcurrentModificationException,
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    MetadataChangedException,
    ProtocolChangedException,
)
"""Another commit was faster; in Python the first of them is not the others' parent."""
_LARGE_BATCHES: Final = {
    "spark.sql.execution.arrow.maxRecordsPerBatch": 64 * 1024,
}
"""Rows of a hundred bytes: in the session's batches, which are for pictures, they take four times
as long."""


def spark_schema(schema: pa.Schema) -> StructType:
    """An Arrow schema as Spark's, all columns nullable."""
    return from_arrow_schema(schema)


class Lake:
    """A lake's tables for one Spark session.

    Attributes:
        root: its address.
        reader: the same tables without Spark; versions and file lists come from it.
    """

    def __init__(self, spark: SparkSession, root: str) -> None:
        self._spark = spark
        self.root = storage.absolute(root)
        self.reader = LakeReader(root)
        self._refuse_other_schema()

    def mark(self) -> None:
        """Leaves the lake's schema version at its root; whoever writes tables does so first."""
        marker = storage.join(self.root, MARKER)
        if not storage.exists(marker):
            content = json.dumps({"schema_version": SCHEMA_VERSION})
            storage.write_bytes(marker, content.encode())

    def path(self, table: Table) -> str:
        """The address of a table."""
        return storage.join(self.root, table.name)

    def exists(self, table: Table) -> bool:
        """Whether the table has been written."""
        return self.reader.exists(table.name)

    def version(self, table: Table) -> int:
        """The number of a table's last commit."""
        return self.reader.version(table.name)

    def read(self, table: Table, *, version: int | None = None) -> DataFrame:
        """A snapshot of a table.

        Raises:
            InputDataError: it has not been written; the text names the job that does.
        """
        self._refuse_missing(table)
        reader = self._spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return reader.load(self._spark_path(table))

    def scan(self, table: Table, *, version: int | None = None) -> DataFrame:
        """As `read`, but the list of files comes from delta-rs.

        It spares the JVM its first look into Delta's log, ten seconds of a session's first query.
        For the catalog's tables, of some hundred files at most: Spark looks at each of them.
        """
        self._refuse_missing(table)
        schema = spark_schema(table.schema)
        files = self.reader.files(table.name, version=version)
        if not files:
            return self._spark.createDataFrame([], schema)
        reader = self._spark.read.schema(schema)
        # Names of folders are no patterns, and what looks like a partition above the table is none.
        reader = reader.options(__globPaths__=False, basePath=self._spark_path(table))
        return reader.parquet(*(storage.for_spark(file) for file in files))

    def rows(self, table: Table, *, version: int | None = None) -> list[dict[str, Any]]:
        """A snapshot of a small table without Spark, value by column; errors as `read`."""
        self._refuse_missing(table)
        found: list[dict[str, Any]]
        found = self.reader.dataset(table.name, version=version).to_table().to_pylist()
        return found

    def create(self, table: Table) -> None:
        """Makes an empty table; nothing where it exists."""
        create_table(self.path(table), table)

    def add_rows(self, rows: Rows, table: Table) -> None:
        """Adds rows that the driver holds, in one commit; Spark would take a second for it.

        Args:
            rows: value by column; a column that is not there is null.
            table: where to.
        """
        commit_rows(rows, self.path(table), table, mode="append")

    def put_rows(
        self,
        rows: Rows,
        table: Table,
        *,
        where: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> int:
        """Puts rows that the driver holds in the place of others; else as `replace`."""
        commit_rows(rows, self.path(table), table, mode="overwrite", where=where, metadata=metadata)
        return self.version(table)

    def append(self, df: DataFrame, table: Table) -> None:
        """Adds rows, exactly the table's columns, in one commit."""
        self._writer(df, table, "append").save(self._spark_path(table))

    def replace(
        self,
        df: DataFrame,
        table: Table,
        *,
        where: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> int:
        """Puts rows in the place of a table's, or of those a condition names, in one commit.

        Where a condition is given, a commit that another one got ahead of is tried again.

        Args:
            df: exactly the table's columns.
            table: where to.
            where: condition that all rows of `df` hold, best on partition columns; None replaces
                all.
            metadata: kept in the commit.

        Returns:
            The version committed.
        """
        for tries_left in reversed(range(MAX_TRIES if where is not None else 1)):
            writer = self._writer(df, table, "overwrite")
            if where is not None and self.exists(table):
                writer = writer.option("replaceWhere", where)
            if metadata is not None:
                writer = writer.option("userMetadata", json.dumps(metadata))
            try:
                writer.save(self._spark_path(table))
                break
            except _CONFLICTS:
                if not tries_left:
                    raise
        return self.version(table)

    def replace_partition(
        self, df: DataFrame, table: Table, partition: dict[str, str], metadata: dict[str, Any]
    ) -> int:
        """Puts rows in the place of a partition's, in one commit.

        As `replace`, but tasks write the files from Arrow, and neither their writing nor the commit
        has the JVM's slow beginnings: for rows without pictures or other lists.

        Args:
            df: exactly the table's columns; those of the partition hold its values.
            table: where to; it is made where it is not there.
            partition: value by partition column.
            metadata: kept in the commit.

        Returns:
            The version committed.
        """
        rows = conform(df, table).drop(*partition)
        write = partial(write_rows, folder=self.path(table), table=table, partition=partition)
        with session_properties(self._spark, _LARGE_BATCHES):
            written = rows.mapInArrow(write, spark_schema(FILES)).collect()
        return self.put_files([DataFile(*row) for row in written], table, partition, metadata)

    def put_files(
        self,
        files: Sequence[DataFile],
        table: Table,
        partition: dict[str, str],
        metadata: dict[str, Any],
    ) -> int:
        """Puts files that tasks have written in the place of a partition's, in one commit.

        Args:
            files: all of the partition.
            table: where to; it is made where it is not there.
            partition: value by partition column.
            metadata: kept in the commit.

        Returns:
            The version committed.
        """
        commit_files(files, self.path(table), table, partition, metadata)
        return self.version(table)

    def delete(self, table: Table, where: str) -> None:
        """Takes rows that a condition names out of a table, in one commit; none is no commit."""
        SparkDeltaTable.forPath(self._spark, self._spark_path(table)).delete(where)

    def update(self, table: Table, where: str, values: dict[str, str]) -> None:
        """Changes rows that a condition names, in one commit.

        Args:
            table: which.
            where: condition.
            values: by column, as SQL.
        """
        SparkDeltaTable.forPath(self._spark, self._spark_path(table)).update(where, dict(values))

    def keep_log(self, table: Table) -> None:
        """Tells Delta to leave a table's log alone; tables of older lakes were made without that.

        Delta would drop old entries at its next checkpoint, and with them versions that a model
        was trained on.
        """
        if self.exists(table) and not self.reader.keeps_log(table.name):
            properties = f"('{KEEP_LOG}' = 'false')"
            self._spark.sql(f"ALTER TABLE {self.sql_name(table)} SET TBLPROPERTIES {properties}")

    def sql_name(self, table: Table) -> str:
        """The table as SQL names it."""
        return "delta.`{}`".format(self._spark_path(table).replace("`", "``"))

    def _refuse_missing(self, table: Table) -> None:
        if not self.exists(table):
            raise InputDataError(
                f"{self.root}: the lake has no table {table.name}; the job that writes it comes "
                "first (croplake run does all in order)"
            )

    def _spark_path(self, table: Table) -> str:
        return storage.for_spark(self.path(table))

    def _writer(self, df: DataFrame, table: Table, mode: str) -> DataFrameWriter:
        writer = conform(df, table).write.format("delta").mode(mode)
        return writer.partitionBy(*table.partition_by) if table.partition_by else writer

    def _refuse_other_schema(self) -> None:
        marker = storage.join(self.root, MARKER)
        if not storage.exists(marker):
            return
        found = json.loads(storage.read_bytes(marker)).get("schema_version")
        if found != SCHEMA_VERSION:
            raise InputDataError(
                f"{self.root}: the lake has schema version {found}, this croplake writes "
                f"{SCHEMA_VERSION}; use the croplake that made it, or another lake.root"
            )


def conform(df: DataFrame, table: Table) -> DataFrame:
    """The frame's columns in the table's order, its schema checked.

    Raises:
        ValueError: a column is missing, too many, or of another type.
    """
    expected = spark_schema(table.schema)
    found = {field.name: field.dataType for field in df.schema.fields}
    missing = [name for name in expected.names if name not in found]
    extra = [name for name in found if name not in expected.names]
    wrong = [
        f"{field.name} is {found[field.name].simpleString()}, not {field.dataType.simpleString()}"
        for field in expected.fields
        if field.name in found and found[field.name].simpleString() != field.dataType.simpleString()
    ]
    if missing or extra or wrong:
        raise ValueError(
            f"table {table.name}: missing {missing}, not declared {extra}, wrong {wrong}"
        )
    return df.select(*expected.names)
