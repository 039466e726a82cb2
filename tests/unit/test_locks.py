from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from croplake.errors import TableHeldError
from croplake.locks import living_runs, locks_of, writing

HOLDER = """
import sys
from croplake.locks import writing
with writing(sys.argv[1], tuple(sys.argv[3:]), run_id=sys.argv[2], job="fetch_crops"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(root: Path, run_id: str, *tables: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds tables until it is killed, or the block ends."""
    command = [sys.executable, "-c", HOLDER, str(root), run_id, *tables]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_second_writer_of_a_table_is_told_who_holds_it(tmp_path: Path) -> None:
    with another_process(tmp_path, "r1", "crops") as holder:
        with (
            pytest.raises(TableHeldError) as held,
            writing(str(tmp_path), ("crops",), run_id="r2", job="forget"),
        ):
            pass
        text = f"table crops is being written by fetch_crops (run r1, process {holder.pid} on "
        assert str(held.value).startswith(text)
        assert str(tmp_path / "_locks" / "crops.lock") in str(held.value)


def test_other_tables_are_free_beside_a_held_one(tmp_path: Path) -> None:
    with (
        another_process(tmp_path, "r1", "crops"),
        another_process(tmp_path, "r2", "examples"),
        writing(str(tmp_path), ("selected_boxes",), run_id="r3", job="select_boxes"),
    ):
        holders = locks_of(str(tmp_path)).holders()
        found = {name: holder.run_id for name, holder in holders.items() if holder}
        assert found == {
            "crops": "r1",
            "examples": "r2",
            "run r1": "r1",
            "run r2": "r2",
            "run r3": "r3",
            "selected_boxes": "r3",
        }
        assert set(living_runs(str(tmp_path)) or ()) == {"r1", "r2", "r3"}


def test_a_writer_that_gets_one_table_but_not_the_other_holds_neither(tmp_path: Path) -> None:
    with another_process(tmp_path, "r1", "selected_boxes"):
        with (
            pytest.raises(TableHeldError, match="selected_boxes"),
            writing(str(tmp_path), ("crops", "selected_boxes"), run_id="r2", job="forget"),
        ):
            pass
        with writing(str(tmp_path), ("crops",), run_id="r3", job="fetch_crops"):
            pass


def test_a_killed_holders_locks_are_free_at_once_and_its_run_is_dead(tmp_path: Path) -> None:
    with another_process(tmp_path, "r1", "crops") as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert living_runs(str(tmp_path)) == frozenset()
        with writing(str(tmp_path), ("crops",), run_id="r2", job="fetch_crops"):
            assert set(living_runs(str(tmp_path)) or ()) == {"r2"}


def test_who_asks_is_never_taken_for_a_holder(tmp_path: Path) -> None:
    """Asking tries the locks; a writer that comes meanwhile must still get its own."""
    asking = "import sys; from croplake.locks import locks_of\nwhile True: "
    asking += "locks_of(sys.argv[1]).holders(); print('asked', flush=True)"
    with writing(str(tmp_path), ("crops",), run_id="r0", job="fetch_crops"):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", asking, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as asker:
        try:
            assert asker.stdout is not None
            for number in range(300):
                assert asker.stdout.readline() == "asked\n"
                with writing(str(tmp_path), ("crops",), run_id=f"r{number}", job="fetch_crops"):
                    pass
        finally:
            asker.kill()


def test_a_run_leaves_no_lock_file_of_its_own(tmp_path: Path) -> None:
    with writing(str(tmp_path), (), run_id="r1", job="train_classifier"):
        assert set(living_runs(str(tmp_path)) or ()) == {"r1"}
    assert living_runs(str(tmp_path)) == frozenset()
    assert not (tmp_path / "_locks" / "run r1.lock").exists()


def test_storage_without_locks_takes_no_run_for_dead(capsys: pytest.CaptureFixture[str]) -> None:
    with writing("s3a://bucket/lake", ("crops",), run_id="r1", job="fetch_crops"):
        assert living_runs("s3a://bucket/lake") is None
    assert "see to it that one job writes at a time" in capsys.readouterr().err
