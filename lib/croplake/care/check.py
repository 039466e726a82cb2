"""Holds a whole lake against its invariants, and names what breaks them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from croplake import tables as t
from croplake.care.check_files import (
    FILE_CHECKS,
    MARKER_CHECK,
    find_wrong_marker,
    missing_files,
    wrong_schema,
)
from croplake.care.check_rows import ROW_CHECKS
from croplake.care.findings import Check, Finding, Scope, look, summary_of
from croplake.care.pictures import BROKEN_SCHEMA, broken_pictures
from croplake.care.pins import find_readers, runs_of
from croplake.errors import InputDataError
from croplake.lake import Lake, spark_schema
from croplake.summary import titled
from croplake.tables import Table


def check_lake(
    spark: SparkSession,
    root: str,
    console: Console,
    *,
    deep: bool = False,
    as_json: bool = False,
    num_keys: int = 5,
) -> None:
    """Makes every check and prints a line for each.

    Args:
        spark: the session.
        root: of the lake; nothing in it changes.
        console: where to.
        deep: decodes every crop, too.
        as_json: a list of objects instead of lines.
        num_keys: broken keys named for a check.

    Raises:
        InputDataError: some check is broken; the text names which.
    """
    findings = list(find_all(spark, root, deep=deep, num_keys=num_keys))
    if as_json:
        print(json.dumps([finding.plain() for finding in findings], indent=2))  # noqa: T201
    else:
        _print(console, root, findings)
    broken = [finding.check.name for finding in findings if finding.is_broken]
    if broken:
        raise InputDataError(
            f"{root}: {len(broken)} of {len(findings)} checks are broken: {', '.join(broken)}"
        )


def find_all(spark: SparkSession, root: str, *, deep: bool, num_keys: int) -> Iterator[Finding]:
    """The findings of all checks, one after the other."""
    wrong = find_wrong_marker(root)
    yield Finding(MARKER_CHECK, len(wrong), tuple(wrong))
    if wrong:
        return
    lake = Lake(spark, root)
    try:
        scope = Scope(spark, lake, find_readers(lake), tuple(runs_of(lake)), num_keys)
    # Damage reaches every corner of the readers; whatever they raise, that is what was found.
    except Exception as error:
        yield Finding(_RECORDS_CHECK, 1, (summary_of(error),))
        return
    yield Finding(_RECORDS_CHECK, 0)
    for check in FILE_CHECKS:
        yield _look_if_written(check, scope)
    unreadable = {table.name for table in t.ALL_TABLES if _is_unreadable(scope, table)}
    for check in (*ROW_CHECKS, *((_DEEP_CHECK,) if deep else ())):
        reads = [table.name for table in check.needs if table.name in unreadable]
        if reads:
            note = f"{', '.join(reads)} cannot be read"
            yield Finding(check, None, note=note)
        else:
            yield _look_if_written(check, scope)


def _look_if_written(check: Check, scope: Scope) -> Finding:
    missing = [table.name for table in check.needs if not scope.lake.exists(table)]
    if missing:
        return Finding(check, None, note=f"{', '.join(missing)} not written yet")
    return look(check, scope)


def _is_unreadable(scope: Scope, table: Table) -> bool:
    if not scope.lake.exists(table):
        return False
    try:
        return any(missing_files(scope, table)) or any(wrong_schema(scope, table))
    except Exception:
        return True


def _find_broken_pictures(scope: Scope) -> DataFrame:
    def find(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return broken_pictures(batches)

    crops = scope.lake.read(t.CROPS).where(F.col(t.HAS_CROP))
    pictures = crops.select(t.BOX_ID, t.JPEG, t.WIDTH_PX, t.HEIGHT_PX)
    return pictures.mapInArrow(find, spark_schema(BROKEN_SCHEMA))


_RECORDS_CHECK: Final = Check(
    "records", "runs, and what models note of lost files, can be read", lambda scope: ()
)
_DEEP_CHECK: Final = Check(
    "pictures", "every crop decodes to its width and height", _find_broken_pictures, (t.CROPS,)
)


def _print(console: Console, root: str, findings: Iterable[Finding]) -> None:
    grid = Grid()
    grid.add_column("check")
    grid.add_column("what holds", overflow="fold")
    grid.add_column("found", overflow="fold")
    for finding in findings:
        if finding.num_broken is None:
            text = Text(f"not looked at: {finding.note}", "dim")
        elif finding.is_broken:
            text = Text(f"broken by {finding.num_broken:,}", "red")
        else:
            text = Text("holds", "green")
        grid.add_row(finding.check.name, finding.check.says, text)
    console.print(titled(f"check: {root}", grid))
    for finding in findings:
        if finding.is_broken:
            console.print(Text(finding.check.name, "red") + f": {finding.check.says}; but:")
            for key in finding.keys:
                console.print(f"  {key}", highlight=False, soft_wrap=True)
            if len(finding.keys) < (finding.num_broken or 0):
                console.print(f"  … {finding.num_broken or 0:,} in all")
