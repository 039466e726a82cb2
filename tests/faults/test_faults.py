"""Every fault of a photo's host, through the code that executors run."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from croplake import tables as t
from croplake.fetching import addresses
from croplake.fetching.http import CurlTransfer, HttpLimits
from croplake.fetching.libcurl import pycurl
from tests.faults import page
from tests.faults.case import IN_TIME_S, PHOTO_TIMEOUT_S, Case
from tests.faults.cases import CASES
from tests.faults.faults import MAX_BYTES, in_turn, serves
from tests.faults.pictures import jpeg
from tests.faults.running import (
    NUM_BOXES,
    Outcome,
    case_hosts,
    fetch_rows,
    fetcher_for,
    photo_row,
    rules_for,
    run_cases,
    watched_transfers,
)
from tests.faults.server import FaultServer, Visit, head


@dataclass(frozen=True)
class AllCases:
    """All cases, run at once: how each ended, and what was connected to."""

    outcomes: dict[str, Outcome]
    requests: dict[str, int]
    connected: set[str]
    own_addresses: set[str]
    seconds: float


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> AllCases:
    folder = tmp_path_factory.mktemp("faults")
    with case_hosts(CASES, folder) as hosts, watched_transfers() as watched:
        begun = time.monotonic()
        outcomes = run_cases(CASES, hosts, watched)
        seconds = time.monotonic() - begun
        requests = {case.name: hosts.num_requests(case) for case in CASES}
        own = set(hosts.connect_to.values())
    title = "Fault cases in one partition, seconds of each photo's own"
    page.write_outcomes("fault_cases_partition.md", title, outcomes)
    return AllCases(outcomes, requests, watched.connected, own, seconds)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_ends_with_its_own_status_in_time(case: Case, ran: AllCases) -> None:
    outcome = ran.outcomes[case.name]
    assert len(outcome.rows) == NUM_BOXES
    for row in outcome.rows:
        assert (row[t.STATUS], row[t.SOURCE]) == (case.status, case.source), row[t.DETAIL]
        assert row[t.HTTP_STATUS] == case.http_status
        assert case.detail in (row[t.DETAIL] or "")
        assert (row[t.JPEG] is not None) == row[t.HAS_CROP] == (case.status == "ok")
    assert case.least_s <= outcome.seconds <= case.greatest_s
    if case.num_requests is not None:
        assert ran.requests[case.name] == case.num_requests


def test_all_faults_together_take_no_longer_than_the_slowest_of_them(ran: AllCases) -> None:
    assert max(outcome.seconds for outcome in ran.outcomes.values()) > PHOTO_TIMEOUT_S - 0.5
    assert ran.seconds < 2 * IN_TIME_S
    assert not {row[t.STATUS] for outcome in ran.outcomes.values() for row in outcome.rows} & {
        "unexpected",
        "host_paused",
    }


def test_nothing_was_connected_to_but_the_hosts_of_the_cases(ran: AllCases) -> None:
    """Addresses that are refused are refused before a socket exists."""
    assert ran.connected <= ran.own_addresses
    assert len(ran.connected) >= 8


def test_there_are_cases_enough_and_each_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 60
    names = Counter(case.name for case in CASES)
    assert set(names.values()) == {1}


def test_the_page_of_the_cases_is_current() -> None:
    expected = page.promises_page()
    assert page.PROMISES.read_text(encoding="utf-8") == expected, "run: make faults"


def redirects_home_and_hangs_up(visit: Visit) -> None:
    visit.send(head(302, location="/again", content_length="0", connection="close"))


@pytest.mark.parametrize("second", ["public", "private"])
def test_a_name_that_turns_private_on_its_second_look_up_is_refused_then(
    second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.2 stands for a public address: the judge is told so, the sockets are real."""
    is_public, prepare = addresses.is_public, CurlTransfer.prepare
    monkeypatch.setattr(addresses, "is_public", lambda ip: str(ip) == "127.0.0.2" or is_public(ip))
    scripts = {"turning.example": in_turn(redirects_home_and_hangs_up, serves(jpeg))}
    with FaultServer(scripts) as server, watched_transfers() as watched:
        public = server.listen(at="127.0.0.2")
        look_ups = iter([public, {"public": public, "private": server.address}[second]])

        def looking_up(self: CurlTransfer, url: str, *given: Any) -> None:  # noqa: ANN401
            prepare(self, url, *given)
            self.curl.setopt(pycurl.CONNECT_TO, [f"turning.example::{next(look_ups)}"])

        monkeypatch.setattr(CurlTransfer, "prepare", looking_up)
        limits = HttpLimits(1.0, 1.0, PHOTO_TIMEOUT_S, MAX_BYTES)
        rows = fetch_rows(
            fetcher_for(limits, rules_for(("original",))),
            [photo_row("00aa", "http://turning.example/photo.jpg")],
        )
    assert watched.connected == {public}
    if second == "public":
        assert {row[t.STATUS] for row in rows} == {"ok"}
    else:
        assert {row[t.STATUS] for row in rows} == {"forbidden_address"}
        assert "turning.example leads to 127.0.0.1, which is no public" in rows[0][t.DETAIL]
        assert server.num_requests("turning.example") == 1
