"""A task's end of the connection to the driver; see `coordination`."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader
from typing import Any, Final

from croplake.fetching.coordination import CoordinatorAddress
from croplake.fetching.pacing import Share
from croplake.fetching.shares import Budgets, EqualShares
from croplake.fetching.transfers import Transfers

_EVERY_S: Final = 0.5
_EVERY_S_WHILE_WAITING: Final = 0.05
_CONNECT_TIMEOUT_S: Final = 5.0


class CoordinatorLink:
    """A task's end: `transfers.Shares`, and a thread that talks to the driver.

    A driver that cannot be reached costs the display and the exact division of the budgets: the
    task takes an equal part of each. A host whose budget has no part for every task is then left
    alone, its photos are due again in the next run.

    Attributes:
        is_stopping: whether no further photo is to be begun.
    """

    def __init__(
        self, address: CoordinatorAddress | None, budgets: Budgets, num_tasks: int
    ) -> None:
        self.is_stopping = False
        self._address = address
        self._budgets, self._num_tasks = budgets, num_tasks
        self._alone = EqualShares(budgets, num_tasks)
        self._changed = threading.Condition()
        self._photos, self._answered, self._statuses = 0, 0, Counter[str]()
        self._wants: set[str] = set()
        self._granted: set[str] = set()
        self._learned: dict[str, tuple[float, float]] = {}
        self._is_urgent = self._is_closing = False
        self._transfers: Transfers | None = None
        self._thread = threading.Thread(target=self._talk, name="coordination", daemon=True)

    def serve(self, transfers: Transfers) -> None:
        """Begins to talk for these transfers."""
        self._transfers = transfers
        if self._address is not None:
            self._thread.start()

    def add(self, statuses: Counter[str], was_answered: bool) -> None:
        """Counts one finished photo.

        Args:
            statuses: in which its boxes ended.
            was_answered: whether some host had an answer for it.
        """
        with self._changed:
            self._photos += 1
            self._answered += was_answered
            self._statuses += statuses

    def want(self, host: str) -> Share | None:
        """Asks the driver for a share; alone, takes an equal one."""
        if self._address is None:
            return self._want_alone(host)
        with self._changed:
            if host not in self._wants:
                self._wants.add(host)
                self._hurry()
        return None

    def holds(self, host: str) -> bool:
        """Whether a share that the driver has given was not given back."""
        with self._changed:
            return self._address is None or host in self._granted

    def let_go(self, host: str) -> None:
        """Gives a share back with the next line."""
        with self._changed:
            self._wants.discard(host)
            self._granted.discard(host)
            self._hurry()

    def learned(self, host: str, paused_for_s: float, level: float) -> None:
        """Passes a pause on at once."""
        with self._changed:
            self._learned[host] = (paused_for_s, level)
            self._hurry()

    def close(self) -> None:
        """Says the last word and ends the thread."""
        with self._changed:
            self._is_closing = True
            self._hurry()
        if self._thread.ident is not None:
            self._thread.join()

    def _hurry(self) -> None:
        self._is_urgent = True
        self._changed.notify_all()

    def _talk(self) -> None:
        address = self._address
        if address is None:
            return
        try:
            place = (address.host, address.port)
            with socket.create_connection(place, timeout=_CONNECT_TIMEOUT_S) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(address.token.encode() + b"\n")
                with connection.makefile("rb") as answers:
                    while self._exchange(connection, answers):
                        pass
        # Whatever became of the driver or of what it says: photos must not wait for it.
        except Exception:
            self._go_on_alone()

    def _exchange(self, connection: socket.socket, answers: BufferedReader) -> bool:
        """Sends a line and takes its answer; False after the last."""
        with self._changed:
            is_waiting = self._wants != self._granted
            timeout_s = _EVERY_S_WHILE_WAITING if is_waiting else _EVERY_S
            self._changed.wait_for(lambda: self._is_urgent, timeout_s)
            self._is_urgent = False
            is_last = self._is_closing
            said = {
                "photos": self._photos,
                "answered": self._answered,
                "statuses": self._statuses,
                "learned": self._learned,
                "wants": [] if is_last else sorted(self._wants),
            }
            line = json.dumps(said).encode() + b"\n"
            self._photos, self._answered, self._statuses = 0, 0, Counter()
            self._learned = {}
        connection.sendall(line)
        answer = answers.readline()
        if not answer:
            raise ConnectionError("the driver hung up")
        self._take(json.loads(answer))
        return not is_last

    def _take(self, answer: dict[str, Any]) -> None:
        if answer["stop"] and not self.is_stopping:
            self.is_stopping = True
            if self._transfers is not None:
                self._transfers.drain()
        for host, fields in answer["shares"].items():
            share = Share(*fields)
            with self._changed:
                if host not in self._wants:
                    continue  # given up meanwhile; the next line says so
                is_news = host not in self._granted or share.paused_for_s > 0
                self._granted.add(host)
            if is_news and self._transfers is not None:
                self._transfers.grant(host, share)

    def _go_on_alone(self) -> None:
        with self._changed:
            self._address = None
            wants = set(self._wants)
        for host in wants:
            share = self._want_alone(host)
            if share is not None and self._transfers is not None:
                self._transfers.grant(host, share)

    def _want_alone(self, host: str) -> Share | None:
        if self._budgets.is_for_all(host, self._num_tasks):
            return self._alone.want(host)
        if self._transfers is not None:
            self._transfers.refuse(host)
        return None


@contextlib.contextmanager
def coordinator_link(
    address: CoordinatorAddress | None, budgets: Budgets, num_tasks: int
) -> Iterator[CoordinatorLink]:
    """A task's link, closed with a last word; see `CoordinatorLink`."""
    link = CoordinatorLink(address, budgets, num_tasks)
    try:
        yield link
    finally:
        link.close()
