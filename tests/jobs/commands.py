"""`croplake fetch-crops` as a process of its own, and hosts that tell when a request comes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from croplake import open_lake
from croplake import tables as t
from croplake.conf import Settings
from croplake.miniature import MiniatureServer
from tests.jobs.crops import Row, kept_boxes
from tests.jobs.world import outside_environment


def write_conf(settings: Settings, folder: Path) -> str:
    """The settings as a file that a command reads."""
    file = folder / "settings.json.yaml"
    file.write_text(settings.model_dump_json())
    return str(file)


@contextmanager
def fetch_crops(settings: Settings, folder: Path, *prefix: str) -> Iterator[subprocess.Popen[str]]:
    """The job in a process group of its own, which is gone when the block ends."""
    command = [*prefix, "croplake", "fetch-crops", "--conf", write_conf(settings, folder)]
    process = subprocess.Popen(
        command,
        env=outside_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_group(process)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def kill_group(process: subprocess.Popen[str]) -> None:
    """kill -9 for the command, its JVM and all in their group at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def at_request(
    server: MiniatureServer, number: int, act: Callable[[], None]
) -> Iterator[threading.Event]:
    """Does something when the server is asked for the n-th time, before it answers.

    Yields:
        Set once it is done.
    """
    answer, lock, asked = server.answer, threading.Lock(), Counter[str]()
    done = threading.Event()

    def answer_and_act(method: str, host: str, path: str) -> tuple[int, dict[str, str], bytes]:
        with lock:
            asked["all"] += 1
            is_due = asked["all"] == number
        if is_due:
            act()
            done.set()
        return answer(method, host, path)

    setattr(server, "answer", answer_and_act)  # noqa: B010  # a method of this one server
    try:
        yield done
    finally:
        setattr(server, "answer", answer)  # noqa: B010


def crops_of(settings: Settings) -> list[Row]:
    """Rows of `crops` as a reader without Spark sees them; none before the table is made."""
    lake = open_lake(settings.lake.root)
    if not lake.exists("crops"):
        return []
    rows: list[dict[str, Any]] = lake.dataset("crops").to_table().to_pylist()
    return rows


def check_never_two(rows: list[Row]) -> dict[str, Row]:
    """Invariant 1 at any time: no box has two crops under a recipe. Gives the finished ones."""
    finished = [row for row in rows if row[t.STATUS] == "ok"]
    by_box = {row[t.BOX_ID]: row for row in finished}
    assert len(by_box) == len(finished)
    assert all(row[t.JPEG] for row in finished)
    return by_box


def check_complete(settings: Settings, finished_before: dict[str, Row]) -> None:
    """Invariants 1 and 2 after a completed run: each kept box once, finished crops untouched."""
    rows = crops_of(settings)
    assert Counter(row[t.BOX_ID] for row in rows) == Counter(dict.fromkeys(kept_boxes(settings), 1))
    now = check_never_two(rows)
    assert {box_id: now[box_id] for box_id in finished_before} == finished_before
