"""Distributed training: N tasks of a Spark barrier stage are the N workers of a training.

The driver never imports TensorFlow.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from croplake import errors, storage
from croplake.conf import TrainConf
from croplake.errors import SettingsError
from croplake.training.process import PROGRESS_FILE, SplitFiles, WorkerJob
from croplake.training.shards import plan_shards, require_work_for_all
from croplake.training.task import ERROR_MARK, run_worker

_POLL_S: Final = 0.5
_EXECUTORS_WAIT_S: Final = 60.0
"""How long a cluster's executors may take to report."""

OnEpoch = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        output_dir: folder with model.keras, model.h5, labels.json, history.json, settings.json.
        history: one record an epoch: epoch (from 1), loss, accuracy, validation_loss,
            validation_accuracy (where there is a validation split), learning_rate, seconds,
            images_per_s.
        digests: SHA-256 of every worker's final weights, in the workers' order; all equal.
        seconds: from the start of the stage to its end, TensorFlow's start included.
        images_per_s: median over the epochs, of all workers together.
    """

    output_dir: Path
    history: tuple[dict[str, float], ...]
    digests: tuple[str, ...]
    seconds: float
    images_per_s: float


def train_distributed(
    spark: SparkSession,
    conf: TrainConf,
    *,
    train_files: Sequence[str],
    validation_files: Sequence[str],
    labels: Sequence[str],
    output_dir: str,
    on_epoch: OnEpoch = lambda record: None,
) -> TrainingResult:
    """Trains the classifier with `conf.num_workers` Spark tasks.

    Args:
        spark: the session; needs as many free slots as workers.
        conf: of the training.
        train_files: Parquet files of the training split (columns image, label_index).
        validation_files: of the validation split; without any, nothing is validated.
        labels: categories in the order of label_index.
        output_dir: a local or shared folder that the first worker writes to.
        on_epoch: called with each epoch's record, while the training runs where driver and first
            worker share `output_dir`, else at its end.

    Returns:
        The result.

    Raises:
        SettingsError: more workers than slots, or weights that do not fit.
        InputDataError: unreadable shards, or fewer row groups than workers.
        IncompleteError: the ImageNet weights could not be downloaded.
    """
    folder = Path(output_dir).resolve()
    job = _describe(conf, train_files, validation_files, labels, folder)
    require_slots(spark, conf.num_workers)
    started = time.monotonic()
    with _following(folder / PROGRESS_FILE, on_epoch) as follow:
        answers = _run_stage(spark, job)
    follow.catch_up(answers[0]["history"])
    history = tuple(answers[0]["history"])
    return TrainingResult(
        output_dir=folder,
        history=history,
        digests=tuple(answer["digest"] for answer in answers),
        seconds=time.monotonic() - started,
        images_per_s=median(record["images_per_s"] for record in history),
    )


def _describe(
    conf: TrainConf,
    train_files: Sequence[str],
    validation_files: Sequence[str],
    labels: Sequence[str],
    folder: Path,
) -> WorkerJob:
    train = plan_shards(train_files, conf.num_workers)
    require_work_for_all(train)
    validation = plan_shards(validation_files, conf.num_workers)
    if conf.weights not in ("imagenet", "none"):
        # The workers' working folders are not the driver's.
        conf = conf.model_copy(update={"weights": storage.absolute(conf.weights)})
    return WorkerJob(
        conf=conf,
        train=SplitFiles(files=tuple(train_files), group_rows=train.group_rows),
        validation=SplitFiles(files=tuple(validation_files), group_rows=validation.group_rows)
        if validation.num_rows
        else None,
        labels=tuple(labels),
        output_dir=str(folder),
    )


def require_slots(spark: SparkSession, num_workers: int) -> None:
    """Refuses what Spark would otherwise wait for ten minutes, or for ever.

    Raises:
        SettingsError: there are fewer slots than workers.
    """
    context = spark.sparkContext
    deadline = time.monotonic() + (
        0 if str(context.master).startswith("local[") else _EXECUTORS_WAIT_S
    )
    while (slots := _count_slots(spark)) < num_workers:
        if time.monotonic() >= deadline:
            raise SettingsError(
                f"train.num_workers: {num_workers} workers train at the same time, but Spark "
                f"({context.master}) has {slots} slots; set train.num_workers to at most {slots}, "
                f"or give Spark more (local[{num_workers}], more executors or cores)"
            )
        time.sleep(_POLL_S)


def _count_slots(spark: SparkSession) -> int:
    # What Spark itself checks a barrier stage against; Python has no name for it.
    scala = spark.sparkContext._jsc.sc()
    profile = scala.resourceProfileManager().defaultResourceProfile()
    return int(scala.maxNumConcurrentTasks(profile))


def _run_stage(spark: SparkSession, job: WorkerJob) -> list[dict[str, Any]]:
    text = job.model_dump_json()
    num_workers = job.conf.num_workers
    ranks = spark.sparkContext.parallelize(range(num_workers), num_workers).barrier()
    try:
        return ranks.mapPartitions(lambda _: iter([run_worker(text)])).collect()
    except Exception as error:  # py4j's for a failed job, PySpark's own for the rest
        found = re.search(re.escape(ERROR_MARK) + r"(\{.*\})", str(error))
        if found is None or isinstance(error, PySparkException):
            raise
        failure = json.loads(found[1])
        kind = getattr(errors, failure["kind"], None)
        if kind is None:
            raise RuntimeError(failure["error"]) from error
        raise kind(failure["error"]) from None


class _Follower:
    """Passes on the epochs that the first worker has written down, each once."""

    def __init__(self, path: Path, on_epoch: OnEpoch) -> None:
        self._path = path
        self._on_epoch = on_epoch
        self._num_seen = 0

    def poll(self) -> None:
        """Reads what is new; a line still being written waits for the next time."""
        if self._path.exists():
            lines = self._path.read_text().split("\n")[:-1]
            self.catch_up([json.loads(line) for line in lines])

    def catch_up(self, history: Sequence[dict[str, float]]) -> None:
        """Passes on what of a history has not been."""
        for record in history[self._num_seen :]:
            self._num_seen += 1
            self._on_epoch(record)


@contextmanager
def _following(path: Path, on_epoch: OnEpoch) -> Iterator[_Follower]:
    path.unlink(missing_ok=True)
    follower, stop = _Follower(path, on_epoch), threading.Event()

    def follow() -> None:
        while not stop.wait(_POLL_S):
            follower.poll()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield follower
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)
