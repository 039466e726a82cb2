"""Delta reads and commits through Spark: every write checked against its declared schema."""

from __future__ import annotations

import json
from typing import Final

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
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from croplake import storage
from croplake.errors import InputDataError
from croplake.reader import KEEP_LOG, LakeReader
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
_MAX_TRIES: Final = 10
"""Runs that end at once each replace their own row; each time one of them comes through."""


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
        self._check_marker()

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
        if not self.exists(table):
            raise InputDataError(
                f"{self.root}: the lake has no table {table.name}; the job that writes it comes "
                "first (croplake run does all in order)"
            )
        reader = self._spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return reader.load(self._spark_path(table))

    def create(self, table: Table) -> None:
        """Makes an empty table; nothing where it exists."""
        if not self.exists(table):
            empty = self._spark.createDataFrame([], spark_schema(table.schema))
            self._writer(empty, table, "append").save(self._spark_path(table))

    def append(self, df: DataFrame, table: Table) -> None:
        """Adds rows, exactly the table's columns, in one commit."""
        self._writer(df, table, "append").save(self._spark_path(table))

    def replace(
        self,
        df: DataFrame,
        table: Table,
        *,
        where: str | None = None,
        metadata: dict[str, str] | None = None,
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
        for tries_left in reversed(range(_MAX_TRIES if where is not None else 1)):
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

    def restore(self, table: Table, version: int | None) -> None:
        """Brings a table back to an earlier version, as a new one; None is before its first row."""
        delta = DeltaTable.forPath(self._spark, self._spark_path(table))
        if version is None:
            delta.delete()
        else:
            delta.restoreToVersion(version)

    def delete(self, table: Table, where: str) -> None:
        """Takes rows that a condition names out of a table, in one commit; none is no commit."""
        DeltaTable.forPath(self._spark, self._spark_path(table)).delete(where)

    def update(self, table: Table, where: str, values: dict[str, str]) -> None:
        """Changes rows that a condition names, in one commit.

        Args:
            table: which.
            where: condition.
            values: by column, as SQL.
        """
        DeltaTable.forPath(self._spark, self._spark_path(table)).update(where, dict(values))

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

    def _spark_path(self, table: Table) -> str:
        return storage.for_spark(self.path(table))

    def _writer(self, df: DataFrame, table: Table, mode: str) -> DataFrameWriter:
        writer = conform(df, table).write.format("delta").mode(mode)
        return writer.partitionBy(*table.partition_by) if table.partition_by else writer

    def _check_marker(self) -> None:
        marker = storage.join(self.root, MARKER)
        if not storage.exists(marker):
            content = json.dumps({"schema_version": SCHEMA_VERSION})
            storage.write_bytes(marker, content.encode())
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
