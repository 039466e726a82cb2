"""Backpressure: photos that wait to be decoded hold no more than so many bytes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from croplake.fetching.batches import ReadyQueue
from croplake.fetching.http import Answer
from croplake.fetching.photo_task import LISTED_FIELD, TASK_SCHEMA, FetchRules, PhotoTask

pytestmark = pytest.mark.timeout(60)


def photo(num_bytes: int) -> PhotoTask:
    row: dict[str, Any] = dict.fromkeys(TASK_SCHEMA.names) | {LISTED_FIELD: False}
    rules: Any = FetchRules.__new__(FetchRules)
    found = PhotoTask(row, rules, None, lambda photo: None)  # type: ignore[arg-type]
    found.answer = Answer(bytes(num_bytes), 200, "url") if num_bytes else None
    return found


def test_photos_come_out_in_the_order_they_came_in() -> None:
    ready = ReadyQueue()
    photos = [photo(1), photo(0), photo(2)]
    for each in photos:
        ready.put(each)
    assert [ready.get() for _ in photos] == photos


def test_there_is_room_for_so_many_bytes_waiting_and_under_way_together() -> None:
    ready = ReadyQueue(max_bytes=100)
    assert ready.has_room(99)
    assert not ready.has_room(100)
    ready.put(photo(60))
    assert ready.has_room(39)
    assert not ready.has_room(40)
    ready.put(photo(60))
    assert not ready.has_room()
    ready.get()
    assert ready.has_room(39)


def test_a_photo_without_bytes_takes_no_room() -> None:
    ready = ReadyQueue(max_bytes=1)
    for _ in range(10):
        ready.put(photo(0))
    assert ready.has_room()


def test_taking_one_wakes_the_transfers_only_where_room_was_scarce() -> None:
    ready = ReadyQueue(max_bytes=100)
    woken: list[int] = []
    ready.on_taken = lambda: woken.append(1)
    ready.put(photo(50))
    ready.get()
    assert not woken
    ready.put(photo(30))
    ready.put(photo(30))
    ready.get()
    assert len(woken) == 1
    ready.get()
    assert len(woken) == 1


def test_who_waits_for_room_goes_on_when_there_is_some_or_at_the_end() -> None:
    ready = ReadyQueue(max_bytes=100)
    ready.put(photo(100))
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ready.wait_for_room)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.1)
        ready.get()
        waiting.result(timeout=20)
        ready.put(photo(100))
        waiting = pool.submit(ready.wait_for_room)
        ready.close()
        waiting.result(timeout=20)


def test_who_waits_for_a_photo_gets_the_next_from_any_thread() -> None:
    ready = ReadyQueue()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(ready.get)
        late = photo(5)
        threading.Thread(target=ready.put, args=(late,)).start()
        assert taken.result(timeout=20) is late


def test_who_waits_for_photos_hears_that_none_will_come_but_first_gets_those_that_came() -> None:
    ready = ReadyQueue()
    last = photo(1)
    ready.put(last)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ready.get).result(10) is last
        waiting = pool.submit(ready.get)
        ready.fail(ValueError("a defect"))
        with pytest.raises(RuntimeError, match="no more photos") as raised:
            waiting.result(10)
    assert isinstance(raised.value.__cause__, ValueError)
