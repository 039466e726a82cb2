"""How fast a task may ask each host, and what it learns from the answers.

A task holds a share of a host's budget (`Share`), which the driver hands out so that all tasks
together stay within it. Within its share a task goes as fast as the host bears: an answer of 429 or
503 halves its pace and pauses the host, successes raise it again in small steps, errors never do.
A host that only fails is paused for longer and longer, then given up: its photos end as
`host_paused`, to be tried again by a later run, and now and then a single request asks whether the
host is back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_FAILURES_IN_A_ROW: Final = 8
"""So many answers without a success pause a host."""
_FIRST_PAUSE_S: Final = 1.0
_PAUSE_GROWTH: Final = 4.0
_BUSY_PAUSE_S: Final = 0.25
"""After a 429 or 503 without Retry-After; doubled with each further one until a success."""
_BUSY_DOUBLINGS: Final = 3
"""So often at most: a host that needs longer can say so."""
_PAUSES_UNTIL_GIVEN_UP: Final = 3
_LEAST_LEVEL: Final = 1 / 32
_LATE_S: Final = 0.05
"""So much later than due a start may come without putting off the next."""
_STEPS_TO_DOUBLE: Final = 16
"""Successes that bring a halved pace back."""


@dataclass(frozen=True)
class HostBudget:
    """What all tasks together may ask of a host; see `croplake.conf.HostBudgetConf`.

    Attributes:
        transfers: requests under way at once.
        rate_per_s: requests started a second; None is no limit.
    """

    transfers: int
    rate_per_s: float | None = None


@dataclass(frozen=True)
class Share:
    """A task's part of a host's budget, and what other tasks have learned of the host.

    Attributes:
        transfers: requests this task may have under way at once; 0 until another task lets go.
        rate_per_s: requests it may start a second; None is no limit.
        paused_for_s: the host wants, or needs, to be left alone for so long.
        level: share of its pace at which others found the host to bear it, in (0, 1].
    """

    transfers: int
    rate_per_s: float | None = None
    paused_for_s: float = 0.0
    level: float = 1.0


class HostGate:
    """One task's view of one host. Times are seconds of a monotonic clock.

    Attributes:
        level: the pace, in (0, 1]: multiplies the share.
        paused_until: no request starts before.
        is_given_up: the host kept failing; only a single request asks now and then.
        running: requests under way.
    """

    def __init__(self, *, max_pause_s: float) -> None:
        self._max_pause_s = max_pause_s
        self._share: Share | None = None
        self._next_start = 0.0
        self._failures = 0
        self._pauses = 0
        self._slowdowns = 0
        self._paused_at = 0.0
        self.level = 1.0
        self.paused_until = 0.0
        self.running = 0

    @property
    def is_given_up(self) -> bool:
        """Whether the host kept failing through every pause."""
        return self._pauses >= _PAUSES_UNTIL_GIVEN_UP

    def is_left_alone(self, now: float) -> bool:
        """Whether it was given up and it is not time yet to ask whether it is back."""
        return self.is_given_up and (now < self.paused_until or self.running > 0)

    @property
    def has_share(self) -> bool:
        """Whether requests may start at all."""
        return self._share is not None and self._share.transfers > 0

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        if self._share is None or self._share.transfers < 1:
            return 0
        if self._pauses:
            return 1
        return max(1, int(self._share.transfers * self.level))

    def grant(self, share: Share, now: float) -> None:
        """Takes a share; what others learned counts where it is the more careful."""
        is_new = not self.has_share
        self._share = share
        if share.paused_for_s > 0:
            paused_for_s = min(share.paused_for_s, self._max_pause_s)
            self.paused_until = max(self.paused_until, now + paused_for_s)
        if is_new:
            self.level = min(self.level, share.level)

    def let_go(self) -> None:
        """Gives the share back: nothing starts until the next one."""
        self._share = None

    def may_start(self, now: float) -> bool:
        """Whether a request may start now."""
        return self.running < self.limit and now >= max(self.paused_until, self._next_start)

    def opens_at(self, now: float) -> float | None:
        """When `may_start` can turn true by time alone; None where that takes an event."""
        if self.running >= self.limit:
            return None
        return max(now, self.paused_until, self._next_start)

    def started(self, now: float) -> None:
        """A request starts."""
        self.running += 1
        if self._share is not None and self._share.rate_per_s is not None:
            interval_s = 1 / (self._share.rate_per_s * self.level)
            # What was not used while idle is not saved up: a burst is what hosts dislike.
            late_s = min(interval_s, _LATE_S)
            self._next_start = max(self._next_start, now - late_s) + interval_s

    def succeeded(self) -> None:
        """A request ended in a whole answer."""
        self.running -= 1
        self._failures = self._pauses = self._slowdowns = 0
        self.level = min(1.0, self.level * (1 + 1 / _STEPS_TO_DOUBLE))

    def answered(self) -> None:
        """A request ended in a refusal that concerns its photo alone (404, 403, …).

        The host is there; but after a pause only a success opens it wide again.
        """
        self.running -= 1
        self._failures = 0
        self._pauses = min(self._pauses, 1)

    def slowed(self, now: float, started_at: float, retry_after_s: float | None) -> None:
        """A request ended in 429 or 503.

        Args:
            now: the time.
            started_at: when the request started; one from before the last pause halves nothing.
            retry_after_s: what the host asked for; taken up to the longest pause.
        """
        self.running -= 1
        if started_at >= self._paused_at:
            self.level = max(_LEAST_LEVEL, self.level / 2)
            self._paused_at = now
            self._slowdowns += 1
        wait_s = retry_after_s
        if wait_s is None:
            wait_s = _BUSY_PAUSE_S * 2.0 ** min(self._slowdowns - 1, _BUSY_DOUBLINGS)
        self.paused_until = max(self.paused_until, now + min(wait_s, self._max_pause_s))

    def failed(self, now: float, started_at: float) -> None:
        """A request ended in an error of the host: no connection, broken off, 5xx.

        Args:
            now: the time.
            started_at: when it started; what started before the last pause tells nothing new.
        """
        self.running -= 1
        if started_at < self._paused_at:
            return
        self._failures += 1
        if self._failures >= _FAILURES_IN_A_ROW or self._pauses:
            self._failures = 0
            wait_s = _FIRST_PAUSE_S * _PAUSE_GROWTH**self._pauses
            self._pauses += 1
            self._paused_at = now
            self.paused_until = max(self.paused_until, now + min(wait_s, self._max_pause_s))
