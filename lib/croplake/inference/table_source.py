"""Driver: photos that a Delta table names, or holds; read by Spark where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deltalake import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import BinaryType, StringType

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.inference.listing import TABLE
from croplake.inference.photos import CONTENT
from croplake.reader import delta_address, storage_options
from croplake.tables import ALL_TABLES, Table

_USUAL: Final = (CONTENT, t.PATH, "url")
"""Columns that are looked for where none is named: those of Spark's `binaryFile`, and a list's."""
_SYNTAX: Final = (
    "expected delta:TABLE, delta:TABLE#COLUMN or delta:TABLE#COLUMN,NAME: an address of a Delta "
    "table or one of this lake's (photos, crops, examples), a column of paths and addresses "
    "(string) or of photos' bytes (binary), and of the latter, where the table is not this lake's, "
    "the column with their names"
)


@dataclass(frozen=True)
class TableSource:
    """A table that photos come from.

    Attributes:
        pattern: as the user wrote it.
        table: of the lake; None where it is another.
        address: of another table.
        column: of paths, addresses or bytes; None is a usual one.
        name: the column that names photos whose bytes are given; None is `path`.
    """

    pattern: str
    table: Table | None
    address: str
    column: str | None
    name: str | None


_OF_LAKE: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    t.PHOTOS.name: (t.ORIGINAL_URL, ()),
    t.CROPS.name: (t.JPEG, (t.RECIPE_ID, t.IMAGE_ID, t.BOX_ID)),
    t.EXAMPLES.name: (t.IMAGE, (t.IMAGE_ID, t.EXAMPLE_ID)),
}
"""The photos in tables of the lake: their column, and what they are called by."""


def parse_source(pattern: str) -> TableSource:
    """Reads a pattern that begins with `delta:`.

    Raises:
        InputDataError: no table is there; the text says what is expected.
    """
    text = pattern.removeprefix(TABLE)
    # A folder's name may have a # in it.
    address, columns = text, ""
    if "#" in text and not _is_table(text):
        address, _, columns = text.rpartition("#")
    column, _, name = (part.strip() or None for part in columns.partition(","))
    if address in {table.name for table in ALL_TABLES}:
        if address not in _OF_LAKE:
            raise InputDataError(f"{pattern}: the lake's {address} has no photos; {_SYNTAX}")
        if name is not None:
            raise InputDataError(
                f"{pattern}: photos of the lake's {address} have names of their own; leave out "
                f",{name}; {_SYNTAX}"
            )
        table = next(table for table in ALL_TABLES if table.name == address)
        return TableSource(pattern, table, address, column, name)
    if not _is_table(address):
        raise InputDataError(f"{pattern}: no Delta table is there; {_SYNTAX}")
    return TableSource(pattern, None, address, column, name)


def read_source(spark: SparkSession, source: TableSource) -> DataFrame:
    """The photos of a table that is not the lake's.

    Returns:
        The column `path`; and `content` where the table has the photos' bytes, `path` being
        `delta:TABLE#NAME`.

    Raises:
        InputDataError: a column is missing or of another type, names are not distinct, or there is
            no row.
    """
    df = spark.read.format("delta").load(storage.for_spark(source.address))
    column = _column(df, source)
    if isinstance(df.schema[column].dataType, StringType):
        if source.name is not None:
            raise InputDataError(
                f"{source.pattern}: column {column} has paths and addresses, which are names "
                f"themselves; leave out ,{source.name}; {_SYNTAX}"
            )
        return _filled(_of_paths(df, column), source)
    name = source.name or t.PATH
    _check(df, source, name, (StringType,), "a string that names the photos")
    names = F.coalesce(_of(name), F.lit(""))
    twice = df.groupBy(names.alias(t.PATH)).count().where("count > 1").limit(1).collect()
    if twice:
        raise InputDataError(
            f"{source.pattern}: {twice[0]['count']} photos are called {twice[0][t.PATH]!r} in "
            f"column {name}; a photo's name must be its own, name another column"
        )
    path = F.concat(F.lit(f"{TABLE}{storage.absolute(source.address)}#"), names)
    content = F.coalesce(_of(column), F.lit(b""))
    return _filled(df.select(path.alias(t.PATH), content.alias(CONTENT)), source)


def of_lake(df: DataFrame, source: TableSource, table: Table) -> DataFrame:
    """The photos of a table of the lake; as `read_source`.

    Rows without a picture are none: failures of fetching, examples that were rejected.
    """
    usual, named_by = _OF_LAKE[table.name]
    column = source.column or usual
    _check(df, source, column, (StringType, BinaryType), "paths or photos' bytes")
    rows = df.where(_of(column).isNotNull())
    if isinstance(df.schema[column].dataType, StringType):
        return _filled(_of_paths(rows, column), source)
    named = F.concat_ws("/", *(F.col(name) for name in named_by))
    path = F.concat(F.lit(f"{TABLE}{table.name}#"), named, F.lit(".jpg"))
    return _filled(rows.select(path.alias(t.PATH), _of(column).alias(CONTENT)), source)


def drop_forgotten(rows: DataFrame, forgotten: DataFrame) -> DataFrame:
    """Rows of the lake without those of photos that are never to be fetched again."""
    # Nobody has told Spark how few they are; else it would sort the pictures' bytes.
    return rows.join(F.broadcast(forgotten), t.IMAGE_ID, "left_anti")


def _is_table(address: str) -> bool:
    return bool(address) and DeltaTable.is_deltatable(
        delta_address(storage.absolute(address)), storage_options()
    )


def _of(column: str) -> Column:
    return F.col("`{}`".format(column.replace("`", "``")))


def _of_paths(rows: DataFrame, column: str) -> DataFrame:
    # Nothing is lost: what has no path gets a row that says so.
    path = F.coalesce(_of(column), F.lit(""))
    return rows.select(path.alias(t.PATH))


def _column(df: DataFrame, source: TableSource) -> str:
    column = source.column or next((name for name in _USUAL if name in df.columns), "")
    if not column:
        raise InputDataError(
            f"{source.pattern}: the table has none of the columns {', '.join(_USUAL)}; name one "
            f"with #COLUMN; it has {_columns(df)}"
        )
    _check(df, source, column, (StringType, BinaryType), "paths (string) or bytes (binary)")
    return column


def _check(
    df: DataFrame, source: TableSource, column: str, types: tuple[type, ...], expected: str
) -> None:
    if column not in df.columns:
        raise InputDataError(
            f"{source.pattern}: the table has no column {column}, expected {expected}; it has "
            f"{_columns(df)}"
        )
    found = df.schema[column].dataType
    if not isinstance(found, types):
        raise InputDataError(
            f"{source.pattern}: column {column} is {found.simpleString()}, expected {expected}; "
            f"the table has {_columns(df)}"
        )


def _columns(df: DataFrame) -> str:
    return ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in df.schema)


def _filled(photos: DataFrame, source: TableSource) -> DataFrame:
    if photos.isEmpty():
        raise InputDataError(f"{source.pattern}: no photos there, the table has no row with one")
    return photos
