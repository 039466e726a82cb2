"""Checkpoints that nobody has gone on with are removed by maintenance, and no others."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from croplake.care.abandoned import remove_abandoned
from croplake.jobs.train_classifier import CHECKPOINTS, checkpoint_lock
from croplake.lake import Lake
from tests.unit.test_locks import another_process

NO_SPARK: Any = None


def put_checkpoint(root: Path, key: str, *, hours_ago: float) -> Path:
    folder = root / CHECKPOINTS / key
    folder.mkdir(parents=True)
    then = time.time() - 3600 * hours_ago
    for name in ("epoch-00001.npz", "last.json"):
        (folder / name).write_text("{}")
        os.utime(folder / name, (then, then))
    return folder


def removed(root: Path, **options: Any) -> list[str]:  # noqa: ANN401
    lake = Lake(NO_SPARK, str(root))
    return [
        Path(folder).name for folder in remove_abandoned(lake, "r1", retention_hours=24, **options)
    ]


def test_old_checkpoints_go_and_younger_ones_stay(tmp_path: Path) -> None:
    old = put_checkpoint(tmp_path, "old", hours_ago=30)
    young = put_checkpoint(tmp_path, "young", hours_ago=20)
    assert removed(tmp_path, dry_run=True) == ["old"]
    assert old.exists()
    assert removed(tmp_path) == ["old"]
    assert (old.exists(), young.exists()) == (False, True)


def test_those_of_a_training_that_goes_on_stay_however_long_an_epoch_takes(tmp_path: Path) -> None:
    slow = put_checkpoint(tmp_path, "slow", hours_ago=30)
    with another_process(tmp_path, "r2", checkpoint_lock("slow")):
        assert removed(tmp_path) == []
    assert slow.exists()


def test_a_lake_without_checkpoints_has_none_to_remove(tmp_path: Path) -> None:
    assert removed(tmp_path) == []
