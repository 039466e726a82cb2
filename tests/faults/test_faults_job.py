"""Every fault at once in one run of fetch_crops, and politeness over its tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.conf import Settings
from croplake.conf.models import HostBudgetConf
from croplake.lake import Lake
from tests.faults import page
from tests.faults.case import (
    CONNECT_TIMEOUT_S,
    MAX_PAUSE_S,
    MAX_PIXELS,
    PHOTO_TIMEOUT_S,
    READ_TIMEOUT_S,
)
from tests.faults.cases import CASES
from tests.faults.counting import CountingHost
from tests.faults.faults import MAX_BYTES
from tests.faults.running import (
    NUM_BOXES,
    SOURCES,
    Hosts,
    Row,
    case_hosts,
    outcomes_of,
    photo_row,
    row_of,
)
from tests.faults.server import FaultServer
from tests.jobs.world import APPLE, hand_made_settings, outside_environment, rows_of, run

FARMS = [f"farm{number}.staticflickr.com" for number in range(1, 5)]


def write_lake(spark: SparkSession, settings: Settings, photos: list[Row]) -> None:
    """A catalog of these rows of `TASK_SCHEMA`, all their boxes kept."""
    lake = Lake(spark, settings.lake.root)
    known = [{name: photo.get(name) for name in t.PHOTOS.columns} for photo in photos]
    kept = [
        dict.fromkeys(t.SELECTED_BOXES.columns)
        | {name: photo[name] for name in (t.IMAGE_ID, t.SUBSET)}
        | {name: value for name, value in box.items() if name in t.SELECTED_BOXES.columns}
        | {t.DATASET: settings.dataset.name, t.LABEL_MID: APPLE, t.CATEGORY: "Apple"}
        for photo in photos
        for box in photo["photo_boxes"]
    ]
    for table, rows in ((t.PHOTOS, known), (t.SELECTED_BOXES, kept)):
        lake.add_rows(rows, table)
    lake.create(t.CROPS)
    lake.create(t.RUNS)


def worse_copies(folder: Path) -> Path:
    """A second place with damaged files of the same names; the first is to give the photos."""
    second = folder.parent / "at_hand_too"
    second.mkdir()
    for file in folder.iterdir():
        (second / file.name).write_bytes(b"damaged")
    return second


def fault_settings(hosts: Hosts, folder: Path) -> Settings:
    fetch = {
        "sources": list(SOURCES),
        "at_hand": [str(hosts.folder), str(worse_copies(hosts.folder))],
        "connect_to": hosts.connect_to,
        "private_hosts": sorted(hosts.private_hosts),
        "ca_file": hosts.ca_file,
        "connect_timeout_s": CONNECT_TIMEOUT_S,
        "read_timeout_s": READ_TIMEOUT_S,
        "photo_timeout_s": PHOTO_TIMEOUT_S,
        "max_pause_s": MAX_PAUSE_S,
        "max_photo_bytes": MAX_BYTES,
        "max_photo_pixels": MAX_PIXELS,
        "transfers_per_task": 256,
        "recipe": {"max_side_px": 64},
    }
    return hand_made_settings(folder, fetch=fetch)


@pytest.mark.full
def test_all_faults_in_one_run_give_every_box_its_one_row_and_fail_no_task(
    spark: SparkSession, tmp_path: Path
) -> None:
    with case_hosts(CASES, tmp_path / "hosts") as hosts:
        settings = fault_settings(hosts, tmp_path)
        photos = [row_of(case, hosts) for case in CASES]
        write_lake(spark, settings, photos)
        begun, earlier_jobs = time.monotonic(), job_ids(spark)
        run(spark, "fetch_crops", settings)
        seconds = time.monotonic() - begun
        first = min(at for log in hosts.server.log.values() for at in log.started_at)
        started = datetime.now(UTC) - timedelta(seconds=time.monotonic() - first)
    crops = rows_of(settings, "crops")
    boxes = [box[t.BOX_ID] for photo in photos for box in photo["photo_boxes"]]
    assert Counter(row[t.BOX_ID] for row in crops) == Counter(boxes)
    outcomes = outcomes_of(crops, CASES, {case.name: started for case in CASES})
    title = "Fault cases in one run of fetch_crops, seconds since its first request"
    page.write_outcomes("fault_cases.md", title, outcomes)
    expected = {case.name: (str(case.status), case.source, case.http_status) for case in CASES}
    found = {
        name: (outcome.row[t.STATUS], outcome.row[t.SOURCE], outcome.row[t.HTTP_STATUS])
        for name, outcome in outcomes.items()
    }
    assert found == expected
    for case in CASES:
        for row in outcomes[case.name].rows:
            assert case.detail in (row[t.DETAIL] or "")
            assert row[t.ATTEMPT] == 1
    assert num_failed_tasks(spark, job_ids(spark) - earlier_jobs) == 0
    assert seconds < 300


@pytest.mark.parametrize("transfers", [pytest.param(1, marks=pytest.mark.full), 2])
def test_the_tasks_of_a_run_keep_to_a_hosts_budget_over_all_its_chunks(
    spark: SparkSession, tmp_path: Path, transfers: int
) -> None:
    """Two chunks are under way at once: as many tasks as slots have to share what there is."""
    host = run_politely(spark, tmp_path, HostBudgetConf(transfers=transfers))
    assert (host.refused, host.most_at_once) == (0, transfers)


@pytest.mark.full
def test_more_tasks_than_budget_keep_to_it_and_to_its_rate(tmp_path: Path) -> None:
    """Four slots, two parts, in a Spark of its own."""
    program = f"""
from pathlib import Path
from croplake.conf import SparkConf
from croplake.conf.models import HostBudgetConf
from croplake.session import spark_session
from tests.faults.test_faults_job import run_politely

conf = SparkConf(master="local[4]", properties={{"spark.sql.shuffle.partitions": "4"}})
with spark_session("politeness", conf) as spark:
    budget = HostBudgetConf(transfers=2, rate_per_s=40)
    host = run_politely(spark, Path({str(tmp_path)!r}), budget)
    assert (host.refused, host.most_at_once) == (0, 2), vars(host)
    assert host.most_starts_within(0.5) <= 20 + 3, host.starts
"""
    environment = outside_environment() | {"PYTHONPATH": os.pathsep.join(["", *sys.path])}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def run_politely(spark: SparkSession, folder: Path, budget: HostBudgetConf) -> CountingHost:
    """Fetches 48 photos of four farms of Flickr, some six a task; all have to be served."""
    host = CountingHost(limit=budget.transfers)
    photos = [
        photo_row(f"{n:016x}", f"http://{FARMS[n % 4]}/{n}_o.jpg", license="by") for n in range(48)
    ]
    with FaultServer(dict.fromkeys(FARMS, host)) as server:
        fetch = {
            "sources": ["original"],
            "hosts": {"*": {"transfers": 32}, "staticflickr.com": budget.model_dump()},
            "connect_to": dict.fromkeys(FARMS, server.address),
            "private_hosts": FARMS,
            "photos_per_task": 6,
            "recipe": {"max_side_px": 64},
        }
        settings = hand_made_settings(folder, fetch=fetch)
        write_lake(spark, settings, photos)
        run(spark, "fetch_crops", settings)
    crops = rows_of(settings, "crops")
    assert Counter(row[t.STATUS] for row in crops) == {"ok": 48 * NUM_BOXES}
    assert len(host.starts) == 48
    return host


def job_ids(spark: SparkSession) -> set[int]:
    return set(spark.sparkContext.statusTracker().getJobIdsForGroup(None))


def num_failed_tasks(spark: SparkSession, jobs: set[int]) -> int:
    tracker = spark.sparkContext.statusTracker()
    infos = [tracker.getJobInfo(job) for job in jobs]
    stages = [tracker.getStageInfo(stage) for info in infos if info for stage in info.stageIds]
    assert stages
    return sum(stage.numFailedTasks for stage in stages if stage)
