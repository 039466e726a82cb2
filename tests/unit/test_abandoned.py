"""What runs that broke off left is removed by maintenance, and nothing that is of use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from croplake import tables as t
from croplake.care import abandoned
from croplake.care.abandoned import remove_abandoned
from croplake.jobs.train_classifier import CHECKPOINTS, checkpoint_lock
from croplake.lake import Lake
from croplake.locks import writing
from tests.unit.test_locks import another_process

NO_SPARK: Any = None


def put_files(folder: Path, *names: str, hours_ago: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    then = time.time() - 3600 * hours_ago
    for name in names:
        (folder / name).write_text("{}")
        os.utime(folder / name, (then, then))
    return folder


def put_checkpoint(root: Path, key: str, *, hours_ago: float) -> Path:
    folder = root / CHECKPOINTS / key
    return put_files(folder, "epoch-00001.npz", "last.json", hours_ago=hours_ago)


def removed(root: Path, hours: int = 24, **options: Any) -> list[str]:  # noqa: ANN401
    lake = Lake(NO_SPARK, str(root))
    found = remove_abandoned(lake, "r1", retention_hours=hours, **options)
    return [Path(folder).name for folder in found]


def test_old_checkpoints_go_and_younger_ones_stay(tmp_path: Path) -> None:
    old = put_checkpoint(tmp_path, "old", hours_ago=30)
    young = put_checkpoint(tmp_path, "young", hours_ago=20)
    assert removed(tmp_path, dry_run=True) == ["old"]
    assert old.exists()
    assert removed(tmp_path) == ["old"]
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("dry_run", [True, False])
def test_those_of_a_training_that_goes_on_stay_however_long_an_epoch_takes(
    tmp_path: Path, dry_run: bool
) -> None:
    slow = put_checkpoint(tmp_path, "slow", hours_ago=30)
    with another_process(tmp_path, "r2", checkpoint_lock("slow")):
        assert removed(tmp_path, dry_run=dry_run) == []
    assert slow.exists()


def test_those_of_a_training_that_went_on_until_the_lock_was_taken_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone_on = put_checkpoint(tmp_path, "gone on", hours_ago=30)

    @contextmanager
    def late(*args: Any, **options: Any) -> Iterator[None]:  # noqa: ANN401
        """The lock is had once the training has written another epoch, and broken off again."""
        put_checkpoint(tmp_path, "gone on", hours_ago=0)
        with writing(*args, **options):
            yield

    monkeypatch.setattr(abandoned, "writing", late)
    assert removed(tmp_path) == []
    assert gone_on.exists()


def test_a_lake_without_checkpoints_has_none_to_remove(tmp_path: Path) -> None:
    assert removed(tmp_path) == []


def put_runs(root: Path, **outcomes: str) -> None:
    """Rows of trainings by run id."""
    rows = [
        {name: None for name in t.RUNS.columns}
        | {t.RUN_ID: run_id, t.JOB: "train_classifier", t.DATASET: "fruit", t.OUTCOME: outcome}
        for run_id, outcome in outcomes.items()
    ]
    Lake(NO_SPARK, str(root)).add_rows(rows, t.RUNS)


@pytest.mark.parametrize("outcome", ["failed", "incomplete", "killed", "running"])
def test_the_folder_of_a_model_that_no_training_will_finish_goes(
    tmp_path: Path, outcome: str
) -> None:
    put_runs(tmp_path, r2=outcome)
    folder = put_files(tmp_path / "models" / "fruit-r2", "labels.json", hours_ago=30)
    assert removed(tmp_path, dry_run=True) == ["fruit-r2"]
    assert folder.exists()
    assert removed(tmp_path) == ["fruit-r2"]
    assert not folder.exists()


def test_models_young_folders_and_what_no_training_wrote_stay(tmp_path: Path) -> None:
    put_runs(tmp_path, r2="done", r3="killed", r4="failed")
    models = tmp_path / "models"
    # One whose training was killed once all was written.
    put_files(models / "fruit-r2", "labels.json", "model.keras", hours_ago=30)
    put_files(models / "fruit-r3", "labels.json", "model.keras", hours_ago=30)
    put_files(models / "fruit-r4", "labels.json", hours_ago=20)
    put_files(models / "my notes", "notes.txt", hours_ago=30)
    assert removed(tmp_path) == []
    assert len(list(models.iterdir())) == 4


def test_the_folder_of_a_training_that_goes_on_stays(tmp_path: Path) -> None:
    put_runs(tmp_path, r2="running")
    folder = put_files(tmp_path / "models" / "fruit-r2", "labels.json", hours_ago=30)
    with another_process(tmp_path, "r2"):
        assert removed(tmp_path) == []
    assert folder.exists()


def test_files_that_grew_when_their_writer_was_killed_go_once_they_are_old(tmp_path: Path) -> None:
    part = f".{'0a' * 16}.part"
    for folder, hours in (("reports", 30), ("predictions_csv", 20), ("models/fruit-r2", 30)):
        put_files(tmp_path / folder, part, "whole.html", hours_ago=hours)
    assert removed(tmp_path, dry_run=True) == [part, part]
    assert removed(tmp_path, hours=0) == [part, part], "what may still grow stays"
    left = [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob(part)]
    assert left == [f"predictions_csv/{part}"]
    assert len(list(tmp_path.rglob("whole.html"))) == 3
