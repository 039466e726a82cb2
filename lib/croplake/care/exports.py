"""Which exports may show photos: what `runs` says of them, and the versions they were made of."""

from __future__ import annotations

from functools import cache
from typing import Final

from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.care.pins import Run, runs_of
from croplake.errors import InputDataError
from croplake.export.plan import WHATS, What
from croplake.jobs.export_examples import NAME as EXPORT
from croplake.jobs.export_plan import READS
from croplake.lake import Lake
from croplake.tables import Table

_EXPORTED: Final = {
    t.EXAMPLES.name: f"{t.SPLIT} <> '{t.REJECTED_SPLIT}'",
    t.SELECTED_BOXES.name: f"{t.REJECT_REASON} IS NULL",
    t.CROPS.name: t.HAS_CROP,
}
"""Which rows of a table become pictures: those that all of an export's tables have."""


def exports_that_may_show(lake: Lake, is_theirs: str) -> list[str]:
    """The exports that show some photos, and those of which nobody can tell any more.

    An export is ruled out by a version it was made of that can still be read and has nothing of
    theirs; versions go with time. Datasets of today say nothing of it: they may have been selected
    or built anew.

    Args:
        lake: whose `runs` are asked.
        is_theirs: condition on `image_id`, in SQL.

    Returns:
        What `runs` calls each, sorted.
    """

    @cache
    def is_without(table: Table, version: int | None, dataset: str) -> bool:
        return _is_without(lake, table, version, dataset, is_theirs)

    return sorted(
        {
            _told(run)
            for run in runs_of(lake)
            if (of := _what(run)) is not None
            and not any(
                is_without(table, run[t.TABLES_READ].get(table.name), run[t.DATASET])
                for table in READS[of]
                if table.name in _EXPORTED
            )
        }
    )


def _what(run: Run) -> What | None:
    """Of what a run has exported pictures; None where it has not, or was refused before."""
    if run[t.JOB] != EXPORT:
        return None
    return next((of for of in WHATS if (run[t.DETAIL] or "").startswith(f"{of} as ")), None)


def _told(run: Run) -> str:
    """What a run says of its export, without the error that may follow."""
    detail = str(run[t.DETAIL])
    return detail if run[t.OUTCOME] in (t.DONE, t.RUNNING) else detail.split("; ")[0]


def _is_without(
    lake: Lake, table: Table, version: int | None, dataset: str, is_theirs: str
) -> bool:
    """Whether a version is sure to have nothing of theirs that an export of a dataset shows."""
    if version is None:
        return False
    partition = {t.DATASET: dataset} if t.DATASET in table.partition_by else {}
    try:
        if lake.reader.lost_files(table.name, version=version, partition=partition):
            return False
    except InputDataError:
        return False
    rows = lake.read(table, version=version).where(is_theirs).where(_EXPORTED[table.name])
    for column, value in partition.items():
        rows = rows.where(F.col(column) == value)
    return rows.isEmpty()
