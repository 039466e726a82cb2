"""Driver and tasks in touch: budgets shared out, pauses passed on, progress, and the word to stop.

Each task keeps one small connection to the driver and sends a line at least twice a second; each is
answered. A host's budget is handed out in parts that never add up to more than it; a task that has
no work for a host gives its part back, so that another can have it. What one task learns of a host
all others hear with their next answer, and tasks of later chunks with their first.

Counts are for the eyes alone: what landed is read from the table.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from typing import Any, Final, NamedTuple

from croplake.fetching.pacing import Share
from croplake.fetching.shares import Budgets

_LEVEL_DOUBLES_IN_S: Final = 30.0
_MOST_DOUBLINGS: Final = 64.0
"""By then any level is 1 again; the clock counts from the machine's start, and 2 to the power of
days is no number any more."""
_LONGEST_SILENCE_S: Final = 30.0
"""A task that says nothing for so long is gone, its machine with it."""
_LONGEST_TOKEN_BYTES: Final = 256

OnProgress = Callable[[int, Counter[str], int], None]
"""Told of further photos done, of their boxes' statuses, and of how many some host had an answer
for; one call at a time."""


class CoordinatorAddress(NamedTuple):
    """Where a driver listens, and the word that lets a task in."""

    host: str
    port: int
    token: str


@dataclass
class _Host:
    """What is known of a host. Times are the driver's monotonic clock.

    Attributes:
        granted: task to its transfers.
        resting: until when transfers that were given back are nobody's, and how many: who had them
            may have used them just now.
        paused_until: nobody asks before.
        level: see `current_level`.
        level_at: when it was learned.
    """

    granted: dict[int, int] = field(default_factory=dict)
    resting: list[tuple[float, int]] = field(default_factory=list)
    paused_until: float = 0.0
    level: float = 1.0
    level_at: float = 0.0

    def current_level(self, now: float) -> float:
        """The pace it was found to bear, which is forgotten with time."""
        doublings = min((now - self.level_at) / _LEVEL_DOUBLES_IN_S, _MOST_DOUBLINGS)
        return min(1.0, self.level * 2**doublings)


class Coordinator:
    """The driver's end.

    Attributes:
        address: for the tasks.
    """

    def __init__(
        self, address: CoordinatorAddress, budgets: Budgets, num_tasks: int, on_progress: OnProgress
    ) -> None:
        self.address = address
        self._budgets, self._num_tasks, self._on_progress = budgets, num_tasks, on_progress
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()
        self._is_stopping = False

    def stop(self) -> None:
        """Tells every task, with its next answer, to begin no further photo."""
        self._is_stopping = True

    def answer(self, task: int, said: dict[str, Any]) -> dict[str, Any]:
        """Takes in what a task says and gives it its shares.

        Args:
            task: number of the connection.
            said: `photos`, `answered` (of them), `statuses`, `wants` (hosts), `learned` (host to
                pause in seconds and level).

        Returns:
            `shares` (host to the fields of `Share`; no entry: nothing is free yet) and `stop`.
        """
        now = time.monotonic()
        with self._lock:
            if said.get("photos"):
                statuses = Counter[str](said["statuses"])
                self._on_progress(int(said["photos"]), statuses, int(said["answered"]))
            for name, (paused_for_s, level) in said.get("learned", {}).items():
                host = self._hosts.setdefault(name, _Host())
                host.paused_until = max(host.paused_until, now + float(paused_for_s))
                host.level, host.level_at = min(float(level), host.current_level(now)), now
            wants = set(said.get("wants", ()))
            for name in self._hosts.keys() - wants:
                self._take_back(task, name, now)
            shares = {name: self._share(task, name, now) for name in sorted(wants)}
        given = {name: astuple(share) for name, share in shares.items() if share is not None}
        return {"shares": given, "stop": self._is_stopping}

    def forget(self, task: int) -> None:
        """A task's connection has ended: what it held is free."""
        with self._lock:
            for name in self._hosts:
                self._take_back(task, name, time.monotonic())

    def _take_back(self, task: int, name: str, now: float) -> None:
        transfers = self._hosts[name].granted.pop(task, None)
        rate_per_s = self._budgets.share(name, self._num_tasks).rate_per_s
        if transfers is not None and rate_per_s is not None:
            self._hosts[name].resting.append((now + 1 / rate_per_s, transfers))

    def _share(self, task: int, name: str, now: float) -> Share | None:
        host = self._hosts.setdefault(name, _Host())
        part = self._budgets.share(name, self._num_tasks)
        if task not in host.granted:
            host.resting = [(until, transfers) for until, transfers in host.resting if until > now]
            used = sum(host.granted.values()) + sum(transfers for _, transfers in host.resting)
            if self._budgets.of(name).transfers - used < part.transfers:
                return None
            host.granted[task] = part.transfers
        paused_for_s = max(0.0, host.paused_until - now)
        return Share(host.granted[task], part.rate_per_s, paused_for_s, host.current_level(now))


@contextlib.contextmanager
def coordinator(
    host: str, budgets: Budgets, num_tasks: int, on_progress: OnProgress
) -> Iterator[Coordinator]:
    """Listens for tasks while it is open.

    Args:
        host: address of the driver that executors can reach (`spark.driver.host`).
        budgets: of the hosts, for all tasks together.
        num_tasks: that run at once.
        on_progress: for the display.

    Yields:
        The coordinator; its `address` goes to the tasks.
    """
    numbers = iter(range(1 << 62))

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True
        timeout = _LONGEST_SILENCE_S

        def handle(self) -> None:
            task = next(numbers)
            # Whatever a task says or does not say, what it held is free afterwards.
            with contextlib.suppress(Exception), contextlib.ExitStack() as stack:
                stack.callback(running.forget, task)
                token = self.rfile.readline(_LONGEST_TOKEN_BYTES).strip()
                if not secrets.compare_digest(token, running.address.token.encode()):
                    return
                for line in self.rfile:
                    reply = running.answer(task, json.loads(line))
                    self.wfile.write(json.dumps(reply).encode() + b"\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 1024

    with Server((host, 0), Handler) as server:
        address = CoordinatorAddress(host, server.server_address[1], secrets.token_hex(16))
        running = Coordinator(address, budgets, num_tasks, on_progress)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
