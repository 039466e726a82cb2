"""What a failed barrier job means, and for how many workers there is room."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from croplake.conf import TrainConf
from croplake.errors import IncompleteError, SettingsError
from croplake.training import launching, workers
from croplake.training.launching import failure_of, require_slots
from croplake.training.task import ERROR_MARK
from croplake.training.worker_process import DEFECT, LOST, WorkerFailureError
from croplake.training.workers import Examples, train_distributed
from tests.training_data import write_colours

BARRIER = (
    "An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.\n"
    ": org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover from a "
    "failed barrier ResultStage. Most recent failure reason: Stage failed because barrier task "
    "ResultTask(0, 1) finished unsuccessfully.\n"
)
PYTHON = (
    "org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n"
    '  File "pyspark/worker.py", line 2049, in main\n    process()\n'
)
TWO_WORKERS = TrainConf(num_workers=2)


@pytest.mark.parametrize(
    "text",
    [
        "ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: "
        "Command exited with code 137",
        "ExecutorLostFailure (executor 0 exited unrelated to the running tasks) Reason: Executor "
        "heartbeat timed out after 124035 ms",
        "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)\n"
        "\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator$$anonfun$1",
        "java.net.SocketException: Connection reset\n\tat java.base/sun.nio.ch.SocketChannelImpl",
        "java.io.IOException: Broken pipe\n\tat java.base/sun.nio.ch.SocketDispatcher.write0",
        "[SPARK-24819]: Barrier execution mode does not allow run a barrier stage that requires "
        "more slots than the total number of slots in the cluster currently.",
    ],
)
def test_a_task_that_went_with_its_executor_or_python_worker_is_lost(text: str) -> None:
    failure = failure_of(BARRIER + text)
    assert (failure.kind, str(failure)) == (LOST, BARRIER + text)


@pytest.mark.parametrize(
    "text",
    [
        PYTHON + "ModuleNotFoundError: No module named 'croplake'\n",
        PYTHON + "RuntimeError: no free port between 20000 and 32768 for a worker\n",
        "java.lang.OutOfMemoryError: Java heap space\n",
    ],
)
def test_an_ordinary_error_of_a_task_is_a_defect(text: str) -> None:
    assert failure_of(BARRIER + text).kind == DEFECT


@pytest.mark.parametrize("kind", [LOST, DEFECT, "InputDataError"])
def test_what_a_task_says_of_its_worker_counts_before_the_words_it_says_it_with(kind: str) -> None:
    said = {"error": "worker 1 ended with status 1; its last words:\nBroken pipe", "kind": kind}
    text = f"{BARRIER}{PYTHON}RuntimeError: {ERROR_MARK}{json.dumps(said)}\n\n\tat org.apache"
    failure = failure_of(text)
    assert (str(failure), failure.kind) == (said["error"], kind)


@dataclass
class Clock:
    """Stands for the module `time`: to sleep is to let its time pass."""

    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Cluster:
    """A standalone cluster of one slot, until another executor comes.

    Attributes:
        back_at_s: when it comes.
        clock: whose time that is.
    """

    back_at_s: float
    clock: Clock = field(default_factory=Clock)

    def wait(self, *, is_again: bool) -> None:
        spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(master="spark://host:7077"))
        require_slots(spark, TWO_WORKERS, is_again=is_again)


def cluster(monkeypatch: pytest.MonkeyPatch, *, back_at_s: float) -> Cluster:
    made = Cluster(back_at_s)

    def count_slots(*_: object) -> int:
        return 2 if made.clock.now_s >= back_at_s else 1

    monkeypatch.setattr(launching, "time", made.clock)
    monkeypatch.setattr(launching, "_count_slots", count_slots)
    return made


def test_too_few_slots_for_the_first_attempt_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cluster(monkeypatch, back_at_s=200)
    said = (
        r"2 workers train at the same time, but Spark \(spark://host:7077\) has 1 slots; "
        r"set train\.num_workers to at most 1"
    )
    with pytest.raises(SettingsError, match=said):
        found.wait(is_again=False)
    assert found.clock.now_s == 60


def test_a_lost_executor_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cluster(monkeypatch, back_at_s=200)
    found.wait(is_again=True)
    assert found.clock.now_s == 200


def test_an_executor_that_does_not_come_back_is_a_lost_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = cluster(monkeypatch, back_at_s=1000)
    with pytest.raises(WorkerFailureError, match="has 1 slots for 2 workers, 300 s after") as lost:
        found.wait(is_again=True)
    assert lost.value.kind == LOST


def test_every_attempt_but_the_first_waits_for_a_lost_executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[bool] = []

    def lose(spark: object, job: object, *, is_again: bool) -> None:
        waits.append(is_again)
        raise WorkerFailureError("Spark has 1 slots for 2 workers", LOST)

    monkeypatch.setattr(workers, "run_on_spark", lose)
    no_spark: Any = None
    file = write_colours(tmp_path / "0.parquet", [range(9), range(9, 18)])
    said = r"attempt 3 of 3 ended: Spark has 1 slots for 2 workers\nrun the same command again"
    with pytest.raises(IncompleteError, match=said):
        train_distributed(
            no_spark,
            TWO_WORKERS,
            Examples([file], [], ("red", "green", "blue"), [6, 6, 6]),
            output_dir=str(tmp_path / "model"),
            checkpoint_dir=str(tmp_path / "checkpoints"),
        )
    assert waits == [False, True, True]
