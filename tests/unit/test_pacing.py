"""One task's view of one host, second by second; no clock is looked at."""

from __future__ import annotations

import pytest

from croplake.fetching.pacing import HostBudget, HostGate, Share
from croplake.fetching.shares import Budgets, EqualShares

NEVER_REACHED_S = 1e9


def gate(share: Share | None = None, *, max_pause_s: float = 60.0) -> HostGate:
    found = HostGate(max_pause_s=max_pause_s)
    found.grant(share or Share(transfers=8), 0.0)
    return found


def fail(paced: HostGate, now: float, times: int = 1) -> None:
    """Requests that start and fail at once."""
    for _ in range(times):
        paced.started(now)
        paced.failed(now, now)


def test_nothing_starts_without_a_share() -> None:
    paced = HostGate(max_pause_s=60.0)
    assert not paced.may_start(0.0)
    assert paced.opens_at(0.0) is None
    paced.grant(Share(transfers=0), 0.0)
    assert not paced.has_share
    paced.grant(Share(transfers=1), 0.0)
    assert paced.may_start(0.0)
    paced.let_go()
    assert not paced.may_start(NEVER_REACHED_S)


def test_no_more_requests_are_under_way_than_the_share_has_transfers() -> None:
    paced = gate(Share(transfers=2))
    paced.started(0.0)
    assert paced.may_start(0.0)
    paced.started(0.0)
    assert not paced.may_start(NEVER_REACHED_S)
    assert paced.opens_at(0.0) is None
    paced.succeeded()
    assert paced.may_start(0.0)


def test_requests_start_at_the_rate_of_the_share_and_an_idle_time_is_not_saved_up() -> None:
    paced = gate(Share(transfers=100, rate_per_s=2.0))
    starts, now = [], 10.0
    while now <= 12.0:
        if paced.may_start(now):
            paced.started(now)
            starts.append(now)
        now = round(now + 0.01, 2)
    assert starts == pytest.approx([10.0, 10.45, 10.95, 11.45, 11.95], abs=0.011)
    assert paced.may_start(100.0)
    paced.started(100.0)
    assert not paced.may_start(100.4)
    assert paced.opens_at(100.0) == pytest.approx(100.45)


def test_a_start_that_comes_late_does_not_put_off_the_next() -> None:
    paced = gate(Share(transfers=100, rate_per_s=10.0))
    paced.started(10.0)
    assert paced.opens_at(10.0) == pytest.approx(10.05)
    for due in (10.05, 10.15, 10.25):
        paced.started(due + 0.03)
    assert paced.opens_at(10.0) == pytest.approx(10.35)


def test_a_busy_answer_halves_the_pace_and_pauses_as_long_as_the_host_wishes() -> None:
    paced = gate()
    paced.started(1.0)
    paced.slowed(2.0, 1.0, 7.0)
    assert (paced.level, paced.limit) == (0.5, 4)
    assert not paced.may_start(8.9)
    assert paced.may_start(9.0)


def test_no_pause_is_longer_than_the_longest() -> None:
    paced = gate(max_pause_s=60.0)
    paced.started(0.0)
    paced.slowed(0.0, 0.0, 86_400.0)
    assert paced.paused_until == 60.0
    other = gate(max_pause_s=60.0)
    other.grant(Share(transfers=1, paused_for_s=86_400.0), 5.0)
    assert other.paused_until == 65.0
    failing = gate(max_pause_s=2.0)
    for now in range(0, 100, 10):
        fail(failing, float(now), 8)
        assert failing.paused_until <= now + 2.0


def test_without_a_wish_each_further_busy_answer_doubles_the_pause() -> None:
    paced, now, pauses = gate(), 0.0, []
    for _ in range(4):
        paced.started(now)
        paced.slowed(now, now, None)
        pauses.append(paced.paused_until - now)
        now = paced.paused_until
    assert pauses == pytest.approx([0.25, 0.5, 1.0, 2.0])


def test_answers_to_requests_from_before_a_pause_halve_nothing_again() -> None:
    paced = gate(Share(transfers=32))
    for _ in range(10):
        paced.started(0.0)
    for _ in range(10):
        paced.slowed(1.0, 0.0, 1.0)
    assert paced.level == 0.5
    paced.started(2.0)
    paced.slowed(2.5, 2.0, 1.0)
    assert paced.level == 0.25


def test_the_pace_never_falls_to_nothing() -> None:
    paced, now = gate(Share(transfers=4, rate_per_s=32.0)), 10.0
    for _ in range(50):
        paced.started(now)
        paced.slowed(now, now, 0.5)
        now = paced.opens_at(now) or 0.0
    assert paced.level == 1 / 32
    assert paced.limit == 1
    paced.started(now)
    paced.answered()
    assert paced.opens_at(now) == pytest.approx(now + 1.0, abs=0.06)


def test_only_successes_raise_the_pace_in_small_steps() -> None:
    paced = gate()
    paced.started(0.0)
    paced.slowed(0.0, 0.0, 0.0)
    assert paced.level == 0.5
    for _ in range(20):
        paced.started(1.0)
        paced.answered()
        fail(paced, 1.0)
    assert paced.level == 0.5
    steps = 0
    while paced.level < 1.0:
        before = paced.level
        paced.started(2.0)
        paced.succeeded()
        assert before < paced.level <= before * 1.07
        steps += 1
    assert 10 <= steps <= 18


def test_no_error_of_any_kind_ever_raises_the_pace() -> None:
    paced, now = gate(Share(transfers=64)), 0.0
    for number in range(200):
        before = (paced.level, paced.limit)
        paced.started(now)
        if number % 3:
            paced.failed(now, now)
        else:
            paced.slowed(now, now, None)
        assert (paced.level, paced.limit) <= before
        now = max(now + 0.1, paced.paused_until)


def test_a_host_that_only_fails_is_paused_ever_longer_then_given_up() -> None:
    paced = gate()
    fail(paced, 0.0, 7)
    assert paced.may_start(0.0)
    fail(paced, 0.0)
    assert paced.paused_until == 1.0
    assert paced.limit == 1
    fail(paced, 1.0)
    assert paced.paused_until == 5.0
    assert not paced.is_given_up
    fail(paced, 5.0)
    assert paced.paused_until == 21.0
    assert paced.is_given_up


def test_failures_of_requests_from_before_a_pause_tell_nothing_new() -> None:
    paced = gate(Share(transfers=100))
    for _ in range(50):
        paced.started(0.0)
    for _ in range(50):
        paced.failed(1.0, 0.0)
    assert paced.paused_until == 2.0
    assert not paced.is_given_up


@pytest.mark.parametrize("how", ["succeeded", "answered"])
def test_a_host_that_was_given_up_comes_back_with_its_first_answer_but_wide_with_a_success(
    how: str,
) -> None:
    paced, now = gate(), 0.0
    while not paced.is_given_up:
        fail(paced, now)
        now = max(now, paced.paused_until)
    assert paced.limit == 1
    paced.started(now)
    getattr(paced, how)()
    assert not paced.is_given_up
    assert paced.limit == (8 if how == "succeeded" else 1)  # an error never speeds up
    paced.started(now)
    paced.succeeded()
    assert paced.limit == 8
    fail(paced, now, 7)
    assert paced.may_start(now)


def test_of_a_host_that_was_given_up_one_request_asks_after_each_pause() -> None:
    paced, now = gate(), 0.0
    while not paced.is_given_up:
        assert not paced.is_left_alone(now)
        fail(paced, now)
        now = max(now, paced.paused_until)
    assert paced.is_left_alone(now - 0.1)
    assert not paced.is_left_alone(now)
    # A share that comes and goes is no reason to wait longer, or to wait less.
    paced.let_go()
    assert not paced.is_left_alone(now)
    paced.grant(Share(transfers=8), now + 0.1)
    assert not paced.is_left_alone(now)
    assert paced.may_start(now)
    paced.started(now)
    assert paced.is_left_alone(now)
    paced.failed(now, now)
    assert paced.is_left_alone(now)
    assert not paced.is_left_alone(paced.paused_until)


def test_now_and_then_a_failure_among_successes_pauses_nothing() -> None:
    paced = gate()
    for _ in range(50):
        fail(paced, 0.0, 7)
        paced.started(0.0)
        paced.succeeded()
    assert paced.may_start(0.0)


def test_a_new_share_brings_what_others_found_where_that_is_the_more_careful() -> None:
    paced = HostGate(max_pause_s=60.0)
    paced.grant(Share(transfers=8, paused_for_s=3.0, level=0.25), 10.0)
    assert (paced.level, paced.paused_until) == (0.25, 13.0)
    paced.grant(Share(transfers=8, paused_for_s=1.0, level=1.0), 10.0)
    assert (paced.level, paced.paused_until) == (0.25, 13.0)
    paced.let_go()
    paced.grant(Share(transfers=8, level=1.0), 20.0)
    assert paced.level == 0.25


@pytest.mark.parametrize(
    ("transfers", "rate", "num_tasks", "share"),
    [
        (32, None, 4, Share(8)),
        (32, 50.0, 4, Share(8, 12.5)),
        (10, None, 4, Share(2)),
        (4, 8.0, 4, Share(1, 2.0)),
        (2, 8.0, 4, Share(1, 4.0)),
        (1, 8.0, 1000, Share(1, 8.0)),
    ],
)
def test_the_parts_of_a_budget_never_add_up_to_more_than_it(
    transfers: int, rate: float | None, num_tasks: int, share: Share
) -> None:
    budgets = Budgets({"*": HostBudget(99), "a.example": HostBudget(transfers, rate)})
    assert EqualShares(budgets, num_tasks).want("a.example") == share
    num_parts = min(num_tasks, transfers)
    assert share.transfers * num_parts <= transfers
    assert rate is None or (share.rate_per_s or 0) * num_parts <= rate
    assert budgets.of("other.example") == HostBudget(99)
