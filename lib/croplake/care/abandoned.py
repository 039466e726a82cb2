"""Checkpoints of trainings that broke off, and that nobody has gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from croplake import storage
from croplake.errors import TableHeldError
from croplake.jobs.train_classifier import CHECKPOINTS, checkpoint_lock
from croplake.lake import Lake
from croplake.locks import writing
from croplake.training.checkpoints import Checkpoints


def remove_abandoned(
    lake: Lake, run_id: str, *, retention_hours: int, dry_run: bool = False
) -> list[str]:
    """Removes checkpoints whose newest file is older than the retention.

    Args:
        lake: whose.
        run_id: of the maintenance.
        retention_hours: younger ones may still be gone on from.
        dry_run: only names them.

    Returns:
        The folders' addresses.
    """
    removed = []
    for key in _old_keys(lake, retention_hours):
        folder = storage.join(lake.root, CHECKPOINTS, key)
        if not dry_run:
            try:
                lock = (checkpoint_lock(key),)
                with writing(lake.root, lock, run_id=run_id, job="maintain", is_inner=True):
                    Checkpoints(folder).remove()
            except TableHeldError:
                continue  # an epoch may take longer than the retention
        removed.append(folder)
    return removed


def _old_keys(lake: Lake, retention_hours: int) -> Iterator[str]:
    newest: dict[str, datetime] = {}
    for file in storage.files_below(storage.join(lake.root, CHECKPOINTS)):
        key = file.path.partition("/")[0]
        newest[key] = max(file.changed_at, newest.get(key, file.changed_at))
    sure_to_stay = datetime.now(UTC) - timedelta(hours=retention_hours)
    yield from (key for key, changed_at in newest.items() if changed_at < sure_to_stay)
