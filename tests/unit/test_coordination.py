"""Driver and tasks in touch, over loopback."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from croplake.fetching import coordination
from croplake.fetching.coordination import Coordinator, CoordinatorAddress, coordinator
from croplake.fetching.link import CoordinatorLink, coordinator_link
from croplake.fetching.pacing import HostBudget, Share
from croplake.fetching.shares import Budgets

pytestmark = pytest.mark.timeout(60)
HOST = "photos.example"
ADDRESS = CoordinatorAddress("127.0.0.1", 1, "word")


def budgets(transfers: int = 2, rate_per_s: float | None = None) -> Budgets:
    return Budgets({"*": HostBudget(transfers, rate_per_s)})


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(coordination, "time", found)
    return found


def driver(budget: Budgets, num_tasks: int = 4) -> Coordinator:
    return Coordinator(ADDRESS, budget, num_tasks, lambda *_: None)


def share_of(running: Coordinator, task: int, *wants: str, **said: Any) -> Share | None:  # noqa: ANN401
    """What a task is given of the first host it wants."""
    given = running.answer(task, {"wants": wants, **said})["shares"]
    return Share(*given[wants[0]]) if wants and wants[0] in given else None


# --- the driver's book-keeping --------------------------------------------------------------------


@pytest.mark.parametrize("uptime_s", [0.0, 3600.0, 1e5, 1e9])
def test_shares_are_given_however_long_the_machine_has_been_up(
    uptime_s: float, clock: Clock
) -> None:
    clock.now = uptime_s
    running = driver(budgets(transfers=4), num_tasks=1)
    assert share_of(running, 1, HOST) == Share(4)
    share_of(running, 1, HOST, learned={HOST: [0.0, 0.25]})
    clock.now += 1e6
    assert share_of(running, 1, HOST) == Share(4)


@pytest.mark.parametrize(("transfers", "holders"), [(1, 1), (2, 2), (3, 3), (4, 4), (9, 4)])
def test_no_more_tasks_have_a_share_than_the_budget_has_parts(transfers: int, holders: int) -> None:
    running = driver(budgets(transfers))
    given = [share_of(running, task, HOST) for task in range(8)]
    held = [share for share in given if share is not None]
    assert len(held) == holders
    assert sum(share.transfers for share in held) <= transfers
    assert given[:holders] == held


def test_a_share_that_is_given_back_goes_to_who_waits() -> None:
    running = driver(budgets(1))
    assert share_of(running, 0, HOST) == Share(1)
    assert share_of(running, 1, HOST) is None
    share_of(running, 0)
    assert share_of(running, 1, HOST) == Share(1)
    assert share_of(running, 0, HOST) is None
    running.forget(1)
    assert share_of(running, 0, HOST) == Share(1)


def test_a_host_does_not_use_up_anothers_budget() -> None:
    running = driver(budgets(1))
    for number in range(3):
        assert share_of(running, number, f"host{number}.example") == Share(1)


def test_a_part_with_a_rate_rests_before_another_task_may_use_it(clock: Clock) -> None:
    """Else tasks that ask one photo each would, one after the other, ask at any rate."""
    running = driver(budgets(1, rate_per_s=2.0))
    assert share_of(running, 0, HOST) == Share(1, 2.0)
    share_of(running, 0)
    assert share_of(running, 1, HOST) is None
    clock.now += 0.49
    assert share_of(running, 1, HOST) is None
    clock.now += 0.02
    assert share_of(running, 1, HOST) == Share(1, 2.0)


def test_what_a_task_learned_of_a_host_all_hear_also_those_that_come_later(clock: Clock) -> None:
    running = driver(budgets(4))
    assert share_of(running, 0, HOST) == Share(1)
    share_of(running, 0, HOST, learned={HOST: [8.0, 0.5]})
    assert share_of(running, 1, HOST) == Share(1, None, 8.0, 0.5)
    clock.now += 6.0
    later = share_of(running, 2, HOST)
    assert later is not None
    assert later.paused_for_s == 2.0
    assert 0.5 < later.level < 0.6


def test_a_pause_is_never_shortened_and_a_pace_is_forgotten_with_time(clock: Clock) -> None:
    running = driver(budgets(4))
    share_of(running, 0, HOST, learned={HOST: [8.0, 0.25]})
    share_of(running, 1, HOST, learned={HOST: [1.0, 1.0]})
    assert share_of(running, 2, HOST) == Share(1, None, 8.0, 0.25)
    clock.now += 60.0
    assert share_of(running, 2, HOST) == Share(1, None, 0.0, 1.0)


# --- over the wire --------------------------------------------------------------------------------


@dataclass
class Grants:
    """What `CoordinatorLink` needs of transfers."""

    granted: queue.SimpleQueue[tuple[str, Share]] = field(default_factory=queue.SimpleQueue)
    refused: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    drained: threading.Event = field(default_factory=threading.Event)

    def refuse(self, host: str) -> None:
        self.refused.put(host)

    def grant(self, host: str, share: Share) -> None:
        self.granted.put((host, share))

    def drain(self) -> None:
        self.drained.set()

    def next_share(self, host: str = HOST) -> Share:
        name, share = self.granted.get(timeout=20)
        assert name == host
        return share


class Driver:
    """A coordinator, and what it was told."""

    def __init__(self, running: Coordinator, told: queue.SimpleQueue[Counter[str]]) -> None:
        self.running, self.told = running, told


@contextmanager
def open_driver(budget: Budgets, num_tasks: int = 4) -> Iterator[Driver]:
    told: queue.SimpleQueue[Counter[str]] = queue.SimpleQueue()

    def on_progress(photos: int, statuses: Counter[str], answered: int) -> None:
        told.put(statuses + Counter(photos=photos, answered=answered))

    with coordinator("127.0.0.1", budget, num_tasks, on_progress) as running:
        yield Driver(running, told)


@contextmanager
def open_task(
    address: CoordinatorAddress | None, budget: Budgets, num_tasks: int = 4
) -> Iterator[tuple[CoordinatorLink, Grants]]:
    grants = Grants()
    with coordinator_link(address, budget, num_tasks) as link:
        link.serve(grants)  # type: ignore[arg-type]
        yield link, grants


def raw_task(address: CoordinatorAddress, token: str | None = None) -> socket.socket:
    """A connection that speaks for itself."""
    connection = socket.create_connection((address.host, address.port), timeout=20)
    connection.sendall((token or address.token).encode() + b"\n")
    return connection


def say(connection: socket.socket, *wants: str) -> dict[str, Any]:
    connection.sendall(json.dumps({"wants": wants}).encode() + b"\n")
    with connection.makefile("rb") as answers:
        found: dict[str, Any] = json.loads(answers.readline())
    return found


def test_a_task_gets_its_share_and_another_gets_it_after() -> None:
    budget = budgets(1)
    with ExitStack() as stack:
        address = stack.enter_context(open_driver(budget)).running.address
        first, first_grants = stack.enter_context(open_task(address, budget))
        second, second_grants = stack.enter_context(open_task(address, budget))
        assert first.want(HOST) is None
        assert first_grants.next_share() == Share(1)
        assert first.holds(HOST)
        assert second.want(HOST) is None
        first.let_go(HOST)
        assert not first.holds(HOST)
        assert second_grants.next_share() == Share(1)
        assert first_grants.granted.empty()


def test_a_pause_reaches_the_tasks_that_hold_a_share() -> None:
    budget = budgets(4)
    with ExitStack() as stack:
        address = stack.enter_context(open_driver(budget)).running.address
        first, first_grants = stack.enter_context(open_task(address, budget))
        second, second_grants = stack.enter_context(open_task(address, budget))
        for link, grants in ((first, first_grants), (second, second_grants)):
            link.want(HOST)
            assert grants.next_share().paused_for_s == 0.0
        first.learned(HOST, 30.0, 0.5)
        heard = second_grants.next_share()
        assert 20.0 < heard.paused_for_s <= 30.0
        assert 0.5 <= heard.level < 0.7


def test_a_task_that_dies_frees_its_share() -> None:
    budget = budgets(1)
    with ExitStack() as stack:
        address = stack.enter_context(open_driver(budget)).running.address
        dead = raw_task(address)
        assert say(dead, HOST)["shares"] == {HOST: [1, None, 0.0, 1.0]}
        link, grants = stack.enter_context(open_task(address, budget))
        link.want(HOST)
        dead.close()
        assert grants.next_share() == Share(1)


def test_a_task_that_falls_silent_frees_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine may be gone without a word: nothing closes the connection then."""
    monkeypatch.setattr(coordination, "_LONGEST_SILENCE_S", 1.5)
    budget = budgets(1)
    with ExitStack() as stack:
        address = stack.enter_context(open_driver(budget)).running.address
        silent = stack.enter_context(raw_task(address))
        assert say(silent, HOST)["shares"] == {HOST: [1, None, 0.0, 1.0]}
        link, grants = stack.enter_context(open_task(address, budget))
        link.want(HOST)
        assert grants.next_share() == Share(1)


@pytest.mark.parametrize("said", [b"no json\n", b"[]\n", b'{"learned": 3}\n', b'{"wants": 3}\n'])
def test_a_task_that_talks_nonsense_is_let_go_with_its_share(said: bytes) -> None:
    budget = budgets(1)
    with ExitStack() as stack:
        address = stack.enter_context(open_driver(budget)).running.address
        mad = stack.enter_context(raw_task(address))
        assert HOST in say(mad, HOST)["shares"]
        mad.sendall(said)
        assert mad.recv(1) == b""
        link, grants = stack.enter_context(open_task(address, budget))
        link.want(HOST)
        assert grants.next_share() == Share(1)


@pytest.mark.parametrize("token", ["", "wrong", "a" * 100_000])
def test_who_does_not_know_the_word_is_not_answered(token: str) -> None:
    with open_driver(budgets()) as running:
        address = running.running.address
        with socket.create_connection((address.host, address.port), timeout=20) as stranger:
            stranger.sendall(token.encode() + b"\n" + b'{"wants": ["photos.example"]}\n')
            try:
                assert stranger.recv(1) == b""
            except ConnectionResetError:
                """It hung up with our words unread."""
        with raw_task(address) as friend:
            assert say(friend, HOST)["shares"]


def test_progress_comes_with_the_last_word_too() -> None:
    budget = budgets()
    with open_driver(budget) as running:
        with open_task(running.running.address, budget) as (link, _):
            for _ in range(3):
                link.add(Counter(ok=2), True)
            link.add(Counter(busy=1), False)
        total: Counter[str] = Counter()
        while not running.told.empty():
            total += running.told.get()
    assert total == Counter(photos=4, answered=3, ok=6, busy=1)


def test_a_word_to_stop_reaches_every_task() -> None:
    budget = budgets()
    with ExitStack() as stack:
        running = stack.enter_context(open_driver(budget)).running
        tasks = [stack.enter_context(open_task(running.address, budget)) for _ in range(3)]
        running.stop()
        for link, grants in tasks:
            assert grants.drained.wait(20)
            assert link.is_stopping


def test_without_a_driver_a_task_takes_an_equal_part() -> None:
    with open_task(None, budgets(8, rate_per_s=4.0)) as (link, _):
        assert link.want(HOST) == Share(2, 1.0)
        assert link.holds(HOST)


def test_a_driver_that_cannot_be_reached_costs_no_more_than_the_exact_division() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = CoordinatorAddress("127.0.0.1", nobody.getsockname()[1], "word")
        with open_task(address, budgets(8)) as (link, grants):
            share = link.want(HOST)
            assert (share or grants.next_share()) == Share(2)
            assert link.holds(HOST)


def test_without_a_driver_a_host_whose_budget_is_below_the_tasks_is_left_alone() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = CoordinatorAddress("127.0.0.1", nobody.getsockname()[1], "word")
        with open_task(address, budgets(3)) as (link, grants):
            assert link.want(HOST) is None
            assert grants.refused.get(timeout=20) == HOST
            assert link.want("other.example") is None
            assert grants.refused.get(timeout=20) == "other.example"
            assert grants.granted.empty()


@pytest.mark.parametrize("said", [b"", b"no json\n", b"{}\n", b'{"stop": 0, "shares": {"a": 1}}\n'])
def test_a_driver_that_goes_or_talks_nonsense_leaves_its_tasks_with_equal_parts(
    said: bytes,
) -> None:
    budget = budgets(8)
    with ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = CoordinatorAddress("127.0.0.1", listener.getsockname()[1], "word")
            link, grants = stack.enter_context(open_task(address, budget))
            link.want(HOST)
            connection, _ = listener.accept()
        with connection.makefile("rb") as heard:
            assert heard.readline() == b"word\n"
            while HOST not in json.loads(heard.readline())["wants"]:
                connection.sendall(b'{"stop": false, "shares": {}}\n')
        connection.sendall(said)
        connection.close()
        assert grants.next_share() == Share(2)
        assert link.want("other.example") == Share(2)
