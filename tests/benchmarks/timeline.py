"""When fetching tasks ran, from Spark's event log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FETCHING: Final = "MapInArrow"
"""The operator whose stages fetch; the planning, shuffling and committing ones have none."""


def event_log_properties(folder: Path) -> dict[str, str]:
    """Spark's properties that write one plain file of events."""
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": folder.resolve().as_uri(),
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }


@dataclass(frozen=True)
class TaskTime:
    """When a fetching task ran, in seconds of the clock.

    Attributes:
        stage: its stage; each chunk has one.
        started_s: its launch.
        ended_s: its end, its Parquet file closed.
    """

    stage: int
    started_s: float
    ended_s: float


def fetching_tasks(folder: Path, *, after_s: float) -> list[TaskTime]:
    """The tasks of the stages that fetch.

    Args:
        folder: of the event log; the session must have stopped.
        after_s: earlier tasks, those of the warm-up, are left out.
    """
    events = list(_events(folder))
    stages = {
        event["Stage Info"]["Stage ID"]
        for event in events
        if event["Event"] == "SparkListenerStageSubmitted" and _fetches(event["Stage Info"])
    }
    ends = [
        event
        for event in events
        if event["Event"] == "SparkListenerTaskEnd" and event["Stage ID"] in stages
    ]
    infos = [(event["Stage ID"], event["Task Info"]) for event in ends]
    times = [
        TaskTime(stage, info["Launch Time"] / 1000, info["Finish Time"] / 1000)
        for stage, info in infos
    ]
    return [task for task in times if task.started_s >= after_s]


def idle_frac(tasks: Sequence[TaskTime], slots: int) -> float:
    """The share of the time in which not every slot ran a fetching task.

    It is looked at from the first task's start to the last task's: the end of the last chunk,
    when there is nothing left to begin, is not between chunks.

    Args:
        tasks: of all chunks.
        slots: tasks that can run at once.

    Returns:
        In [0, 1].
    """
    first, last = min(task.started_s for task in tasks), max(task.started_s for task in tasks)
    moments = [(task.started_s, 1) for task in tasks] + [(task.ended_s, -1) for task in tasks]
    running, previous, idle_s = 0, first, 0.0
    for at_s, change in sorted(moments):
        if running < slots and at_s > first:
            idle_s += min(at_s, last) - min(previous, last)
        running, previous = running + change, at_s
    return idle_s / (last - first) if last > first else 0.0


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    for file in folder.iterdir():
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _fetches(stage: dict[str, Any]) -> bool:
    scopes = (json.loads(rdd.get("Scope", "{}")) for rdd in stage["RDD Info"])
    return any(scope.get("name") == FETCHING for scope in scopes)
