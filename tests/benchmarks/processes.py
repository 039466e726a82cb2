"""Memory and CPU time of a Spark application's processes, from /proc."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_EVERY_S: Final = 1.0
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_SERVER: Final = "nginx"


@dataclass(frozen=True)
class Process:
    """A process at one moment.

    Attributes:
        pid: its number.
        parent: its parent's number.
        name: as /proc has it.
        role: `driver`, `jvm`, `worker` (runs tasks), `server` or `other`.
        cpu_s: its own and that of its ended children.
        rss_bytes: resident now.
        peak_bytes: most that ever was resident.
    """

    pid: int
    parent: int
    name: str
    role: str
    cpu_s: float
    rss_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Sample:
    """One moment of a run.

    Attributes:
        at_s: since the run's start.
        num_requests: that the server had answered since then.
        worker_bytes: resident memory of each Python worker.
        jvm_bytes: resident memory of the JVM.
    """

    at_s: float
    num_requests: int
    worker_bytes: list[int]
    jvm_bytes: int


@dataclass
class Usage:
    """What a run took.

    Attributes:
        samples: one a second.
        cpu_s: by role, of all processes but the server.
        worker_peak_bytes: the most that any Python worker ever held (the kernel's own mark).
    """

    samples: list[Sample] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)
    worker_peak_bytes: int = 0


@contextmanager
def watched(num_requests: Callable[[], int]) -> Iterator[Usage]:
    """Watches this process and all below it while the block runs.

    Args:
        num_requests: the server's count.

    Yields:
        Filled while the block runs, whole when it has ended.
    """
    usage = Usage()
    ended = threading.Event()
    before, started, first = cpu_s(), time.monotonic(), num_requests()

    def watch() -> None:
        while True:
            processes = family()
            workers = [process for process in processes if process.role == "worker"]
            jvm_bytes = sum(process.rss_bytes for process in processes if process.role == "jvm")
            sizes = [worker.rss_bytes for worker in workers]
            at_s, requests = time.monotonic() - started, num_requests() - first
            usage.samples.append(Sample(at_s, requests, sizes, jvm_bytes))
            peaks = [worker.peak_bytes for worker in workers]
            usage.worker_peak_bytes = max([usage.worker_peak_bytes, *peaks])
            if ended.wait(_EVERY_S):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield usage
    finally:
        ended.set()
        thread.join()
        after = cpu_s()
        usage.cpu_s = {role: after[role] - before[role] for role in after if role != "server"}


def family() -> list[Process]:
    """This process and all that descend from it."""
    found = {process.pid: process for process in _all()}
    own = os.getpid()
    members = {own}
    grown = True
    while grown:
        more = {pid for pid, process in found.items() if process.parent in members} - members
        members |= more
        grown = bool(more)
    return [found[pid] for pid in members if pid in found]


def cpu_s() -> Counter[str]:
    """CPU time of this process and all below it up to now, by role, in seconds."""
    total: Counter[str] = Counter()
    for process in family():
        total[process.role] += process.cpu_s  # type: ignore[assignment]  # seconds, not counts
    return total


def _all() -> Iterator[Process]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            # A process may end while it is looked at.
            with contextlib.suppress(OSError, IndexError, KeyError):
                yield _read(folder)


def _read(folder: Path) -> Process:
    # The name stands in brackets and may hold anything; after it come the numbers, state first.
    head, _, tail = (folder / "stat").read_text().rpartition(")")
    numbers = tail.split()
    parent = int(numbers[1])
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    kilobytes = {key: int(status.get(key, "0").split()[0]) for key in ("VmRSS", "VmHWM")}
    name = head.partition("(")[2]
    return Process(
        pid=int(folder.name),
        parent=parent,
        name=name,
        role=_role(int(folder.name), parent, name),
        cpu_s=sum(map(int, numbers[11:15])) / _TICKS_PER_S,
        rss_bytes=1024 * kilobytes["VmRSS"],
        peak_bytes=1024 * kilobytes["VmHWM"],
    )


def _role(pid: int, parent: int, name: str) -> str:
    """Spark forks its Python workers off one `pyspark.daemon`, which is no worker itself."""
    if pid == os.getpid():
        return "driver"
    if name in (_SERVER, "java"):
        return {"java": "jvm"}.get(name, "server")
    if _is_daemon(pid) and _is_daemon(parent):
        return "worker"
    return "other"


def _is_daemon(pid: int) -> bool:
    return b"pyspark.daemon" in Path("/proc", str(pid), "cmdline").read_bytes()
