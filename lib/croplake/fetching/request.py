"""What is asked of a task's transfers: an address, its photo's time, and who is told of the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from croplake.fetching.http import Answer
from croplake.fetching.outcome import PhotoError, Status
from croplake.fetching.pacing import Share

OnDone = Callable[[Answer | PhotoError], None]


class StoppedError(PhotoError):
    """The run stops before this photo was begun: nothing is known of it."""

    def __init__(self) -> None:
        super().__init__(Status.UNEXPECTED, "the run was stopped before")


class Deadline:
    """The time a photo has in all, over its sources, redirects and waits; it runs from its start.

    Attributes:
        total_s: of the photo.
        ends_at: monotonic; None until the first request starts.
    """

    def __init__(self, total_s: float) -> None:
        self.total_s = total_s
        self.ends_at: float | None = None

    def start(self, now: float) -> float:
        """Starts it if it does not run yet, and gives its end."""
        if self.ends_at is None:
            self.ends_at = now + self.total_s
        return self.ends_at


class Request:
    """An address to be had.

    Attributes:
        url: http or https; a redirect puts another one there.
        deadline: of its photo.
        part_of_rest: share of the photo's remaining time it may take, so that a slow source leaves
            some for the next.
        expected_bytes: length of the body where the catalog knows it.
        wait_s: how long to wait before it is asked.
        on_done: told of the end, once, in the thread of the transfers.
    """

    __slots__ = (
        "deadline",
        "ends_at",
        "expected_bytes",
        "hops",
        "host",
        "is_queued",
        "on_done",
        "part_of_rest",
        "started_at",
        "url",
        "wait_s",
    )

    def __init__(
        self,
        url: str,
        deadline: Deadline,
        on_done: OnDone,
        *,
        part_of_rest: float = 1.0,
        expected_bytes: int | None = None,
        wait_s: float = 0.0,
    ) -> None:
        self.url = url
        self.deadline = deadline
        self.on_done = on_done
        self.part_of_rest = part_of_rest
        self.expected_bytes = expected_bytes
        self.wait_s = wait_s
        self.host = ""
        self.is_queued = False
        self.hops = 0
        self.started_at = 0.0
        self.ends_at: float | None = None


class Shares(Protocol):
    """Where a task's shares of the hosts' budgets come from; called in the transfers' thread."""

    def want(self, host: str) -> Share | None:
        """There is work for a host; its share, or None where `Transfers.grant` brings it later."""

    def holds(self, host: str) -> bool:
        """Whether what `Transfers.grant` has brought is still this task's."""

    def let_go(self, host: str) -> None:
        """There is no more work for a host at the moment."""

    def learned(self, host: str, paused_for_s: float, level: float) -> None:
        """A host slowed this task down, or failed it."""
