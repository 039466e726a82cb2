"""All workers of a training at once: as tasks of a Spark barrier stage, or as plain processes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any, Final

from pyspark.errors import PySparkException
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from croplake.conf import TrainConf
from croplake.errors import SettingsError
from croplake.training.process import WorkerJob
from croplake.training.task import ERROR_MARK, GPU, run_worker
from croplake.training.worker_process import (
    DEFECT,
    LOST,
    WorkerFailureError,
    WorkerProcess,
    job_of_worker,
    reserve_port,
)

_POLL_S: Final = 0.5
_EXECUTORS_WAIT_S: Final = 60.0
"""How long a cluster's executors may take to report."""
_REPLACEMENT_WAIT_S: Final = 300.0
"""The same for one that takes the place of a lost one: its machine may have to start first."""
_LOCALHOST: Final = "127.0.0.1"
_EXECUTOR_IS_GONE: Final = re.compile(
    "ExecutorLostFailure|Python worker exited unexpectedly|SocketException|Connection reset|"
    # Fewer slots than workers, though there were enough when the job was submitted.
    r"Broken pipe|\[SPARK-24819\]"
)

Answers = list[dict[str, Any]]
"""Of `process.train`, in the workers' order."""


def run_as_processes(job: WorkerJob) -> Answers:
    """Runs all workers on this machine.

    Raises:
        WorkerFailureError: one of them failed; the others are ended.
    """
    num_workers = job.conf.num_workers
    with ExitStack() as stack:
        held = [reserve_port() for _ in range(num_workers)]
        addresses = [f"{_LOCALHOST}:{port.getsockname()[1]}" for port in held]
        for port in held:
            port.close()
        processes = [
            stack.enter_context(
                WorkerProcess(job_of_worker(job, rank, [_LOCALHOST] * num_workers), addresses, {})
            )
            for rank in range(num_workers)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(num_workers))
        answers = [pool.submit(process.answer) for process in processes]
        try:
            _first_failure(answers)
            return [answer.result() for answer in answers]
        except BaseException:
            for process in processes:
                process.kill()
            raise


def _first_failure(answers: Sequence[Any]) -> None:
    """Waits for all, and raises what failed first: what follows comes of it."""
    waiting = set(answers)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for answer in done:
            answer.result()


def run_on_spark(spark: SparkSession, job: WorkerJob, *, is_again: bool) -> Answers:
    """Runs each worker as a task of a barrier stage.

    Args:
        spark: the session.
        job: of all workers.
        is_again: an attempt before had all its workers, and lost one.

    Raises:
        SettingsError: there are fewer slots, or GPUs, than workers.
        WorkerFailureError: one of them failed, and Spark ends the others; or a lost executor has
            not come back.
    """
    profile = _gpu_profile(spark, job.conf)
    text, num_workers = job.model_dump_json(), job.conf.num_workers
    ranks = spark.sparkContext.parallelize(range(num_workers), num_workers)
    if profile:
        ranks = ranks.withResources(profile)  # from here on Spark knows it
    require_slots(spark, job.conf, profile, is_again=is_again)
    try:
        return ranks.barrier().mapPartitions(lambda _: iter([run_worker(text)])).collect()
    except Exception as error:  # py4j's for a failed job, PySpark's own for the rest
        if isinstance(error, PySparkException):
            raise
        raise failure_of(str(error)) from error


def failure_of(text: str) -> WorkerFailureError:
    """What a failed Spark job's text says of its workers."""
    found = re.search(re.escape(ERROR_MARK) + r"(\{.*\})", text)
    if found is not None:
        failure = json.loads(found[1])
        return WorkerFailureError(failure["error"], failure["kind"])
    return WorkerFailureError(text, LOST if _EXECUTOR_IS_GONE.search(text) else DEFECT)


def require_slots(
    spark: SparkSession,
    conf: TrainConf,
    profile: ResourceProfile | None = None,
    *,
    is_again: bool = False,
) -> None:
    """Refuses what Spark would otherwise wait for ten minutes, or for ever.

    Args:
        spark: the session.
        conf: of the training.
        profile: what a task takes, where that is not the session's.
        is_again: there were enough before an executor was lost.

    Raises:
        SettingsError: there are fewer slots than workers.
        WorkerFailureError: the same, though there were enough before.
    """
    context = spark.sparkContext
    is_local = str(context.master).startswith("local[")
    patience_s = _REPLACEMENT_WAIT_S if is_again else _EXECUTORS_WAIT_S
    deadline = time.monotonic() + (0 if is_local else patience_s)
    while (slots := _count_slots(spark, profile)) < conf.num_workers:
        if time.monotonic() >= deadline:
            what = "slots with a GPU" if profile else "slots"
            if is_again:
                raise WorkerFailureError(
                    f"Spark ({context.master}) has {slots} {what} for {conf.num_workers} workers, "
                    f"{patience_s:.0f} s after it lost an executor",
                    LOST,
                )
            raise SettingsError(
                f"train.num_workers: {conf.num_workers} workers train at the same time, but Spark "
                f"({context.master}) has {slots} {what}; set train.num_workers to at most {slots}, "
                f"or give Spark more (local[{conf.num_workers}], more executors or cores)"
            )
        time.sleep(_POLL_S)


def _count_slots(spark: SparkSession, profile: ResourceProfile | None) -> int:
    # What Spark itself checks a barrier stage against; Python has no name for it.
    scala = spark.sparkContext._jsc.sc()
    known = scala.resourceProfileManager()
    of = profile._java_resource_profile if profile else known.defaultResourceProfile()
    return int(scala.maxNumConcurrentTasks(of))


def _gpu_profile(spark: SparkSession, conf: TrainConf) -> ResourceProfile | None:
    """What a task of the stage takes of its executor: its GPUs, beside its cores.

    Raises:
        SettingsError: Spark has no GPUs to give.
    """
    if not conf.gpus_per_worker:
        return None
    properties = spark.sparkContext.getConf()
    has_gpus = float(properties.get(f"spark.executor.resource.{GPU}.amount", "0") or 0) > 0
    if str(spark.sparkContext.master).startswith("local") or not has_gpus:
        raise SettingsError(
            f"train.gpus_per_worker: {conf.gpus_per_worker}: Spark ({spark.sparkContext.master}) "
            f"has no GPUs to give; start it on a cluster with spark.executor.resource.{GPU}.amount "
            f"and spark.worker.resource.{GPU}.discoveryScript, or set it to 0: a worker then takes "
            "one of its machine's"
        )
    cores = int(properties.get("spark.task.cpus", "1") or 1)
    tasks = TaskResourceRequests().cpus(cores).resource(GPU, conf.gpus_per_worker)
    return ResourceProfileBuilder().require(tasks).build
