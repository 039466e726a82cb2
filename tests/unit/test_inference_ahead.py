"""Work ahead of its use: in order, once each, and never more than there is room for."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from croplake.inference.ahead import in_batches_ahead


@given(st.integers(0, 30), st.integers(1, 7), st.integers(1, 4), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_every_item_is_worked_on_once_and_comes_in_its_place(
    num: int, batch_size: int, num_threads: int, max_bytes: int
) -> None:
    batches = list(
        in_batches_ahead(
            range(num),
            lambda item: item * 2,
            batch_size=batch_size,
            num_threads=num_threads,
            size_of=lambda item: item,
            max_bytes=max_bytes,
        )
    )
    assert [item for batch in batches for item in batch] == [2 * item for item in range(num)]
    assert all(1 <= len(batch) <= batch_size for batch in batches)


@pytest.mark.parametrize(("size", "most"), [(0, 4 + 2 + 4), (40, 5 + 2)])
def test_what_lies_ready_is_bounded_by_number_and_by_bytes(size: int, most: int) -> None:
    """Large results end a batch early: three of 40 bytes reach 100."""
    lock, begun, taken, ahead = threading.Lock(), 0, 0, []

    def work(item: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
            ahead.append(begun - taken)
        return item

    for batch in in_batches_ahead(
        range(60), work, batch_size=4, num_threads=2, size_of=lambda item: size, max_bytes=100
    ):
        with lock:
            taken += len(batch)
    assert begun == taken == 60
    assert max(ahead) <= most


def test_a_caller_that_stops_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    batches = in_batches_ahead(
        iter(int, 1), lambda item: item, batch_size=2, num_threads=3, size_of=lambda item: 0
    )
    assert next(iter(batches)) == [0, 0]
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
