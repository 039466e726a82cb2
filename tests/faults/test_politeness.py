"""Budgets of hosts over all tasks of a run: how many at once, how fast, and after a refusal."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from croplake import tables as t
from croplake.fetching.batches import PartitionFetcher
from croplake.fetching.coordination import coordinator
from croplake.fetching.getter import HttpGetter
from croplake.fetching.http import HttpLimits
from croplake.fetching.outcome import PhotoError
from croplake.fetching.pacing import HostBudget
from croplake.fetching.shares import Budgets, EqualShares
from tests.faults import faults
from tests.faults.counting import CountingHost
from tests.faults.faults import MAX_BYTES
from tests.faults.pictures import jpeg
from tests.faults.running import Row, fetch_rows, fetcher_for, photo_row, rules_for
from tests.faults.server import FaultServer, Script, Visit

pytestmark = pytest.mark.timeout(120)
HOST = "photos.example"
NUM_TASKS = 4


def limits(server: FaultServer, *hosts: str, **changes: Any) -> HttpLimits:  # noqa: ANN401
    values: dict[str, Any] = {
        "connect_timeout_s": 5.0,
        "read_timeout_s": 5.0,
        "photo_timeout_s": 60.0,
        "max_bytes": MAX_BYTES,
        "connect_to": dict.fromkeys(hosts, server.address),
        "private_hosts": frozenset(hosts),
    }
    return HttpLimits(**values | changes)


def photos(task: int, count: int, host: str = HOST) -> list[Row]:
    return [photo_row(f"{task:08x}{n:08x}", f"http://{host}/{task}/{n}.jpg") for n in range(count)]


def run_tasks(
    server: FaultServer,
    budget: HostBudget,
    work: list[list[Row]],
    **changes: Any,  # noqa: ANN401
) -> list[Row]:
    """Tasks at the same time, each with its photos, around one driver; returns all rows."""
    budgets = Budgets({"*": budget})
    with ExitStack() as stack:
        running = stack.enter_context(coordinator("127.0.0.1", budgets, NUM_TASKS, lambda *_: None))
        fetcher: PartitionFetcher = fetcher_for(
            limits(server, HOST, **changes),
            rules_for(("original",), photo_timeout_s=60.0),
            budgets=budgets,
            num_tasks=NUM_TASKS,
            coordinator=running.address,
            transfers=16,
        )
        pool = stack.enter_context(ThreadPoolExecutor(NUM_TASKS))
        return [
            row for rows in pool.map(lambda rows: fetch_rows(fetcher, rows), work) for row in rows
        ]


def statuses(rows: list[Row]) -> Counter[str]:
    """Of photos."""
    return Counter({row[t.IMAGE_ID]: row[t.STATUS] for row in rows}.values())


@pytest.mark.parametrize("transfers", [1, 2, 4, 9])
def test_all_tasks_together_keep_to_a_hosts_budget_also_below_their_number(transfers: int) -> None:
    """The host refuses whatever is beyond it, so that a moment too many would show."""
    host = CountingHost(limit=transfers)
    with FaultServer({HOST: host}) as server:
        rows = run_tasks(server, HostBudget(transfers), [photos(n, 10) for n in range(NUM_TASKS)])
    assert statuses(rows) == {"ok": 40}
    assert host.refused == 0
    assert host.most_at_once <= transfers
    # The budget is also used: a task may have at most its part.
    assert host.most_at_once >= min(transfers, 2)
    assert len(host.starts) == 40


def test_tasks_that_come_and_go_hand_a_budget_of_one_on() -> None:
    host = CountingHost(hold_s=0.01, limit=1)
    with FaultServer({HOST: host}) as server:
        rows = run_tasks(server, HostBudget(1), [photos(n, 2) for n in range(12)])
    assert statuses(rows) == {"ok": 24}
    assert (host.refused, host.most_at_once) == (0, 1)


@pytest.mark.parametrize("each", [1, 6])
def test_all_tasks_together_keep_to_a_hosts_rate_whether_they_have_many_photos_or_one(
    each: int,
) -> None:
    """20 starts a second by the host's clock; the tolerance is what one start may come late
    (50 ms, so one more in a window) and one part's first start (two parts)."""
    host = CountingHost(hold_s=0.0)
    with FaultServer({HOST: host}) as server:
        work = [photos(n, each) for n in range(24 // each)]
        rows = run_tasks(server, HostBudget(2, rate_per_s=20.0), work)
    assert statuses(rows) == {"ok": 24}
    assert host.most_starts_within(0.5) <= 10 + 3
    assert host.starts[-1] - host.starts[0] >= 24 / 20.0 - 0.3


def test_what_one_task_hears_of_a_host_stops_the_others() -> None:
    """The first answer is 429 with a wish of a second; nobody asks before that is over."""
    host = CountingHost(hold_s=0.0)
    host.then = faults.in_turn(faults.busy(429, "1"), faults.serves(jpeg))
    with FaultServer({HOST: host}) as server:
        work = [photos(n, 3) for n in range(NUM_TASKS)]
        rows = run_tasks(server, HostBudget(1), work)
    assert statuses(rows) == {"ok": 12}
    assert host.starts[1] - host.starts[0] >= 0.95
    assert len(host.starts) == 13


def test_a_pause_is_known_to_tasks_of_later_chunks() -> None:
    host = CountingHost(hold_s=0.0)
    host.then = faults.in_turn(faults.busy(503, "1"), faults.serves(jpeg))
    budgets = Budgets({"*": HostBudget(8)})
    with (
        FaultServer({HOST: host}) as server,
        coordinator("127.0.0.1", budgets, 1, lambda *_: None) as running,
    ):
        fetcher = fetcher_for(
            limits(server, HOST),
            rules_for(("original",), photo_timeout_s=60.0, rounds=1),
            budgets=budgets,
            coordinator=running.address,
        )
        assert statuses(fetch_rows(fetcher, photos(0, 1))) == {"busy": 1}
        assert statuses(fetch_rows(fetcher, photos(1, 3))) == {"ok": 3}
    assert host.starts[1] - host.starts[0] >= 0.9


def test_a_wish_of_a_day_holds_nobody_up_for_longer_than_the_longest_pause() -> None:
    host = CountingHost(hold_s=0.0)
    host.then = faults.in_turn(faults.busy(429, "86400"), faults.serves(jpeg))
    with FaultServer({HOST: host}) as server:
        work = [photos(n, 2) for n in range(NUM_TASKS)]
        rows = run_tasks(server, HostBudget(1), work, max_pause_s=0.4)
    assert statuses(rows) == {"ok": 8}
    assert 0.35 <= host.starts[1] - host.starts[0] < 5.0


@pytest.mark.parametrize(
    ("how", "told"), [(faults.refuses(500), "server_error"), (faults.hangs_up, "connection_broken")]
)
def test_a_host_that_keeps_failing_is_left_alone_and_its_photos_wait_for_another_run(
    how: Script, told: str
) -> None:
    host = CountingHost(hold_s=0.0)
    host.then = how
    with FaultServer({HOST: host}) as server:
        rows = run_tasks(server, HostBudget(4), [photos(0, 200)], max_pause_s=0.2)
    found = statuses(rows)
    assert sum(found.values()) == 200
    assert set(found) == {told, "host_paused"}
    assert found["host_paused"] > 150
    assert len(host.starts) < 60
    details = {row[t.DETAIL] for row in rows if row[t.STATUS] == "host_paused"}
    assert all("kept failing, so it is left alone" in detail for detail in details)


def test_a_host_that_was_left_alone_comes_back_with_its_first_answer() -> None:
    well = threading.Event()

    def fails_until_it_is_well(visit: Visit) -> None:
        (faults.serves(jpeg) if well.is_set() else faults.refuses(500))(visit)

    shares = EqualShares(Budgets({"*": HostBudget(4)}))
    with FaultServer({HOST: fails_until_it_is_well}) as server:
        own = limits(server, HOST, max_pause_s=0.3)
        with HttpGetter(own, shares, max_transfers=4) as getter:

            def ask() -> str:
                try:
                    return "ok" if getter.get(f"http://{HOST}/photo.jpg") else "empty"
                except PhotoError as error:
                    return str(error.status)

            while (told := ask()) != "host_paused":
                assert told == "server_error"
            num_asked = server.num_requests(HOST)
            assert [ask() for _ in range(5)] == ["host_paused"] * 5
            assert server.num_requests(HOST) == num_asked
            well.set()
            while (told := ask()) != "ok":
                assert told == "host_paused"
                well.wait(0.02)
            assert [ask() for _ in range(20)] == ["ok"] * 20


def test_all_farms_of_flickr_are_one_host() -> None:
    farms = [f"farm{number}.staticflickr.com" for number in range(1, 7)]
    host = CountingHost(limit=2)
    rows = [photo_row(f"{n:016x}", f"http://{farms[n % 6]}/{n}_o.jpg") for n in range(24)]
    with FaultServer(dict.fromkeys(farms, host)) as server:
        fetcher = fetcher_for(
            limits(server, *farms),
            rules_for(("original",), photo_timeout_s=60.0),
            budgets=Budgets({"*": HostBudget(32), "staticflickr.com": HostBudget(2)}),
        )
        assert statuses(fetch_rows(fetcher, rows)) == {"ok": 24}
        assert {farm: server.num_requests(farm) for farm in farms} == dict.fromkeys(farms, 4)
    assert (host.refused, host.most_at_once) == (0, 2)


def test_a_request_says_who_asks_whom_to_write_to_and_that_bytes_come_plain() -> None:
    with FaultServer({HOST: CountingHost()}) as server:
        run_tasks(server, HostBudget(1), [photos(0, 1)], contact="Zoë <ann@photos.example>")
        (headers,) = server.log[HOST].headers
    assert headers["user-agent"].startswith("croplake/")
    assert headers["user-agent"].endswith(" (Zoë <ann@photos.example>)".encode().decode("latin-1"))
    assert headers["accept-encoding"] == "identity"
    assert headers.keys() == {"host", "user-agent", "accept", "accept-encoding"}


def test_a_connection_is_used_again_for_the_next_photo_of_its_host() -> None:
    with FaultServer({HOST: CountingHost(hold_s=0.0)}) as server:
        run_tasks(server, HostBudget(1), [photos(0, 10)])
        assert server.num_requests(HOST) == 10
        assert len(server.log[HOST].connections) == 1
