"""A partition of photos: Arrow batches in, downloads in parallel, Arrow batches of crops out.

Two threads share the work: the transfers' waits on the network, this one decodes, cuts and encodes.
Between them is a queue that is bounded in bytes.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from croplake import tables as t
from croplake.fetching.at_hand import FileReads
from croplake.fetching.coordination import CoordinatorAddress
from croplake.fetching.cutting import cut_photo
from croplake.fetching.http import HttpLimits
from croplake.fetching.link import coordinator_link
from croplake.fetching.photo import DecodeBuffer
from croplake.fetching.photo_task import AtHand, FetchRules, PhotoTask, Sources
from croplake.fetching.request import OnDone, Request
from croplake.fetching.shares import Budgets
from croplake.fetching.transfers import Transfers

_MAX_ROWS: Final = 256
_MAX_BYTES: Final = 4 * 1024 * 1024
"""A batch goes out at whichever comes first: a task holds little beyond what is on the wire."""
_MAX_HELD_BYTES: Final = 48 * 1024 * 1024
"""Bytes of photos coming in or waiting to be decoded; beyond it no further transfer starts."""

_WINDOW: Final = 4
"""Photos begun, per transfer: those of a host that is paused must not keep others waiting."""

OnPhoto = Callable[[Counter[str], bool], None]
"""Told of every finished photo: how many of its boxes ended in which status, and whether some host
had an answer for it."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ReadyQueue:
    """Photos that wait to be decoded, and the bytes they hold."""

    def __init__(self, max_bytes: int = _MAX_HELD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._photos: deque[PhotoTask] = deque()
        self._num_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._failure: BaseException | None = None
        self.on_taken: Callable[[], None] = lambda: None

    def put(self, photo: PhotoTask) -> None:
        """Adds one; from any thread."""
        with self._changed:
            self._photos.append(photo)
            self._num_bytes += _num_bytes(photo)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """No more will come: those that are there are given out, then the error."""
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def get(self) -> PhotoTask:
        """Takes one, waiting for it.

        Raises:
            RuntimeError: none will come any more, by the error that `fail` was told.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._photos or self._failure is not None)
            if not self._photos:
                raise RuntimeError("no more photos come in") from self._failure
            photo = self._photos.popleft()
            was_scarce = self._num_bytes > self._max_bytes // 2
            self._num_bytes -= _num_bytes(photo)
            if was_scarce:
                self._changed.notify_all()
        if was_scarce:
            self.on_taken()
        return photo

    def has_room(self, num_bytes: int = 0) -> bool:
        """Whether further bytes may begin to come in, beside those that are on their way."""
        return self._num_bytes + num_bytes < self._max_bytes

    def wait_for_room(self) -> None:
        """Waits until bytes may come in, or until it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self.has_room())

    def close(self) -> None:
        """Lets those who wait for room go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def _num_bytes(photo: PhotoTask) -> int:
    return 0 if photo.answer is None else len(photo.answer.body)


def fetch_batches(
    batches: Iterable[pa.RecordBatch],
    rules: FetchRules,
    sources: Sources,
    ready: ReadyQueue,
    *,
    window: int,
    on_photo: OnPhoto,
    is_stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], datetime] = _utc_now,
) -> Iterator[pa.RecordBatch]:
    """Fetches every photo of a partition.

    Args:
        batches: rows of `photo_task.TASK_SCHEMA`.
        rules: of the run.
        sources: network and files; whatever they bring ends in `ready`.
        ready: this partition's own.
        window: photos that are under way or wait for their host, at once.
        on_photo: progress.
        is_stopping: turns true when no further photo is to be begun.
        clock: stamps the rows.

    Yields:
        Batches in the schema of `crops`; one row per box, in no particular order. Photos that were
        not begun before a stop have none.
    """
    buffer = DecodeBuffer()
    rows: list[dict[str, Any]] = []
    num_bytes = num_open = 0
    tasks = (row for batch in batches for row in batch.to_pylist())
    while True:
        while num_open < window and not is_stopping():
            row = next(tasks, None)
            if row is None:
                break
            num_open += 1
            PhotoTask(row, rules, sources, ready.put).ask_next()
        if not num_open:
            break
        photo = ready.get()
        crops = cut_photo(photo, rules, buffer, clock)
        if crops is None:
            continue
        num_open -= 1
        if crops:
            on_photo(Counter(row[t.STATUS] for row in crops), photo.was_answered)
        rows += crops
        num_bytes += sum(len(row[t.JPEG] or b"") for row in crops)
        if len(rows) >= _MAX_ROWS or num_bytes >= _MAX_BYTES:
            yield pa.RecordBatch.from_pylist(rows, schema=t.CROPS.schema)
            rows, num_bytes = [], 0
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=t.CROPS.schema)


class _NetworkAndFiles:
    """`Sources` over a task's transfers and reads."""

    def __init__(self, transfers: Transfers, files: FileReads) -> None:
        self.submit: Callable[[Request], None] = transfers.submit
        self.read: Callable[[AtHand, OnDone], None] = files.read


@dataclass(frozen=True)
class PartitionFetcher:
    """`fetch_batches` with all it needs, as one value that travels to the executors.

    Attributes:
        rules: of the run.
        limits: of HTTP.
        budgets: of the hosts, for all tasks together.
        num_tasks: that run at once, among which the budgets are shared.
        transfers: requests under way at once in a task, over all hosts.
        coordinator: where the driver listens and shares out; None: every task takes an equal part.
    """

    rules: FetchRules
    limits: HttpLimits
    budgets: Budgets
    num_tasks: int
    transfers: int
    coordinator: CoordinatorAddress | None = None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Fetches a partition; see `fetch_batches`."""
        ready = ReadyQueue()
        with ExitStack() as stack:
            link = stack.enter_context(
                coordinator_link(self.coordinator, self.budgets, self.num_tasks)
            )
            transfers = stack.enter_context(
                Transfers(
                    self.limits,
                    link,
                    max_transfers=self.transfers,
                    has_room=ready.has_room,
                    on_failure=ready.fail,
                )
            )
            ready.on_taken = transfers.wake
            link.serve(transfers)
            files = FileReads(max_bytes=self.limits.max_bytes, wait_for_room=ready.wait_for_room)
            stack.enter_context(files)
            stack.callback(ready.close)

            def is_stopping() -> bool:
                transfers.check()
                return link.is_stopping

            yield from fetch_batches(
                batches,
                self.rules,
                _NetworkAndFiles(transfers, files),
                ready,
                window=_WINDOW * self.transfers,
                on_photo=link.add,
                is_stopping=is_stopping,
            )
