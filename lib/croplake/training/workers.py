"""Distributed training, seen from the driver: begun, followed, and begun again where a worker died.

The driver never imports TensorFlow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from pyspark.sql import SparkSession

from croplake import errors, storage
from croplake.conf import TrainConf
from croplake.errors import IncompleteError, InputDataError
from croplake.training.checkpoints import Checkpoints, read_history
from croplake.training.launching import Answers, run_as_processes, run_on_spark
from croplake.training.process import MODEL_FILE, SplitFiles, WorkerJob
from croplake.training.shards import plan_shards, require_work_for_all
from croplake.training.worker_process import LOST, WorkerFailureError

_LOCAL_POLL_S: Final = 0.5
_REMOTE_POLL_S: Final = 3.0

OnEpoch = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        history: one record an epoch: epoch and phase (from 1), loss, accuracy, validation_loss,
            validation_accuracy (where there is a validation split), learning_rate, seconds,
            images_per_s.
        epoch: whose weights the model has.
        digests: SHA-256 of every worker's final weights, in the workers' order; all equal.
        num_attempts: how often it was begun.
        seconds: from the start to the end, TensorFlow's start included.
        images_per_s: median over the epochs, of all workers together.
        notes: for the user: of callbacks that failed.
    """

    history: tuple[dict[str, float], ...]
    epoch: int
    digests: tuple[str, ...]
    num_attempts: int
    seconds: float
    images_per_s: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Examples:
    """What a training reads.

    Attributes:
        train_files: Parquet files of the training split (columns image, label_index).
        validation_files: of the validation split; without any, nothing is validated.
        labels: categories in the order of label_index.
        label_counts: examples of the training split by label.
    """

    train_files: Sequence[str]
    validation_files: Sequence[str]
    labels: Sequence[str]
    label_counts: Sequence[int]


def train_distributed(
    spark: SparkSession,
    conf: TrainConf,
    examples: Examples,
    *,
    output_dir: str,
    checkpoint_dir: str,
    on_epoch: OnEpoch = lambda record: None,
    on_loss: Callable[[str], None] = lambda text: None,
) -> TrainingResult:
    """Trains the classifier with `conf.num_workers` workers.

    Args:
        spark: the session; with `launch: spark` it needs as many free slots as workers.
        conf: of the training.
        examples: to train on.
        output_dir: address of the model's folder, which the first worker writes: model.keras,
            model.h5 where the base has one, labels.json, history.json, settings.json.
        checkpoint_dir: address of a folder of this training's own; checkpoints that are there are
            gone on from, and stay. Both are on a root that all workers share.
        on_epoch: called with each epoch's record, while the training runs; those of the checkpoint
            first.
        on_loss: told of a worker that died, before the training is begun again.

    Returns:
        The result.

    Raises:
        SettingsError: more workers than slots, or weights that do not fit.
        InputDataError: unreadable shards, or fewer row groups than workers.
        IncompleteError: the ImageNet weights could not be downloaded, or workers died in every
            attempt.
    """
    job = describe_job(
        conf, examples, storage.absolute(output_dir), storage.absolute(checkpoint_dir)
    )
    started = time.monotonic()
    with _following(job.checkpoint_dir, on_epoch) as follower:
        answers, num_attempts = _run_attempts(spark, job, on_loss)
    history = answers[0]["history"]
    follower.catch_up(history)
    digests = tuple(answer["digest"] for answer in answers)
    if len(set(digests)) > 1:
        raise RuntimeError(f"the workers ended with different weights: {', '.join(digests)}")
    if not storage.exists(storage.join(job.output_dir, MODEL_FILE)):
        raise InputDataError(
            f"{job.output_dir}: the first worker wrote the model there, but it is not there for "
            "the driver; expected a lake.root that all machines share"
        )
    return TrainingResult(
        history=tuple(history),
        epoch=answers[0]["epoch"],
        digests=digests,
        num_attempts=num_attempts,
        seconds=time.monotonic() - started,
        images_per_s=median(record["images_per_s"] for record in history),
        notes=tuple(answers[0]["notes"]),
    )


def describe_job(
    conf: TrainConf, examples: Examples, output_dir: str, checkpoint_dir: str
) -> WorkerJob:
    """What all workers of a training are told; see `train_distributed`.

    Raises:
        InputDataError: unreadable shards, or fewer row groups than workers.
    """
    train = plan_shards(examples.train_files, conf.num_workers)
    require_work_for_all(train)
    validation = plan_shards(examples.validation_files, conf.num_workers)
    if conf.weights_file:
        # The workers' working folders are not the driver's.
        conf = conf.model_copy(update={"weights": storage.absolute(conf.weights_file)})
    return WorkerJob(
        conf=conf,
        train=SplitFiles(files=tuple(examples.train_files), plan=train),
        validation=SplitFiles(files=tuple(examples.validation_files), plan=validation)
        if validation.num_rows
        else None,
        labels=tuple(examples.labels),
        label_counts=tuple(examples.label_counts),
        output_dir=output_dir,
        checkpoint_dir=checkpoint_dir,
    )


def _run_attempts(
    spark: SparkSession, job: WorkerJob, on_loss: Callable[[str], None]
) -> tuple[Answers, int]:
    """The answers of the attempt that came through, and its number."""
    attempt, most = 1, job.conf.max_attempts
    while True:
        try:
            if job.conf.launch == "processes":
                return run_as_processes(job), attempt
            return run_on_spark(spark, job, is_again=attempt > 1), attempt
        except WorkerFailureError as failure:
            if failure.kind != LOST:
                raise _as_error(failure) from failure
            place = _last_place(job)
            text = f"attempt {attempt} of {most} ended: {failure}"
            if attempt >= most:
                raise IncompleteError(
                    f"training: {text}\nrun the same command again: it goes on after {place} "
                    "(train.max_attempts is how often a run tries)"
                ) from failure
            on_loss(f"{text}\ntraining is begun again, after {place}")
            attempt += 1


def _last_place(job: WorkerJob) -> str:
    """What a training goes on after, for people."""
    try:
        marker = Checkpoints(job.checkpoint_dir).last()
    except OSError:  # the store does not answer now; the workers will ask it again
        return "the last complete epoch"
    return f"epoch {marker.progress.num_epochs}" if marker else "the beginning"


def _as_error(failure: WorkerFailureError) -> Exception:
    kind = getattr(errors, failure.kind, None)
    return RuntimeError(str(failure)) if kind is None else kind(str(failure))


class _Follower:
    """Passes on the epochs that are complete, each once."""

    def __init__(self, folder: str, on_epoch: OnEpoch) -> None:
        self._folder = folder
        self._on_epoch = on_epoch
        self._num_seen = 0

    def poll(self) -> None:
        """Looks for what is new; a store that does not answer is asked later."""
        try:
            self.catch_up(read_history(self._folder))
        except OSError:
            return

    def catch_up(self, history: Sequence[dict[str, float]]) -> None:
        """Passes on what of a history has not been."""
        for record in history[self._num_seen :]:
            self._num_seen += 1
            self._on_epoch(record)


@contextmanager
def _following(folder: str, on_epoch: OnEpoch) -> Iterator[_Follower]:
    follower, stop = _Follower(folder, on_epoch), threading.Event()
    pause_s = _LOCAL_POLL_S if storage.is_local(folder) else _REMOTE_POLL_S

    def follow() -> None:
        while not stop.wait(pause_s):
            follower.poll()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield follower
    finally:
        stop.set()
        thread.join()
