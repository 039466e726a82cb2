"""Work of threads, ahead of who takes its results in batches; what lies ready is bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

MAX_BYTES: Final = 64 * 1024 * 1024
"""Of results that lie ready; nothing further is begun beyond, and a batch ends there."""


def in_batches_ahead(
    items: Iterable[In],
    work: Callable[[In], Out],
    *,
    batch_size: int,
    num_threads: int,
    size_of: Callable[[Out], int],
    max_bytes: int = MAX_BYTES,
) -> Iterator[list[Out]]:
    """Does the work of a batch while the one before it is in use.

    Args:
        items: read from the caller's thread only.
        work: called from the threads; must not raise.
        batch_size: results of a batch, but where they are large or the last.
        num_threads: that work.
        size_of: bytes that a result keeps in memory beside what all of them do.
        max_bytes: of these; a batch takes about as much, and so does what lies ready.

    Yields:
        Results in the order of the items.
    """
    coming, under_way = iter(items), deque[Future[Out]]()
    # In reach of the threads is the next batch, and what each of them has in hand.
    most = batch_size + num_threads
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="photos")
    try:
        while True:
            batch: list[Out] = []
            num_bytes = 0
            while len(batch) < batch_size and (not batch or num_bytes < max_bytes):
                _begin(coming, work, pool, under_way, most, size_of, max_bytes)
                if not under_way:
                    break
                batch.append(under_way.popleft().result())
                num_bytes += size_of(batch[-1])
            if not batch:
                return
            _begin(coming, work, pool, under_way, most, size_of, max_bytes)
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(
    coming: Iterator[In],
    work: Callable[[In], Out],
    pool: ThreadPoolExecutor,
    under_way: deque[Future[Out]],
    most: int,
    size_of: Callable[[Out], int],
    max_bytes: int,
) -> None:
    """Hands the threads what there is room for, one item at the least."""
    while len(under_way) < most:
        ready = sum(size_of(future.result()) for future in under_way if future.done())
        if under_way and ready >= max_bytes:
            return
        for item in coming:
            under_way.append(pool.submit(work, item))
            break
        else:
            return
