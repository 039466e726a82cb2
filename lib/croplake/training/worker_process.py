"""A worker's process seen from outside: started, told its job, minded, ended."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from croplake.training.allocator import FLAT_MEMORY
from croplake.training.process import WorkerJob

_PORTS: Final = range(20000, 32768)
"""Below the ports that systems give to outgoing connections: one that is free now stays free until
the process, which first loads TensorFlow, binds it."""
_ENVIRONMENT: Final[Mapping[str, str]] = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONWARNINGS": "ignore",
    "PYTHONUNBUFFERED": "1",
    # Workers talk to each other; a proxy for the world outside is not between them.
    "grpc_proxy": "",
    **FLAT_MEMORY,
}
_TAIL_CHARS: Final = 4000
_STARTUP: Final = re.compile(
    r"^(WARNING: All log messages before absl|[IW]\d{4} ).*\n?", re.MULTILINE
)
"""What TensorFlow says of itself whatever `TF_CPP_MIN_LOG_LEVEL` is."""
_PATIENCE_S: Final = 10.0


class WorkerFailureError(Exception):
    """A worker that gave no result.

    Attributes:
        kind: name of an error in `croplake.errors`, `lost` (it, or one it worked with, is gone: the
            training may be begun again) or `defect`.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


LOST: Final = "lost"
DEFECT: Final = "defect"


def reserve_port() -> socket.socket:
    """A bound socket on a port that stays free for a while once it is closed.

    Raises:
        RuntimeError: none was free.
    """
    for port in random.sample(_PORTS, 200):
        found = socket.socket()
        try:
            found.bind(("", port))
        except OSError:
            found.close()
            continue
        return found
    raise RuntimeError(f"no free port between {_PORTS.start} and {_PORTS.stop} for a worker")


def count_cores() -> int:
    """Cores this process may use: its CPU set, within its container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def job_of_worker(job: WorkerJob, rank: int, hosts: Sequence[str]) -> WorkerJob:
    """What one of the workers is told.

    Args:
        job: of all.
        rank: of this one.
        hosts: of all, by rank.
    """
    host = hosts[rank]
    threads = job.conf.threads_per_worker or max(1, count_cores() // hosts.count(host))
    return job.model_copy(
        update={
            "worker_index": rank,
            "local_rank": list(hosts[:rank]).count(host),
            "num_local": hosts.count(host),
            "num_threads": threads,
        }
    )


class WorkerProcess:
    """The process of one worker; a context manager that ends it, however the block ends."""

    def __init__(
        self, job: WorkerJob, addresses: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """Starts it.

        Args:
            job: its own.
            addresses: `host:port` of all workers, by rank.
            environment: beside this process's.
        """
        self._rank = job.worker_index
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed at the exit
        # What a killed process leaves behind goes with this folder; where this one is killed, the
        # process removes it.
        self._scratch = tempfile.TemporaryDirectory(prefix="croplake-worker-")
        task = {"type": "worker", "index": self._rank}
        cluster = {"cluster": {"worker": list(addresses)}, "task": task}
        own = {
            "TF_CONFIG": json.dumps(cluster),
            "TMPDIR": self._scratch.name,
            # Packages that Spark shipped to this task are on sys.path alone.
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self._process = subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-m", "croplake.training.process", self._scratch.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | dict(_ENVIRONMENT) | own | dict(environment),
            text=True,
        )
        self._tell(job.model_dump_json())

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):  # it flushes, and nobody may be there to read
                self._process.stdin.close()
        try:
            self._process.wait(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        self._scratch.cleanup()

    def kill(self) -> None:
        """Ends it now; whoever waits for its answer hears of it."""
        self._process.kill()

    def answer(self) -> dict[str, Any]:
        """Waits for its result.

        Raises:
            WorkerFailureError: there is none.
        """
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise WorkerFailureError(self._last_words(), LOST)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailureError(answer["error"], answer["kind"])
        return answer

    def _tell(self, text: str) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(text + "\n")
                self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone; `answer` says so

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        said = _STARTUP.sub("", self._log.read().decode(errors="replace"))
        tail = said[-_TAIL_CHARS:].strip()
        cause = " (out of memory?)" if code == -9 else ""
        words = f"; its last words:\n{tail}" if tail else ""
        return f"worker {self._rank} ended with status {code}{cause}{words}"
