"""What a Spark task does in a distributed training: start its worker's process and mind it."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Final

from pyspark import BarrierTaskContext

from croplake.training.process import WorkerJob

ERROR_MARK: Final = "croplake worker failed: "
"""Comes before the failure as JSON in the text of a failed Spark job."""

_PORTS: Final = range(20000, 32768)
"""Below the ports that systems give to outgoing connections: one that is free now stays free until
the process, which first loads TensorFlow, binds it."""

_QUIET: Final = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONWARNINGS": "ignore",
    "PYTHONUNBUFFERED": "1",
}
_TAIL_CHARS: Final = 4000


def run_worker(job_text: str) -> dict[str, Any]:
    """Runs this task's worker to its end, in step with the other tasks of the barrier stage.

    Args:
        job_text: the `WorkerJob` of all workers as JSON.

    Returns:
        The answer of `process.train`.

    Raises:
        RuntimeError: the worker failed; the text holds `ERROR_MARK` and the failure as JSON. Spark
            then ends the other tasks, and their workers end with them.
    """
    context = BarrierTaskContext.get()
    rank = context.partitionId()
    host = context.getTaskInfos()[rank].address.rsplit(":", 1)[0]
    with _free_port() as reserved:
        addresses = context.allGather(f"{host}:{reserved.getsockname()[1]}")
    hosts = [address.rsplit(":", 1)[0] for address in addresses]
    job = WorkerJob.model_validate_json(job_text).model_copy(
        update={
            "worker_index": rank,
            "local_rank": hosts[:rank].count(host),
            "num_threads": max(1, count_cores() // hosts.count(host)),
        }
    )
    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    with tempfile.TemporaryFile() as log:
        process = _start(cluster, log)
        try:
            answer = _converse(process, job, log)
            # Nobody leaves before all have answered: a slower one may still need an exchange.
            context.barrier()
        finally:
            _end(process)
    return answer


def count_cores() -> int:
    """Cores this process may use: its CPU set, within its container's quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def _free_port() -> socket.socket:
    for port in random.sample(_PORTS, 200):
        found = socket.socket()
        try:
            found.bind(("", port))
        except OSError:
            found.close()
            continue
        return found
    raise RuntimeError(f"no free port between {_PORTS.start} and {_PORTS.stop} for a worker")


def _start(cluster: dict[str, Any], log: IO[bytes]) -> subprocess.Popen[str]:
    environment = os.environ | _QUIET
    environment["TF_CONFIG"] = json.dumps(cluster)
    # Packages that Spark shipped to this task are on sys.path alone.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(  # this interpreter, our own module
        [sys.executable, "-m", "croplake.training.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
        text=True,
    )


def _converse(process: subprocess.Popen[str], job: WorkerJob, log: IO[bytes]) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the worker's process has no pipes")
    try:
        process.stdin.write(job.model_dump_json() + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        code = process.wait()
        log.seek(0)
        tail = log.read().decode(errors="replace")[-_TAIL_CHARS:]
        cause = " (out of memory?)" if code == -9 else ""
        text = f"worker {job.worker_index} ended with status {code}{cause}; its last words:\n{tail}"
        raise RuntimeError(ERROR_MARK + json.dumps({"error": text, "kind": "defect"}))
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise RuntimeError(ERROR_MARK + json.dumps(answer))
    return answer


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
