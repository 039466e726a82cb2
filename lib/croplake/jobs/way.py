"""All jobs in the order the data takes, and running them: one, or all that is not up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pyspark.sql import SparkSession
from rich.console import Console

from croplake import tables as t
from croplake.conf import Settings
from croplake.jobs import (
    build_examples,
    classify_photos,
    evaluate_classifier,
    fetch_crops,
    find_similar,
    ingest_catalog,
    plan_fetch,
    probe_examples,
    report_dataset,
    select_boxes,
    train_classifier,
)
from croplake.jobs.context import Job, JobContext, latest_runs, settings_hash
from croplake.jobs.record import recorded
from croplake.lake import Lake

JOBS: Final[tuple[Job, ...]] = (
    ingest_catalog.JOB,
    select_boxes.JOB,
    fetch_crops.JOB,
    build_examples.JOB,
    train_classifier.JOB,
    evaluate_classifier.JOB,
    classify_photos.JOB,
)
ASIDE: Final[tuple[Job, ...]] = (probe_examples.JOB,)
"""Jobs beside the way: `run_all` leaves them out."""
LOOKS: Final[dict[str, Callable[..., None]]] = {
    "plan_fetch": plan_fetch.run,
    "report_dataset": report_dataset.run,
    "find_similar": find_similar.run,
}
"""What only looks: it writes no table, and leaves no record."""


def run_job(
    spark: SparkSession, job: Job, settings: Settings, console: Console, *, out: str | None = None
) -> JobContext:
    """Runs one job, whatever ran before. A page goes to `out`, or to its usual place.

    Returns:
        What it read, wrote and counted.

    Raises:
        CroplakeError: as the job says.
    """
    context = JobContext(spark, settings, Lake(spark, settings.lake.root), console, out=out)
    hashed = _hash(job, context.lake, settings)
    with recorded(context, job, hashed):
        job.run(context)
    return context


def run_look(
    spark: SparkSession,
    name: str,
    settings: Settings,
    console: Console,
    *,
    out: str | None = None,
    asked: Mapping[str, Any] | None = None,
) -> JobContext:
    """Runs one of `LOOKS`; see `run_job`. A page goes to `out`, or to its usual place.

    Args:
        spark: the session.
        name: verb_noun.
        settings: of the run.
        console: for people.
        out: where a page goes; None is its usual place.
        asked: what the look takes beside the settings.
    """
    context = JobContext(spark, settings, Lake(spark, settings.lake.root), console, out=out)
    LOOKS[name](context, **(asked or {}))
    return context


def run_all(spark: SparkSession, settings: Settings, console: Console) -> None:
    """Runs the whole way; a job whose settings and inputs are those of its last run is skipped.

    Raises:
        CroplakeError: of the job that stopped; the next run goes on with it.
    """
    lake = Lake(spark, settings.lake.root)
    for job in JOBS:
        if job is classify_photos.JOB and not classify_photos.has_photos(settings):
            continue
        last = latest_runs(lake, settings, JOBS).get(job.name)
        if not job.always and _is_current(lake, job, last, _hash(job, lake, settings)):
            console.print(f"{job.name}: up to date", style="dim", highlight=False)
            continue
        started = time.monotonic()
        run_job(spark, job, settings, console)
        seconds = time.monotonic() - started
        console.print(f"{job.name}: {seconds:.0f} s", style="dim", highlight=False)


def _hash(job: Job, lake: Lake, settings: Settings) -> str:
    inputs: dict[str, Any] = _inputs(job, latest_runs(lake, settings, JOBS))
    if (state := job.state_of(lake, settings)) is not None:
        inputs["state"] = state
    return settings_hash(job, settings, inputs)


def _inputs(job: Job, latest: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the jobs it follows left behind last: table versions, and the model if any."""
    return {
        name: {
            "written": latest[name][t.TABLES_WRITTEN],
            "model_id": latest[name][t.MODEL_ID],
        }
        for name in job.follows
        if name in latest
    }


def _is_current(lake: Lake, job: Job, last: dict[str, Any] | None, hashed: str) -> bool:
    if last is None or last[t.SETTINGS_HASH] != hashed:
        return False
    return job.is_there(lake, last) and all(
        lake.reader.exists(table) and lake.reader.version(table) >= version
        for table, version in last[t.TABLES_WRITTEN].items()
    )
