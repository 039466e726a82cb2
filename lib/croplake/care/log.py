"""Retention of a table's log: old entries go, but none that a kept version needs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from croplake import storage
from croplake.lake import Lake
from croplake.storage import FoundFile
from croplake.tables import Table

_ENTRY: Final = re.compile(r"(\d{20})\.(json|crc|checkpoint(\.\d+\.\d+)?\.parquet)")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint\.parquet")


def plan_log(
    lake: Lake, table: Table, pinned_versions: Iterable[int], *, retention_days: int
) -> tuple[FoundFile, ...]:
    """The log entries that no kept version needs; the caller holds the table's lock.

    A version is read from the last checkpoint before it and the entries after that. So all before a
    checkpoint can go that is not younger than any pinned version, nor than the retention.

    Args:
        lake: of the table.
        table: which.
        pinned_versions: stay readable.
        retention_days: versions that were the last one within so many days stay readable.
    """
    files = storage.files_below(_folder(lake, table))
    entries = [(int(match[1]), file) for file in files if (match := _ENTRY.fullmatch(file.path))]
    commits = {version: file for version, file in entries if file.path.endswith(".json")}
    checkpoints = {int(match[1]) for file in files if (match := _CHECKPOINT.fullmatch(file.path))}
    sure_to_stay = datetime.now(UTC) - timedelta(days=retention_days)
    old = [version for version, file in commits.items() if file.changed_at < sure_to_stay]
    if not old:
        return ()
    # The last old commit was still what readers got when the retention began.
    oldest_kept = min([max(old), *pinned_versions])
    starts = [version for version in checkpoints & set(commits) if version <= oldest_kept]
    if not starts:
        return ()
    return tuple(file for version, file in entries if version < max(starts))


def trim_log(lake: Lake, table: Table, files: Iterable[FoundFile]) -> None:
    """Removes what was planned, oldest first: what is left never has a gap."""
    for file in sorted(files, key=lambda file: file.path):
        storage.remove_below(_folder(lake, table), file.path)


def _folder(lake: Lake, table: Table) -> str:
    return storage.join(lake.path(table), "_delta_log")
