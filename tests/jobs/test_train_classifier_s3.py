"""A lake in a bucket: a training keeps its checkpoints and writes its model there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from croplake import storage
from croplake import tables as t
from croplake.care.abandoned import remove_abandoned
from croplake.lake import Lake
from croplake.training.checkpoints import MARKER
from tests.jobs.small_lake import MODEL_ID, SmallLake
from tests.jobs.world import outside_environment
from tests.s3 import s3_server
from tests.spark.test_training_restarts import kill_worker

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

NO_SPARK: Any = None
ROOT = "s3a://lakes/mine"
NUM_EPOCHS = 12
"""So many that a training is not over before the test has heard of its first."""
TRAIN = {
    "num_workers": 2,
    "launch": "processes",
    "threads_per_worker": 1,
    "max_attempts": 1,
    "weights": "none",
    "phases": [{"trainable": "all", "epochs": NUM_EPOCHS}],
    "alpha": 0.35,
    "input_side_px": 32,
    "dense_units": 8,
    "batch_size": 2,
    "tensorboard": True,
}


def put_examples(small: SmallLake) -> None:
    """Two files of examples, of which each worker reads one."""
    for number, put in enumerate((small.put, small.add)):
        keys = [f"{number}.{row}" for row in range(40)]
        examples = [
            small.example(("a1", "a2")[row % 2])
            | {t.EXAMPLE_ID: hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()}
            for row, key in enumerate(keys)
        ]
        put(t.EXAMPLES, *examples)


def train(
    environment: dict[str, str], conf: str, on_epoch: Callable[[int], None]
) -> tuple[int, str]:
    """Runs the command.

    Returns:
        Its exit code and what it printed.
    """
    command = ["train-classifier", "--conf", conf, "--set", f"lake.root={ROOT}"]
    sets = [f"train.{name}={json.dumps(value)}" for name, value in TRAIN.items()]
    command += [word for text in sets for word in ("--set", text)]
    said = []
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "croplake.cli", *command],
        env=outside_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := re.match(rf"epoch (\d+) of {NUM_EPOCHS} ", line):
                on_epoch(int(found[1]))
    return process.returncode, "".join(said)


def test_a_training_that_broke_off_in_a_bucket_is_gone_on_with_there(
    small: SmallLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_examples(small)
    bucket = tmp_path / "buckets" / "lakes"
    bucket.mkdir(parents=True)
    models, checkpoints = bucket / "mine" / "models", bucket / "mine" / "checkpoints"
    broken_off: list[int] = []
    gone_on: list[int] = []
    to_look_at: list[Path] = []

    def kill_once(epoch: int) -> None:
        if not broken_off:
            kill_worker(1)
        broken_off.append(epoch)

    def look(epoch: int) -> None:
        gone_on.append(epoch)
        if epoch == NUM_EPOCHS:
            to_look_at.extend(models.glob("*/tensorboard/*"))

    with s3_server(tmp_path / "buckets") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        storage.upload_folder(small.folder, ROOT)
        code, said = train(environment, small.conf, kill_once)
        assert code == 3, said
        assert "run the same command again: it goes on after epoch" in said
        assert [folder.name for folder in models.iterdir()] == [MODEL_ID]
        (kept,) = checkpoints.iterdir()
        done = json.loads((kept / MARKER).read_text())["history"]

        abandoned = shutil.copytree(kept, checkpoints / "abandoned")
        then = time.time() - 3600 * 30
        for file in abandoned.iterdir():
            os.utime(file, (then, then))
        removed = remove_abandoned(Lake(NO_SPARK, ROOT), "r9", retention_hours=24)
        assert removed == [f"{ROOT}/checkpoints/abandoned"]
        assert (kept / MARKER).exists()

        code, said = train(environment, small.conf, look)
        assert code == 0, said
    epochs = [*range(1, NUM_EPOCHS + 1)]
    assert broken_off == epochs[: len(broken_off)]
    assert len(broken_off) < NUM_EPOCHS
    assert gone_on == epochs
    assert len(to_look_at) == 1, "TensorBoard's file, before the training is over"
    assert not [file for file in checkpoints.rglob("*") if file.is_file()]
    (model,) = [folder for folder in models.iterdir() if folder.name != MODEL_ID]
    assert {file.name for file in model.iterdir()} == {
        "model.keras",
        "model.h5",
        "labels.json",
        "history.json",
        "settings.json",
        "tensorboard",
    }
    history = json.loads((model / "history.json").read_text())
    assert [record["epoch"] for record in history] == epochs
    assert history[: len(done)] == done
