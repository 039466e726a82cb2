"""The lake for readers in Python, without Spark and without Java."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.dataset as pads
from deltalake import DeltaTable

from croplake import storage
from croplake.errors import InputDataError, SettingsError
from croplake.tables import ALL_TABLES, Table

KEEP_LOG: Final = "delta.enableExpiredLogCleanup"
"""The table property that is `false` where Delta leaves old log entries alone."""

_ENCODED: Final = re.compile("%[0-9A-Fa-f]{2}")
_S3: Final = re.compile("s3a?://(.*)", re.IGNORECASE | re.DOTALL)
_BY_NAME = {table.name: table for table in ALL_TABLES}


@dataclass(frozen=True)
class TableInfo:
    """What a table is now.

    Attributes:
        name: of the table.
        path: its address.
        version: of its last commit.
        rows: in that version.
        bytes: of that version's files.
        changed_at: when that version was committed, UTC.
    """

    name: str
    path: str
    version: int
    rows: int
    bytes: int
    changed_at: datetime


class LakeReader:
    """A lake's tables, their versions and their rows as pyarrow datasets."""

    def __init__(self, root: str) -> None:
        self.root = storage.absolute(root)
        if _ENCODED.search(storage.for_spark(self.root)):
            raise SettingsError(
                f"{root}: delta-rs reads a percent sign before two hex digits as another sign; "
                "expected a lake whose path has none"
            )

    def path(self, name: str) -> str:
        """The address of a table, whether it exists or not."""
        return storage.join(self.root, _table(name).name)

    def exists(self, name: str) -> bool:
        """Whether the table has been written."""
        return DeltaTable.is_deltatable(delta_address(self.path(name)), storage_options())

    def check_is_lake(self) -> None:
        """Makes sure that somebody has written here.

        Raises:
            InputDataError: there is no table.
        """
        if not any(self.exists(table.name) for table in ALL_TABLES):
            raise InputDataError(
                f"{self.root}: no lake is there, no table was ever written; is lake.root right?"
            )

    def tables(self) -> list[TableInfo]:
        """Every table that has been written, in the order the data takes."""
        return [self.info(table.name) for table in ALL_TABLES if self.exists(table.name)]

    def info(self, name: str, *, partition: dict[str, str] | None = None) -> TableInfo:
        """A table's version, size and age.

        Args:
            name: of the table.
            partition: partition columns and the value each counted file must have.

        Raises:
            InputDataError: there is no such table.
        """
        delta = self._open(name, None)
        files = delta.get_add_actions(flatten=True)
        counted = set(range(files.num_rows))
        for column, wanted in (partition or {}).items():
            values = files.column(f"partition.{column}").to_pylist()
            counted = {number for number in counted if str(values[number]).lower() == wanted}
        rows, sizes = (files.column(name).to_pylist() for name in ("num_records", "size_bytes"))
        return TableInfo(
            name=name,
            path=self.path(name),
            version=delta.version(),
            rows=sum(rows[number] for number in counted),
            bytes=sum(sizes[number] for number in counted),
            changed_at=datetime.fromtimestamp(delta.history(1)[0]["timestamp"] / 1000, UTC),
        )

    def version(self, name: str) -> int:
        """The number of a table's last commit.

        Raises:
            InputDataError: there is no such table.
        """
        return int(self._open(name, None).version())

    def notes(self, name: str) -> list[dict[str, Any]]:
        """What commits were given to keep (`Lake.put_files`), the last commit's first.

        Commits without such a note, and those whose log entries are gone, are left out.

        Raises:
            InputDataError: there is no such table.
        """
        kept = (entry.get("userMetadata") for entry in self._open(name, None).history())
        return [json.loads(note) for note in kept if note]

    def files(
        self, name: str, *, version: int | None = None, partition: dict[str, str] | None = None
    ) -> list[str]:
        """The Parquet files of a snapshot.

        Args:
            name: of the table.
            version: of the snapshot; None is the last.
            partition: partition columns and the value each file must have.

        Returns:
            Addresses, sorted; partition columns stand in the paths only (`column=value/`).

        Raises:
            InputDataError: there is no such table or version.
        """
        wanted = [(column, "=", value) for column, value in (partition or {}).items()]
        delta = self._open(name, version)
        files = delta.file_uris(file_pruning_predicate=wanted or None)
        # delta-rs percent-encodes the root, and it alone; of local files it leaves out the scheme.
        encoded_root = delta.table_uri.removeprefix("file://")
        paths = sorted(file.removeprefix(encoded_root).lstrip("/") for file in files)
        if not storage.is_local(self.root):
            return [storage.join(self.path(name), path) for path in paths]
        folder = storage.local_path(self.path(name))
        return [str(folder / path) for path in paths]

    def file_sizes(
        self, name: str, *, version: int | None = None, partition: dict[str, str] | None = None
    ) -> dict[str, int]:
        """The Parquet files of a snapshot as its log lists them.

        Args:
            name: of the table.
            version: of the snapshot; None is the last.
            partition: partition columns and the value each file must have.

        Returns:
            Path in the table's folder to its bytes.

        Raises:
            InputDataError: there is no such table or version.
        """
        actions = self._open(name, version).get_add_actions(flatten=True)
        paths = [unquote(path) for path in actions.column("path").to_pylist()]
        sizes = dict(zip(paths, actions.column("size_bytes").to_pylist(), strict=True))
        for column, wanted in (partition or {}).items():
            values = actions.column(f"partition.{column}").to_pylist()
            others = {path for path, value in zip(paths, values, strict=True) if value != wanted}
            sizes = {path: size for path, size in sizes.items() if path not in others}
        return sizes

    def lost_files(
        self, name: str, *, version: int | None = None, partition: dict[str, str] | None = None
    ) -> list[str]:
        """The files of a snapshot that are not there any more, as paths in the table's folder.

        Raises:
            InputDataError: there is no such table or version.
        """
        there = {file.path for file in storage.files_below(self.path(name))}
        return [
            path
            for path in self.file_sizes(name, version=version, partition=partition)
            if path not in there
        ]

    def table_id(self, name: str) -> str:
        """What Delta calls the table: another one at the same place has another id.

        Raises:
            InputDataError: there is no such table.
        """
        return str(self._open(name, None).metadata().id)

    def partition_columns(self, name: str) -> list[str]:
        """The columns a table is partitioned by, outermost first.

        Raises:
            InputDataError: there is no such table.
        """
        return list(self._open(name, None).metadata().partition_columns)

    def properties(self, name: str) -> dict[str, str]:
        """The table properties that are set, by name.

        Raises:
            InputDataError: there is no such table.
        """
        found = self._open(name, None).metadata().configuration
        return {key: str(value) for key, value in found.items()}

    def keeps_log(self, name: str) -> bool:
        """Whether Delta leaves a table's log alone.

        Raises:
            InputDataError: there is no such table.
        """
        return self.properties(name).get(KEEP_LOG) == "false"

    def dataset(self, name: str, *, version: int | None = None) -> pads.Dataset:
        """A snapshot as a pyarrow dataset, partition columns included.

        Args:
            name: of the table.
            version: of the snapshot; None is the last.

        Returns:
            A dataset with the table's declared schema; `to_table(columns=…, filter=…)` reads it.

        Raises:
            InputDataError: there is no such table or version.
        """
        table = _table(name)
        files = self.files(name, version=version)
        if not files:
            return pads.dataset(table.schema.empty_table())
        keys = pa.schema([table.schema.field(column) for column in table.partition_by])
        partitioning = pads.partitioning(keys, flavor="hive") if table.partition_by else None
        system, (folder, *paths) = storage.on_filesystem([self.path(name), *files])
        return pads.dataset(
            paths,
            schema=table.schema,
            format="parquet",
            partitioning=partitioning,
            partition_base_dir=folder,  # above it, `subset=train` is a folder like any other
            filesystem=system,
        )

    def count_by(
        self,
        name: str,
        columns: Sequence[str],
        *,
        version: int | None = None,
        where: pads.Expression | None = None,
    ) -> Counter[tuple[Any, ...]]:
        """How many rows of a snapshot have the same values.

        Args:
            name: of the table.
            columns: whose values are told apart, a few.
            version: of the snapshot; None is the last.
            where: which rows are counted; None is all.

        Returns:
            Values, in the order of the columns, to rows.

        Raises:
            InputDataError: there is no such table or version.
        """
        keys = list(columns)
        found: Counter[tuple[Any, ...]] = Counter()
        rows = self.dataset(name, version=version)
        # Reading ahead gains nothing here, and holds whole row groups of many files.
        ahead = {"batch_readahead": 1, "fragment_readahead": 1}
        for batch in rows.to_batches(columns=keys, filter=where, **ahead):
            counted = pa.Table.from_batches([batch]).group_by(keys).aggregate([([], "count_all")])
            for row in counted.to_pylist():
                found[tuple(row[key] for key in keys)] += row["count_all"]
        return found

    def _open(self, name: str, version: int | None) -> DeltaTable:
        if not self.exists(name):
            raise InputDataError(f"{self.root}: the lake has no table {name} yet")
        try:
            return open_table(self.path(name), version)
        except Exception as error:
            last = open_table(self.path(name)).version()
            raise InputDataError(
                f"{self.path(name)}: version {version} cannot be read (the last is {last}): {error}"
            ) from error


def open_lake(root: str) -> LakeReader:
    """Opens a lake for reading without Spark.

    Args:
        root: local path or address (`file://`, `s3://`, `s3a://`); credentials come from the
            environment.

    Returns:
        The reader; a lake nobody has written to has no tables.

    Raises:
        SettingsError: no lake can be there.
    """
    return LakeReader(root)


def _table(name: str) -> Table:
    if name not in _BY_NAME:
        raise InputDataError(f"no table is named {name}; there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def open_table(uri: str, version: int | None = None) -> DeltaTable:
    """A table at an address, as delta-rs reads it."""
    return DeltaTable(delta_address(uri), version=version, storage_options=storage_options())


def delta_address(uri: str) -> str:
    """An address as delta-rs reads it: a URL, percent-encoded, and S3 is `s3://`."""
    found = _S3.fullmatch(uri)
    return uri if found is None else f"s3://{quote(found[1])}"


def storage_options() -> dict[str, str] | None:
    """What delta-rs is told beside the environment: that an endpoint of one's own may be http."""
    is_http = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {"AWS_ALLOW_HTTP": "true"} if is_http else None
