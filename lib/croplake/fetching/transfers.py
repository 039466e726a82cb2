"""All downloads of a task: one thread, one libcurl multi handle, one queue per host.

The thread waits on the sockets of all transfers at once and starts what each host's gate lets
through. Whoever submits is told of the end in this thread, so that must be brief.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from croplake.fetching.addresses import AddressRules, ascii_host, host_key
from croplake.fetching.http import MAX_REDIRECTS, UNAVAILABLE, Answer, CurlTransfer, HttpLimits
from croplake.fetching.libcurl import pycurl
from croplake.fetching.outcome import HOST_FAILURES, PhotoError, Status
from croplake.fetching.pacing import HostGate, Share
from croplake.fetching.request import Request, Shares, StoppedError

_LONGEST_WAIT_S: Final = 5.0
_EVENTS: Final = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


class Transfers:
    """Downloads; a context manager that ends its thread.

    Attributes:
        num_bytes_held: bytes of bodies that have begun to come in and were not given on yet.
    """

    def __init__(
        self,
        limits: HttpLimits,
        shares: Shares,
        *,
        max_transfers: int,
        has_room: Callable[[int], bool] = lambda num_bytes: True,
        on_failure: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        """Starts the thread.

        Args:
            limits: of each request.
            shares: of the hosts' budgets.
            max_transfers: requests under way at once, over all hosts.
            has_room: whether another may start, or a large body grow, given the bytes of those
                under way.
            on_failure: told of a defect that has ended the thread.
        """
        self._limits, self._shares, self._has_room = limits, shares, has_room
        self._rules = AddressRules(limits.private_hosts)
        self._on_failure = on_failure
        self._max_transfers = max_transfers
        self._gates: dict[str, HostGate] = {}
        self._queues: dict[str, deque[Request]] = {}
        self._later: list[tuple[float, int, Request]] = []
        self._ends: list[tuple[float, int, Request]] = []
        self._sequence = itertools.count()
        self._inbox: deque[Request | Callable[[], None]] = deque()
        self._free: list[CurlTransfer] = []
        self._running: dict[pycurl.Curl, tuple[CurlTransfer, Request]] = {}
        self._paused: set[CurlTransfer] = set()
        self._refused: set[str] = set()
        self._timer_at: float | None = None
        self._is_draining = self._is_closing = self._is_closed = False
        self._failure: BaseException | None = None
        self._epoll = select.epoll()
        self._wake_lock = threading.Lock()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 2 * max_transfers)
        self._thread = threading.Thread(target=self._run, name="transfers", daemon=True)
        self._thread.start()

    def __enter__(self) -> Transfers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- from any thread ------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Queues a request; `request.on_done` is told of its end, in any case.

        Where a defect has ended the thread, that is at once, in the thread that submits.
        """
        self._inbox.append(request)
        if self._failure is None:
            self.wake()
        else:
            self._fail_inbox(self._failure)

    def check(self) -> None:
        """Looks whether the thread still works.

        Raises:
            RuntimeError: it has ended by a defect, which is the cause.
        """
        if self._failure is not None:
            raise RuntimeError("the transfers have ended") from self._failure

    def grant(self, host: str, share: Share) -> None:
        """Brings a share that `Shares.want` could not give at once, or a changed one."""
        self._inbox.append(lambda: self._take_share(host, share))
        self.wake()

    def refuse(self, host: str) -> None:
        """Says that there will be no share: what is asked of the host ends as `host_paused`."""
        self._inbox.append(lambda: self._refused.add(host))
        self.wake()

    def drain(self) -> None:
        """From now on only photos that were begun are asked for; the others are dropped."""
        self._is_draining = True
        self.wake()

    def wake(self) -> None:
        """Makes the thread look again, e.g. because there is room; nothing once it is closed."""
        if threading.current_thread() is not self._thread:
            with self._wake_lock:
                if not self._is_closed:
                    os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Ends all transfers and the thread."""
        self._is_closing = True
        self.wake()
        self._thread.join()
        # Not by the thread, which may end before: others would write to whoever has the number.
        with self._wake_lock:
            self._is_closed = True
            os.close(self._wake_fd)

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._turn()
        # A defect here must end the task, not leave it waiting.
        except BaseException as error:
            self._failure = error
            self._fail_all(error)
            self._on_failure(error)
        finally:
            self._clear()

    def _turn(self) -> None:
        now = time.monotonic()
        for fd, events in self._epoll.poll(self._wait_s(now)):
            if fd == self._wake_fd:
                os.eventfd_read(self._wake_fd)
            else:
                self._multi.socket_action(fd, _actions(events))
        now = time.monotonic()
        if self._timer_at is not None and now >= self._timer_at:
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._reap()
        self._take_inbox(now)
        while self._later and self._later[0][0] <= now:
            self._enqueue(heapq.heappop(self._later)[2])
        self._end_overdue(now)
        self._start_due(now)
        self._go_on_with_paused()
        self._let_go_of_idle()

    def _wait_s(self, now: float) -> float:
        """How long nothing can happen but events of sockets."""
        if self._inbox:
            return 0.0
        times = [now + _LONGEST_WAIT_S]
        if self._timer_at is not None:
            times.append(self._timer_at)
        times += [heap[0][0] for heap in (self._later, self._ends) if heap]
        if len(self._running) < self._max_transfers and self._has_room(self.num_bytes_held):
            for host, queue in self._queues.items():
                if queue and (opens_at := self._gates[host].opens_at(now)) is not None:
                    times.append(opens_at)
        return max(0.0, min(times) - now)

    @property
    def num_bytes_held(self) -> int:
        """Bytes of the bodies that are coming in."""
        return sum(transfer.num_bytes for transfer, _ in self._running.values())

    def _take_inbox(self, now: float) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if not isinstance(item, Request):
                item()
            elif item.wait_s > 0:
                heapq.heappush(self._later, (now + item.wait_s, next(self._sequence), item))
            else:
                self._enqueue(item)

    def _enqueue(self, request: Request) -> None:
        try:
            request.host = host_key(ascii_host(self._rules.check_url(request.url)))
        except PhotoError as error:
            request.on_done(error)
            return
        gate = self._gate(request.host)
        self._queues[request.host].append(request)
        request.is_queued = True
        ends_at = request.ends_at or request.deadline.ends_at
        if ends_at is not None:
            heapq.heappush(self._ends, (ends_at, next(self._sequence), request))
        if not gate.has_share and (share := self._shares.want(request.host)) is not None:
            gate.grant(share, time.monotonic())

    def _take_share(self, host: str, share: Share) -> None:
        # Given back since it was sent, it may be another task's by now.
        if self._shares.holds(host):
            self._gate(host).grant(share, time.monotonic())

    def _gate(self, host: str) -> HostGate:
        if host not in self._gates:
            self._gates[host] = HostGate(max_pause_s=self._limits.max_pause_s)
            self._queues[host] = deque()
        return self._gates[host]

    def _end_overdue(self, now: float) -> None:
        """Ends what has waited for its host until its time was up, wherever it stands in line."""
        while self._ends and (self._ends[0][0] <= now or not self._ends[0][2].is_queued):
            request = heapq.heappop(self._ends)[2]
            if request.is_queued:
                self._queues[request.host].remove(request)
                request.is_queued = False
                detail = f"{request.url}: its time was up before {request.host} could be asked"
                request.on_done(PhotoError(Status.HOST_PAUSED, detail))

    def _start_due(self, now: float) -> None:
        for host, queue in self._queues.items():
            gate = self._gates[host]
            while queue and host in self._refused:
                request = _first_of(queue)
                detail = (
                    f"{request.url}: no part of the budget of {host}, the driver is out of reach"
                )
                request.on_done(PhotoError(Status.HOST_PAUSED, detail))
            while queue:
                if (self._is_draining or gate.is_given_up) and self._drop(queue, gate, now):
                    continue
                if not self._may_start(gate, now):
                    break
                self._start(_first_of(queue), gate, now)

    def _may_start(self, gate: HostGate, now: float) -> bool:
        return (
            len(self._running) < self._max_transfers
            and gate.may_start(now)
            and self._has_room(self.num_bytes_held)
        )

    def _drop(self, queue: deque[Request], gate: HostGate, now: float) -> bool:
        """Answers the first of a queue that is not to be asked; False where it is."""
        if self._is_draining and queue[0].deadline.ends_at is None:
            _first_of(queue).on_done(StoppedError())
            return True
        if gate.is_left_alone(now):
            request = _first_of(queue)
            detail = f"{request.url}: {request.host} kept failing, so it is left alone"
            request.on_done(PhotoError(Status.HOST_PAUSED, detail))
            return True
        return False

    def _start(self, request: Request, gate: HostGate, now: float) -> None:
        ends_at = request.deadline.start(now)
        if request.ends_at is None:
            request.ends_at = now + (ends_at - now) * request.part_of_rest
        transfer = self._free.pop() if self._free else self._new_transfer()
        try:
            transfer.prepare(request.url, request.ends_at - now, request.expected_bytes)
        except PhotoError as error:
            self._free.append(transfer)
            request.on_done(error)
            return
        # What libcurl does not take of an address is that photo's end, not the task's.
        except Exception as error:
            transfer.curl.close()
            request.on_done(_unexpected(request, error))
            return
        request.started_at = now
        gate.started(now)
        self._running[transfer.curl] = (transfer, request)
        self._multi.add_handle(transfer.curl)

    def _new_transfer(self) -> CurlTransfer:
        return CurlTransfer(self._limits, self._rules, self._may_grow)

    def _may_grow(self, transfer: CurlTransfer) -> bool:
        """Whether a large body may go on; the oldest always may, so that there will be room."""
        if transfer.curl is next(iter(self._running)) or self._has_room(self.num_bytes_held):
            return True
        self._paused.add(transfer)
        return False

    def _go_on_with_paused(self) -> None:
        for transfer, _ in list(self._running.values()) if self._paused else ():
            if transfer in self._paused and self._may_grow(transfer):
                self._paused.discard(transfer)
                try:
                    transfer.go_on()
                except pycurl.error as error:
                    self._finish(transfer.curl, error.args)

    def _reap(self) -> None:
        while True:
            left, done, failed = self._multi.info_read()
            for curl in done:
                self._finish(curl, None)
            for curl, number, message in failed:
                self._finish(curl, (number, message))
            if not left:
                return

    def _finish(self, curl: pycurl.Curl, failure: tuple[int, str] | None) -> None:
        transfer, request = self._running.pop(curl)
        self._multi.remove_handle(curl)
        target: str | None = None
        ended: Answer | PhotoError | None = None
        try:
            if failure is not None:
                raise transfer.error(*failure)
            target = transfer.redirect()
            ended = None if target else transfer.answer()
        except PhotoError as error:
            ended = error
        # Nor is an answer that surprises us.
        except Exception as error:
            ended = _unexpected(request, error)
        self._paused.discard(transfer)
        self._free.append(transfer)
        self._note(request, ended)
        if target is not None:
            self._follow(request, target)
        elif ended is not None:
            request.on_done(ended)

    def _note(self, request: Request, ended: Answer | PhotoError | None) -> None:
        """Tells the host's gate how a request ended."""
        gate, now = self._gates[request.host], time.monotonic()
        if isinstance(ended, Answer):
            gate.succeeded()
            return
        before = (gate.level, gate.paused_until)
        if ended is not None and ended.status is Status.BUSY:
            gate.slowed(now, request.started_at, ended.retry_after_s)
        elif ended is not None and ended.status in HOST_FAILURES:
            gate.failed(now, request.started_at)
        else:
            gate.answered()
        if (gate.level, gate.paused_until) != before:
            self._shares.learned(request.host, max(0.0, gate.paused_until - now), gate.level)

    def _follow(self, request: Request, target: str) -> None:
        """Takes a redirect: another address, judged and paced like the first."""
        if UNAVAILABLE in target:
            request.on_done(PhotoError(Status.NOT_FOUND, f"redirected to {target}", 302))
            return
        request.hops += 1
        if request.hops > MAX_REDIRECTS:
            detail = f"more than {MAX_REDIRECTS}, last to {target}"
            request.on_done(PhotoError(Status.TOO_MANY_REDIRECTS, detail))
            return
        request.url = target
        self._enqueue(request)

    def _let_go_of_idle(self) -> None:
        for host, gate in self._gates.items():
            if gate.has_share and not gate.running and not self._queues[host]:
                gate.let_go()
                self._shares.let_go(host)

    def _on_socket(self, what: int, fd: int, multi: object, data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            # libcurl may have closed it already, which has taken it out.
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)
            return
        events = _EVENTS[what]
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:
            self._epoll.register(fd, events)

    def _on_timer(self, timeout_ms: int) -> None:
        self._timer_at = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def _fail_all(self, error: BaseException) -> None:
        """Every request that is still waiting ends, and so does each that they lead to."""
        waiting = [request for _, request in self._running.values()]
        waiting += [request for queue in self._queues.values() for request in queue]
        waiting += [request for _, _, request in self._later]
        for request in waiting:
            request.on_done(_unexpected(request, error))
        self._fail_inbox(error)

    def _fail_inbox(self, error: BaseException) -> None:
        # Two threads may empty it; each request is taken by one of them.
        with contextlib.suppress(IndexError):
            while True:
                item = self._inbox.popleft()
                if isinstance(item, Request):
                    item.on_done(_unexpected(item, error))

    def _clear(self) -> None:
        for curl in self._running:
            self._multi.remove_handle(curl)
        for transfer, _ in self._running.values():
            transfer.curl.close()
        for transfer in self._free:
            transfer.curl.close()
        self._multi.close()
        self._epoll.close()


def _unexpected(request: Request, error: BaseException) -> PhotoError:
    return PhotoError(Status.UNEXPECTED, f"{request.url}: {type(error).__name__}: {error}")


def _first_of(queue: deque[Request]) -> Request:
    """Takes a queue's first request out of it."""
    request = queue.popleft()
    request.is_queued = False
    return request


def _actions(events: int) -> int:
    """What epoll saw, as libcurl wants to hear it."""
    actions = pycurl.CSELECT_IN if events & select.EPOLLIN else 0
    if events & select.EPOLLOUT:
        actions |= pycurl.CSELECT_OUT
    if events & (select.EPOLLERR | select.EPOLLHUP):
        actions |= pycurl.CSELECT_ERR
    return int(actions)
