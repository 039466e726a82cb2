"""A host that counts how it is asked: how many at once, when, by whom."""

from __future__ import annotations

import threading
import time

from tests.faults.pictures import jpeg
from tests.faults.server import Script, Visit


class CountingHost:
    """A script that holds each request for a moment and counts those it holds.

    Attributes:
        most_at_once: requests under way at once, the greatest number seen.
        starts: monotonic times of all requests, in order.
        refused: how many were answered with 503 for being too many.
    """

    def __init__(self, *, hold_s: float = 0.03, limit: int = 1 << 30) -> None:
        self._hold_s, self._limit = hold_s, limit
        self._lock = threading.Lock()
        self._now = 0
        self.most_at_once = 0
        self.starts: list[float] = []
        self.refused = 0
        self.then: Script | None = None

    def __call__(self, visit: Visit) -> None:
        """Answers with a photo; with 503 where the limit is exceeded."""
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.starts.append(time.monotonic())
            is_too_many = self._now > self._limit
            self.refused += is_too_many
        visit.waits(self._hold_s)
        # Before the answer: who has it may ask again before this thread goes on.
        with self._lock:
            self._now -= 1
        if is_too_many:
            visit.answer(503, b"too many")
        elif self.then is not None:
            self.then(visit)
        else:
            visit.answer(200, jpeg())

    def most_starts_within(self, seconds: float) -> int:
        """The greatest number of requests that came within any window of this length."""
        times = sorted(self.starts)
        return max(sum(begin <= at < begin + seconds for at in times) for begin in times)
