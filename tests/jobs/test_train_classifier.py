"""A training that breaks off leaves what the same command goes on from."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.conf import LakeConf, TrainConf
from croplake.errors import IncompleteError
from croplake.jobs import train_classifier
from croplake.jobs.context import JobContext
from tests.jobs.conftest import WholeWay
from tests.jobs.world import rows_of, run
from tests.spark.test_training_restarts import worker_pids


@pytest.mark.full
def test_the_same_command_goes_on_after_the_last_epoch_of_a_run_that_broke_off(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "launch": "processes",
        "max_attempts": 1,
        "seed": 18,
        "phases": [{"trainable": "all", "epochs": 3}],
    }
    train = TrainConf.model_validate(whole_way.settings.train.model_dump() | changes)
    root = tmp_path / "lake"
    shutil.copytree(whole_way.settings.lake.root, root)
    lake = LakeConf(root=str(root))
    settings = whole_way.settings.model_copy(update={"train": train, "lake": lake})
    epochs: list[float] = []
    kills = [2.0]

    def follow(context: JobContext, record: dict[str, float]) -> None:
        epochs.append(record["epoch"])
        if record["epoch"] in kills:
            kills.clear()
            os.kill(worker_pids()[0], signal.SIGKILL)

    monkeypatch.setattr(train_classifier, "_print_epoch", follow)
    with pytest.raises(IncompleteError, match="run the same command again: it goes on after epoch"):
        run(spark, "train_classifier", settings)
    assert list((root / "checkpoints").iterdir())
    context = run(spark, "train_classifier", settings)
    assert epochs == [1, 2, 1, 2, 3]
    assert context.counts["epochs"] == 3
    assert not list((root / "checkpoints").iterdir())
    assert (root / "models" / str(context.model_id) / "model.keras").exists()
    outcomes = [r[t.OUTCOME] for r in rows_of(settings, "runs") if r[t.JOB] == "train_classifier"]
    assert sorted(outcomes) == ["done", "done", "incomplete"]
