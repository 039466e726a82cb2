"""What runs that broke off left behind, and nobody has gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from croplake import storage
from croplake import tables as t
from croplake.care.pins import runs_of
from croplake.errors import TableHeldError
from croplake.inference.csv_out import PREDICTIONS_CSV
from croplake.jobs.pages import REPORTS
from croplake.jobs.probe_network import NETWORKS
from croplake.jobs.train_classifier import CHECKPOINTS, checkpoint_lock, model_id_of
from croplake.jobs.train_classifier import JOB as TRAIN
from croplake.lake import Lake
from croplake.locks import living_runs, locks_of, writing
from croplake.models import MODELS, has_model, model_folder
from croplake.training.checkpoints import Checkpoints

_PART_HOURS: Final = 24
"""No file takes longer to grow, whatever the retention."""
_WITH_FILES: Final = (MODELS, NETWORKS, PREDICTIONS_CSV, REPORTS)
"""The folders of a lake that hold files of other kinds than tables, and no scratch."""


def remove_abandoned(
    lake: Lake, run_id: str, *, retention_hours: int, dry_run: bool = False
) -> list[str]:
    """Removes checkpoints and folders of unfinished models whose newest file is old, and old parts.

    Args:
        lake: whose.
        run_id: of the maintenance.
        retention_hours: younger checkpoints may still be gone on from; parts are kept for a day at
            least, they may still grow.
        dry_run: only names them.

    Returns:
        The addresses of folders and files.
    """
    since = datetime.now(UTC) - timedelta(hours=retention_hours)
    removed = [*_checkpoints(lake, run_id, since, dry_run=dry_run)]
    for folder in _unfinished_models(lake, since):
        if not dry_run:
            storage.remove(folder)
        removed.append(folder)
    for part in _parts(lake, min(since, datetime.now(UTC) - timedelta(hours=_PART_HOURS))):
        if not dry_run:
            storage.remove(part)
        removed.append(part)
    return removed


def _checkpoints(lake: Lake, run_id: str, since: datetime, *, dry_run: bool) -> Iterator[str]:
    held = locks_of(lake.root).holders()
    files = storage.files_below(storage.join(lake.root, CHECKPOINTS))
    for key in sorted({file.path.partition("/")[0] for file in files if "/" in file.path}):
        folder, lock = storage.join(lake.root, CHECKPOINTS, key), checkpoint_lock(key)
        # An epoch may take longer than the retention.
        if lock in held or not _is_older(folder, since):
            continue
        if not dry_run:
            try:
                with writing(lake.root, (lock,), run_id=run_id, job="maintain", is_inner=True):
                    # Until here a training may have gone on, or ended.
                    if not _is_older(folder, since):
                        continue
                    Checkpoints(folder).remove()
            except TableHeldError:
                continue
        yield folder


def _unfinished_models(lake: Lake, since: datetime) -> Iterator[str]:
    """Folders without the file that is written last, of trainings that are over."""
    trainings = [run for run in runs_of(lake) if run[t.JOB] == TRAIN.name]
    # Asked after the rows: a run has its lock before its row, and what is not alive now has ended.
    alive = living_runs(lake.root) or frozenset()
    for run in trainings:
        model_id = model_id_of(run[t.DATASET], run[t.RUN_ID])
        folder = model_folder(lake.root, model_id)
        is_over = run[t.OUTCOME] != t.DONE and run[t.RUN_ID] not in alive
        if is_over and _is_older(folder, since) and not has_model(lake.reader, model_id):
            yield folder


def _parts(lake: Lake, since: datetime) -> Iterator[str]:
    """Files that were growing when their writer was killed; they may show what is forgotten."""
    for name in _WITH_FILES:
        folder = storage.join(lake.root, name)
        for file in storage.files_below(folder):
            if storage.is_part(file.path) and file.changed_at < since:
                yield storage.join(folder, file.path)


def _is_older(folder: str, since: datetime) -> bool:
    """Whether there are files, and none is younger."""
    changes = [file.changed_at for file in storage.files_below(folder)]
    return bool(changes) and max(changes) < since
