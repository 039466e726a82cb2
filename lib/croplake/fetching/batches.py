"""A partition of photos: Arrow batches in, downloads in parallel, Arrow batches of crops out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from croplake import tables as t
from croplake.fetching.getter import Getter, HttpGetter, HttpLimits
from croplake.fetching.photo_task import FetchRules, fetch_photo
from croplake.fetching.progress import ProgressSender

_MAX_ROWS: Final = 256
_MAX_BYTES: Final = 4 * 1024 * 1024
"""A batch goes out at whichever comes first: a task holds little beyond what is on the wire."""

OnPhoto = Callable[[Counter[str]], None]
"""Told of every finished photo: how many of its boxes ended in which status."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def fetch_batches(
    batches: Iterable[pa.RecordBatch],
    rules: FetchRules,
    getter: Getter,
    *,
    transfers: int,
    on_photo: OnPhoto,
    clock: Callable[[], datetime] = _utc_now,
) -> Iterator[pa.RecordBatch]:
    """Fetches every photo of a partition.

    Args:
        batches: rows of `photo_task.TASK_SCHEMA`.
        rules: of the run.
        getter: HTTP; used from `transfers` threads at once.
        transfers: photos under way at once.
        on_photo: progress.
        clock: stamps the rows.

    Yields:
        Batches in the schema of `crops`; one row per box, in no particular order.
    """
    rows: list[dict[str, Any]] = []
    num_bytes = 0
    with ThreadPoolExecutor(transfers, thread_name_prefix="fetch") as pool:
        tasks = (row for batch in batches for row in batch.to_pylist())
        jobs = (pool.submit(fetch_photo, task, rules, getter, clock) for task in tasks)
        for done in _windowed(jobs, size=2 * transfers):
            crops = done.result()
            on_photo(Counter(row[t.STATUS] for row in crops))
            rows += crops
            num_bytes += sum(len(row[t.JPEG] or b"") for row in crops)
            if len(rows) >= _MAX_ROWS or num_bytes >= _MAX_BYTES:
                yield pa.RecordBatch.from_pylist(rows, schema=t.CROPS.schema)
                rows, num_bytes = [], 0
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=t.CROPS.schema)


def _windowed(jobs: Iterator[Future[Any]], *, size: int) -> Iterator[Future[Any]]:
    """Keeps at most `size` jobs under way; pulling the next one is what starts it."""
    window: deque[Future[Any]] = deque()
    for job in jobs:
        window.append(job)
        if len(window) >= size:
            yield window.popleft()
    yield from window


@dataclass(frozen=True)
class PartitionFetcher:
    """`fetch_batches` with all it needs, as one value that travels to the executors.

    Attributes:
        rules: of the run.
        limits: of HTTP.
        transfers: photos under way at once in a task.
        progress_address: where the driver listens for counts; None keeps them.
    """

    rules: FetchRules
    limits: HttpLimits
    transfers: int
    progress_address: tuple[str, int] | None = None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Fetches a partition; see `fetch_batches`."""
        sender = ProgressSender(self.progress_address)
        try:
            yield from fetch_batches(
                batches,
                self.rules,
                HttpGetter(self.limits),
                transfers=self.transfers,
                on_photo=sender.add,
            )
        finally:
            sender.close()
