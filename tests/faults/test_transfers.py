"""The thread of transfers where its hosts, its driver or itself fail it."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from croplake.fetching import addresses
from croplake.fetching.addresses import AddressRules
from croplake.fetching.http import Answer, CurlTransfer, HttpLimits
from croplake.fetching.libcurl import pycurl
from croplake.fetching.outcome import PhotoError, Status
from croplake.fetching.pacing import HostBudget, Share
from croplake.fetching.request import Deadline, Request, StoppedError
from croplake.fetching.shares import Budgets, EqualShares
from croplake.fetching.transfers import Transfers
from tests.faults.faults import MAX_BYTES, serves
from tests.faults.pictures import jpeg
from tests.faults.running import fetch_rows, fetcher_for, photo_row, rules_for
from tests.faults.server import FaultServer, Visit

pytestmark = pytest.mark.timeout(60)
HOST, OTHER = "one.example", "two.example"
MIB = 1024 * 1024
Ends = queue.SimpleQueue[tuple[str, Answer | PhotoError]]


class NoShares:
    """A driver that never has a share left, or gives one when a test says so."""

    def __init__(self) -> None:
        self.is_held = False

    def want(self, host: str) -> Share | None:
        return None

    def holds(self, host: str) -> bool:
        return self.is_held

    def let_go(self, host: str) -> None:
        pass

    def learned(self, host: str, paused_for_s: float, level: float) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({HOST: serves(jpeg), OTHER: serves(jpeg)}) as running:
        yield running


def limits(server: FaultServer, *, photo_timeout_s: float = 5.0) -> HttpLimits:
    return HttpLimits(
        connect_timeout_s=2.0,
        read_timeout_s=2.0,
        photo_timeout_s=photo_timeout_s,
        max_bytes=MAX_BYTES,
        max_pause_s=1.0,
        connect_to={HOST: server.address, OTHER: server.address},
        private_hosts=frozenset({HOST, OTHER}),
    )


def request(name: str, ends: Ends, deadline: Deadline, host: str = HOST) -> Request:
    return Request(f"http://{host}/{name}", deadline, lambda ended: ends.put((name, ended)))


def begun(seconds: float) -> Deadline:
    """The deadline of a photo that another source has failed already."""
    deadline = Deadline(seconds)
    deadline.start(time.monotonic())
    return deadline


def test_a_photo_in_line_behind_others_ends_when_its_own_time_is_up(server: FaultServer) -> None:
    ends: Ends = queue.SimpleQueue()
    with Transfers(limits(server), NoShares(), max_transfers=4) as transfers:
        transfers.submit(request("waiting", ends, Deadline(60.0)))
        transfers.submit(request("late", ends, begun(0.6)))
        transfers.submit(request("soon", ends, begun(0.2)))
        waited = time.monotonic()
        first, second = ends.get(timeout=10), ends.get(timeout=10)
        waited = time.monotonic() - waited
        assert ends.empty()
    assert [first[0], second[0]] == ["soon", "late"]
    assert isinstance(first[1], PhotoError)
    assert first[1].status == Status.HOST_PAUSED
    assert f"http://{HOST}/soon: its time was up before {HOST} could be asked" in first[1].detail
    assert 0.5 <= waited < 2.0
    assert server.num_requests(HOST) == 0


def test_a_share_that_was_given_back_on_its_way_is_not_used(server: FaultServer) -> None:
    """By then the driver may have given it to another task."""
    ends: Ends = queue.SimpleQueue()
    shares = NoShares()
    with Transfers(limits(server), shares, max_transfers=4) as transfers:
        transfers.submit(request("waiting", ends, Deadline(60.0)))
        transfers.submit(request("begun", ends, begun(0.3)))
        transfers.grant(HOST, Share(1))
        name, _ = ends.get(timeout=10)
        assert (name, server.num_requests(HOST)) == ("begun", 0)
        shares.is_held = True
        transfers.grant(HOST, Share(1))
        name, ended = ends.get(timeout=10)
        assert name == "waiting"
        assert isinstance(ended, Answer)


def test_a_defect_of_the_thread_ends_the_task_and_leaves_no_photo_waiting(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark then runs the task again: nothing is lost, and nothing of it was written."""

    def defect(self: Transfers) -> None:
        if self._running:
            raise ZeroDivisionError("a defect")

    monkeypatch.setattr(Transfers, "_reap", defect)
    fetcher = fetcher_for(limits(server), rules_for(("original", "thumbnail")))
    photos = [
        photo_row(f"{n:016x}", f"http://{HOST}/{n}", thumbnail_url=f"http://{OTHER}/{n}")
        for n in range(30)
    ]
    with pytest.raises(RuntimeError, match="the transfers have ended") as error:
        fetch_rows(fetcher, photos)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_a_request_after_the_threads_end_is_answered_at_once(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(self: Transfers, now: float) -> None:
        raise ZeroDivisionError("a defect")

    ends: Ends = queue.SimpleQueue()
    monkeypatch.setattr(Transfers, "_start_due", defect)
    shares = EqualShares(Budgets({"*": HostBudget(2)}))
    with Transfers(limits(server), shares, max_transfers=4) as transfers:
        for name in ("first", "second"):
            transfers.submit(request(name, ends, Deadline(60.0)))
            told, ended = ends.get(timeout=10)
            assert told == name
            assert isinstance(ended, PhotoError)
            assert ended.status == Status.UNEXPECTED
            assert "ZeroDivisionError: a defect" in ended.detail
        with pytest.raises(RuntimeError):
            transfers.check()


def test_a_run_that_stops_drops_what_was_not_begun_and_ends_the_rest(server: FaultServer) -> None:
    ends: Ends = queue.SimpleQueue()
    with Transfers(limits(server), NoShares(), max_transfers=4) as transfers:
        transfers.submit(request("waiting", ends, Deadline(60.0)))
        transfers.submit(request("begun", ends, begun(0.3)))
        transfers.drain()
        found = dict(ends.get(timeout=10) for _ in range(2))
    assert isinstance(found["waiting"], StoppedError)
    assert isinstance(found["begun"], PhotoError)
    assert found["begun"].status == Status.HOST_PAUSED


def test_transfers_that_are_closed_leave_the_network_at_once() -> None:
    shares = EqualShares(Budgets({"*": HostBudget(2)}))
    ends: Ends = queue.SimpleQueue()
    asked = threading.Event()

    def tells_and_is_silent(visit: Visit) -> None:
        asked.set()
        visit.wait_until_left()

    with FaultServer({HOST: tells_and_is_silent}) as server:
        transfers = Transfers(limits(server, photo_timeout_s=60.0), shares, max_transfers=4)
        transfers.submit(request("photo", ends, Deadline(60.0)))
        assert asked.wait(10)
        begun_at = time.monotonic()
        transfers.close()
        assert time.monotonic() - begun_at < 1.0
    assert ends.empty()


def test_transfers_can_be_closed_whatever_their_thread_is_at(server: FaultServer) -> None:
    ends: Ends = queue.SimpleQueue()
    for number in range(200):
        transfers = Transfers(limits(server), NoShares(), max_transfers=4)
        for _ in range(number % 4):
            transfers.submit(request("a b", ends, Deadline(60.0)))
        transfers.close()


def test_what_the_driver_still_says_after_the_end_harms_nobody(server: FaultServer) -> None:
    """The link to the driver ends after the transfers do, and may bring a share in between."""
    transfers = Transfers(limits(server), NoShares(), max_transfers=4)
    transfers.close()
    reader, writer = os.pipe()  # takes the numbers that were let go
    transfers.grant(HOST, Share(1))
    transfers.drain()
    transfers.refuse(HOST)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_nothing_starts_while_there_is_no_room_and_all_goes_on_when_there_is(
    server: FaultServer,
) -> None:
    """Photos that wait to be decoded stop further ones from coming in."""
    ends: Ends = queue.SimpleQueue()
    is_free = threading.Event()

    def has_room(num_bytes: int) -> bool:
        return is_free.is_set()

    shares = EqualShares(Budgets({"*": HostBudget(2)}))
    with Transfers(limits(server), shares, max_transfers=4, has_room=has_room) as transfers:
        for name in ("first", "second", "third"):
            transfers.submit(request(name, ends, Deadline(60.0)))
        with pytest.raises(queue.Empty):
            ends.get(timeout=0.3)
        assert server.num_requests(HOST) == 0
        is_free.set()
        transfers.wake()
        assert {ends.get(timeout=10)[0] for _ in range(3)} == {"first", "second", "third"}


def fetch_large(
    num_photos: int, max_held: int, max_bytes: int
) -> tuple[int, list[Answer | PhotoError]]:
    """Large bodies at once, and the most bytes that they held together."""
    ends: Ends = queue.SimpleQueue()
    most = 0

    def has_room(num_bytes: int) -> bool:
        nonlocal most
        most = max(most, num_bytes)
        return num_bytes < max_held

    shares = EqualShares(Budgets({"*": HostBudget(num_photos)}))
    with FaultServer({HOST: serves(bytes(8 * MIB))}) as server:
        rules = replace(limits(server, photo_timeout_s=30.0), max_bytes=max_bytes)
        with Transfers(rules, shares, max_transfers=num_photos, has_room=has_room) as transfers:
            for number in range(num_photos):
                transfers.submit(request(str(number), ends, Deadline(30.0)))
            ended = [ends.get(timeout=40)[1] for _ in range(num_photos)]
    return most, ended


def test_large_bodies_come_in_one_after_the_other_where_there_is_no_room_for_all() -> None:
    most, ends = fetch_large(10, 4 * MIB, 16 * MIB)
    assert [len(ended.body) for ended in ends if isinstance(ended, Answer)] == [8 * MIB] * 10
    assert most < 4 * MIB + 8 * MIB + 10 * MIB


def test_a_body_that_waited_for_room_ends_at_its_limit_all_the_same() -> None:
    _, ends = fetch_large(10, 1 * MIB, 6 * MIB)
    statuses = [ended.status for ended in ends if isinstance(ended, PhotoError)]
    assert statuses == [Status.TOO_MANY_BYTES] * 10


def test_a_name_that_leads_inside_on_its_second_look_up_is_refused_before_it_connects(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.1 stands for the open internet, 127.0.0.2 for one's own network."""
    is_public = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda ip: str(ip) == "127.0.0.1" or is_public(ip))
    port = int(server.address.rpartition(":")[2])
    transfer = CurlTransfer(HttpLimits(2.0, 2.0, 5.0, MAX_BYTES), AddressRules())
    ends: list[Answer | PhotoError] = []
    with socket.create_server(("127.0.0.2", port)) as inside:
        for found in ("127.0.0.1", "127.0.0.2"):
            transfer.prepare(f"http://{HOST}:{port}/photo", 5.0, None)
            look_up = [f"-{HOST}:{port}", f"{HOST}:{port}:{found}"]
            transfer.curl.setopt(pycurl.RESOLVE, look_up)
            transfer.curl.setopt(pycurl.FRESH_CONNECT, 1)
            try:
                transfer.curl.perform()
                ends.append(transfer.answer())
            except pycurl.error as error:
                ends.append(transfer.error(*error.args))
        transfer.curl.close()
        inside.setblocking(False)
        with pytest.raises(BlockingIOError):
            inside.accept()
    first, second = ends
    assert isinstance(first, Answer)
    assert isinstance(second, PhotoError)
    assert second.status == Status.FORBIDDEN_ADDRESS
    assert f"{HOST} leads to 127.0.0.2, which is no public address" in second.detail
