"""Single downloads for who can wait for them, by the same rules as all others."""

from __future__ import annotations

import queue
from typing import Protocol

from croplake.fetching.http import Answer, HttpLimits
from croplake.fetching.outcome import PhotoError
from croplake.fetching.request import Deadline, Request, Shares
from croplake.fetching.transfers import Transfers


class Getter(Protocol):
    """What reading needs of HTTP."""

    def get(self, url: str) -> bytes:
        """The body behind an address.

        Raises:
            PhotoError: no whole body came back, and why.
        """


class HttpGetter:
    """Downloads one address at a time for each of the threads that ask.

    Attributes:
        transfers: which do it; shares that come later are granted to them.
    """

    def __init__(self, limits: HttpLimits, shares: Shares, *, max_transfers: int) -> None:
        self._limits = limits
        self.transfers = Transfers(limits, shares, max_transfers=max_transfers)

    def __enter__(self) -> HttpGetter:
        return self

    def __exit__(self, *_: object) -> None:
        self.transfers.close()

    def get(self, url: str) -> bytes:
        """Downloads one address, following redirects.

        Args:
            url: http or https.

        Returns:
            The body, whole.

        Raises:
            PhotoError: the status names the failure.
        """
        ended: queue.SimpleQueue[Answer | PhotoError] = queue.SimpleQueue()
        deadline = Deadline(self._limits.photo_timeout_s)
        self.transfers.submit(Request(url, deadline, ended.put))
        answer = ended.get()
        if isinstance(answer, PhotoError):
            raise answer
        return answer.body
