"""The benchmarks' own arithmetic: idle time, targets, the README's sections."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import report
from tests.benchmarks.report import Rounds, Target, publish
from tests.benchmarks.timeline import TaskTime, idle_frac
from tests.benchmarks.workload import one_crop


def test_slots_that_are_always_taken_are_never_idle() -> None:
    tasks = [TaskTime(1, 0, 4), TaskTime(1, 0, 5), TaskTime(2, 4, 9), TaskTime(2, 5, 8)]
    assert idle_frac(tasks, slots=2) == 0


def test_a_slot_that_waits_for_the_next_chunk_is_idle() -> None:
    # From 3 to 4 one slot of two waits; from 4 to 5 none; the last chunk's end is not looked at.
    tasks = [TaskTime(1, 0, 3), TaskTime(1, 0, 5), TaskTime(2, 4, 30), TaskTime(2, 5, 10)]
    assert idle_frac(tasks, slots=2) == pytest.approx(1 / 5)


def test_both_slots_waiting_count_once() -> None:
    tasks = [TaskTime(1, 0, 6), TaskTime(1, 0, 6), TaskTime(2, 8, 9), TaskTime(2, 8, 9)]
    assert idle_frac(tasks, slots=2) == pytest.approx(2 / 8)


def test_a_target_that_could_not_be_measured_neither_holds_nor_fails() -> None:
    target = Target("https ÷ other", None, "≥", 2)
    assert target.holds is None
    assert target.as_json()["value"] == "not measured"


def test_a_missed_target_is_written_down_as_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("Above.\n<!-- bench-x -->\nold\n<!-- /bench-x -->\nBelow.\n")
    monkeypatch.setattr(report, "README", readme)
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "QUICK", False)
    rounds = Rounds("photos/s", {"ours": [3.0, 1.0, 2.0]})
    publish("x", rounds, [Target("ours", rounds.median("ours"), "≥", 2.5)], [])
    text = readme.read_text()
    assert "| ours | 2.0 | ≥ 2.5 | MISSED |" in text
    assert "| ours | 2 | 1 | 3 |" in text
    assert "old" not in text
    assert text.startswith("Above.\n")
    assert text.endswith("Below.\n")


def test_photos_repeat_under_distinct_ids() -> None:
    ids = one_crop(1000).image_ids()
    assert len(set(ids)) == 1000
    assert ids[7][-3:] == ids[407][-3:] == "007"
    assert {len(image_id) for image_id in ids} == {16}
