"""Workers that die: training goes on from the last complete epoch; every epoch counts once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from croplake.conf import PhaseConf, TrainConf
from croplake.errors import IncompleteError
from croplake.training.checkpoints import Checkpoints
from croplake.training.workers import Examples, TrainingResult, train_distributed
from tests.training_data import write_colours

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

MARK = b"croplake.training.process"
NUM_EPOCHS = 6
"""So many that a training is not over before the test has seen its second."""


def worker_pids() -> dict[int, int]:
    """Processes of this test run's workers, by index."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and is_worker(int(folder.name)) and is_ours(int(folder.name)):
                environment = (folder / "environ").read_bytes().decode(errors="replace")
                found[int(environment.split('"index": ')[1][0])] = int(folder.name)
        except (OSError, IndexError):
            continue
    return found


def is_worker(pid: int) -> bool:
    """Whether there is such a process, and it trains."""
    try:
        return MARK in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def is_ours(pid: int) -> bool:
    """Whether this process is among its parents: another test run has such workers, too."""
    while pid > 1 and pid != os.getpid():
        # What follows the name in parentheses: its state, its parent.
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == os.getpid()


def kill_worker(index: int) -> None:
    """Kills it as the system does where memory runs out; between two attempts there is none."""
    with suppress(KeyError, ProcessLookupError):
        os.kill(worker_pids()[index], signal.SIGKILL)


def conf_of(launch: str, **changes: Any) -> TrainConf:  # noqa: ANN401
    values: dict[str, Any] = {
        "num_workers": 2,
        "launch": launch,
        "threads_per_worker": 1,
        "weights": "none",
        "phases": (PhaseConf(trainable="all", epochs=NUM_EPOCHS),),
        "alpha": 0.35,
        "input_side_px": 32,
        "dense_units": 8,
        "batch_size": 4,
        "shuffle_buffer": 16,
    }
    return TrainConf.model_validate(values | changes)


def train(
    spark: SparkSession,
    conf: TrainConf,
    folder: Path,
    *,
    on_epoch: Callable[[dict[str, float]], None],
    on_loss: Callable[[str], None],
) -> TrainingResult:
    files = [
        write_colours(folder / f"{number}.parquet", [range(40 * number, 40 * number + 40)])
        for number in range(2)
    ]
    return train_distributed(
        spark,
        conf,
        Examples(files, files, ("red", "green", "blue"), [27, 27, 26]),
        output_dir=str(folder / "model"),
        checkpoint_dir=str(folder / "checkpoints"),
        on_epoch=on_epoch,
        on_loss=on_loss,
    )


@pytest.mark.parametrize(
    ("launch", "victim"), [("spark", 0), ("spark", 1), ("processes", 0), ("processes", 1)]
)
def test_a_worker_killed_in_an_epoch_costs_that_epoch_alone(
    spark: SparkSession, tmp_path: Path, launch: str, victim: int
) -> None:
    epochs: list[float] = []
    killed_at: list[float] = []
    told_after: list[float] = []
    seen: set[int] = set()

    def on_epoch(record: dict[str, float]) -> None:
        """Called once an epoch is complete: the next one is under way."""
        epochs.append(record["epoch"])
        seen.update(worker_pids().values())
        if record["epoch"] == 2 and not killed_at:
            killed_at.append(time.monotonic())
            kill_worker(victim)

    result = train(
        spark,
        conf_of(launch),
        tmp_path,
        on_epoch=on_epoch,
        on_loss=lambda text: told_after.append(time.monotonic() - killed_at[0]),
    )
    assert result.num_attempts == 2
    assert epochs == [*range(1, NUM_EPOCHS + 1)]
    assert [record["epoch"] for record in result.history] == epochs
    assert len(set(result.digests)) == 1
    assert told_after[0] < 60
    # One that outlives its task has another parent.
    assert len(seen) >= 2
    assert not [pid for pid in seen if is_worker(pid)]


def test_workers_that_die_in_every_attempt_end_the_run_incomplete_and_it_goes_on_later(
    spark: SparkSession, tmp_path: Path
) -> None:
    losses: list[str] = []

    def kill(record: dict[str, float]) -> None:
        kill_worker(1)

    conf = conf_of("processes", max_attempts=2)
    with pytest.raises(
        IncompleteError, match=r"attempt 2 of 2 ended: worker .*(?s:.)*goes on after"
    ):
        train(spark, conf, tmp_path, on_epoch=kill, on_loss=losses.append)
    assert len(losses) == 1
    marker = Checkpoints(str(tmp_path / "checkpoints")).last()
    assert marker is not None
    assert not (tmp_path / "model" / "model.keras").exists()
    epochs: list[float] = []
    result = train(
        spark,
        conf,
        tmp_path,
        on_epoch=lambda record: epochs.append(record["epoch"]),
        on_loss=losses.append,
    )
    assert epochs == [*range(1, NUM_EPOCHS + 1)]
    assert result.num_attempts == 1
    assert (tmp_path / "model" / "model.keras").exists()
