"""`runs` says what runs, and two writers never meet in a table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from croplake import tables as t
from croplake.care.pins import find_readers
from croplake.cli import main
from croplake.jobs import select_boxes
from croplake.jobs.context import Job, JobContext
from croplake.jobs.way import run_job
from croplake.locks import living_runs
from tests.jobs.small_lake import SmallLake
from tests.jobs.world import rows_of

SLOW_JOB = """
import sys
from rich.console import Console
from croplake.conf.loading import load_settings
from croplake.jobs import select_boxes
from croplake.jobs.context import Job
from croplake.jobs.way import run_job
from croplake.session import spark_session

def run(context):
    print("under way", flush=True)
    sys.stdin.read()

settings = load_settings(sys.argv[1])
job = Job(**{**vars(select_boxes.JOB), "run": run})
with spark_session("slow", settings.spark) as spark:
    run_job(spark, job, settings, Console(quiet=True))
"""


@contextmanager
def slow_job(small: SmallLake) -> Iterator[subprocess.Popen[str]]:
    """select_boxes in a process of its own, in the midst of it."""
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith("PYSPARK_")
    }
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_JOB, small.conf],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "under way\n"
            yield process
        finally:
            process.kill()


def run_of(small: SmallLake, run_id: str) -> dict[str, Any]:
    (row,) = [row for row in rows_of(small.settings, "runs") if row[t.RUN_ID] == run_id]
    return row


def do(small: SmallLake, run: Any, **changes: Any) -> JobContext:  # noqa: ANN401
    """Runs a job of a test's own in the place of select_boxes."""
    job = Job(**{**vars(select_boxes.JOB), "run": run, **changes})
    return run_job(small.spark, job, small.settings, Console(quiet=True))


def test_a_run_is_in_runs_from_its_start_with_the_versions_it_reads_and_once(
    small: SmallLake,
) -> None:
    seen: list[dict[str, Any]] = []

    def run(context: JobContext) -> None:
        seen.append(run_of(small, context.run_id))

    context = do(small, run)
    assert seen[0][t.OUTCOME] == "running"
    assert seen[0][t.ENDED_AT] is None
    versions = {"classes": 0, "boxes": 0, "photos": 0, "crops": 1}
    assert dict(seen[0][t.TABLES_READ]) == versions
    ended = run_of(small, context.run_id)
    assert ended[t.OUTCOME] == "done"
    assert ended[t.STARTED_AT] == seen[0][t.STARTED_AT] < ended[t.ENDED_AT]


def test_a_job_reads_the_versions_of_its_start_whatever_is_committed_meanwhile(
    small: SmallLake,
) -> None:
    counts: list[int] = []

    def run(context: JobContext) -> None:
        small.add(t.CLASSES, {t.LABEL_MID: "/m/0", t.CLASS_NAME: "Late"})
        counts.append(context.read_table(t.CLASSES).count())
        counts.append(context.lake.read(t.CLASSES).count())

    do(small, run)
    assert counts == [2, 3]


def test_a_version_that_a_job_asks_for_is_noted_before_it_is_read(small: SmallLake) -> None:
    noted: list[dict[str, int]] = []

    def run(context: JobContext) -> None:
        context.read_table(t.EXAMPLES, version=0)
        noted.append(dict(run_of(small, context.run_id)[t.TABLES_READ]))

    do(small, run, reads=())
    assert noted == [{"examples": 0}]


def test_a_living_run_pins_what_it_reads_and_one_that_has_ended_does_not(
    small: SmallLake,
) -> None:
    pinned: list[set[tuple[str, int]]] = []

    def run(context: JobContext) -> None:
        pins = find_readers(small.lake).pins
        pinned.append({(pin.table, pin.version) for pin in pins if pin.is_running})

    do(small, run)
    assert pinned == [{("classes", 0), ("boxes", 0), ("photos", 0), ("crops", 1)}]
    assert [pin for pin in find_readers(small.lake).pins if pin.is_running] == []


def test_runs_that_end_at_the_same_moment_have_one_row_each(small: SmallLake) -> None:
    tables = (t.PHOTOS, t.BOXES, t.CROPS, t.EXAMPLES)

    def one(table: t.Table) -> str:
        return do(small, lambda context: None, writes=(table,)).run_id

    with ThreadPoolExecutor(len(tables)) as pool:
        run_ids = list(pool.map(one, tables))
    assert [run_of(small, run_id)[t.OUTCOME] for run_id in run_ids] == ["done"] * 4
    assert len(rows_of(small.settings, "runs")) == 8


def test_a_table_of_an_older_lake_keeps_its_log_before_a_job_writes_it(small: SmallLake) -> None:
    name = small.lake.sql_name(t.EXAMPLES)
    small.spark.sql(f"ALTER TABLE {name} UNSET TBLPROPERTIES ('delta.enableExpiredLogCleanup')")
    kept: list[bool] = []
    do(
        small,
        lambda context: kept.append(small.lake.reader.keeps_log("examples")),
        writes=(t.EXAMPLES,),
    )
    assert kept == [True]


@pytest.mark.full
def test_the_second_writer_stops_and_names_the_first_whose_death_frees_the_table(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    select = ["select-boxes", "--conf", small.conf]
    with slow_job(small) as first:
        versions = {info.name: info.version for info in small.lake.reader.tables()}
        selected = rows_of(small.settings, "selected_boxes")
        (run_id,) = sorted(living_runs(str(small.folder)) or frozenset())

        assert main(select) == 5
        said = capsys.readouterr().err
        assert f"is being written by select_boxes (run {run_id}, process {first.pid} on" in said
        # Nothing is half-written, not even a row in `runs`.
        assert {info.name: info.version for info in small.lake.reader.tables()} == versions
        assert rows_of(small.settings, "selected_boxes") == selected
        # Other tables are free.
        do(small, lambda context: None, writes=(t.EXAMPLES,))

        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert main(select) == 0
    assert run_of(small, run_id)[t.OUTCOME] == "running"
    (dead,) = find_readers(small.lake).dead
    assert dead[t.RUN_ID] == run_id
    assert main(["lake", "maintain", "--conf", small.conf, "--dry-run"]) == 0
    assert f"select_boxes (run {run_id}) was killed" in capsys.readouterr().out.replace("\n", "")


def test_a_killed_runs_lock_file_stays_without_harm(small: SmallLake) -> None:
    stale = small.folder / "_locks" / "run r9.lock"
    stale.parent.mkdir(exist_ok=True)
    stale.write_text('{"job": "fetch_crops", "run_id": "r9"')
    assert living_runs(str(small.folder)) == frozenset()


def test_a_job_that_writes_no_table_makes_no_lake_where_none_is(
    small: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mistyped = tmp_path / "lkae"
    into = tmp_path / "away"
    export = ["export-examples", "--format", "folders", "--into", str(into)]
    for command in (export, ["train-classifier"]):
        arguments = ["--conf", small.conf, "--set", f"lake.root={mistyped}"]
        assert main([*command, *arguments]) == 4
        assert "lkae: no lake is there, no table was ever written" in capsys.readouterr().err
        assert not mistyped.exists()
    assert not into.exists()
