"""kill -9 at any moment: no crop twice, none lost, and finished ones keep their bytes."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.conf import Settings
from croplake.miniature import MiniatureServer, World, serve_world
from tests.jobs.commands import (
    at_request,
    check_complete,
    check_never_two,
    crops_of,
    fetch_crops,
    kill_group,
)
from tests.jobs.crops import kept_boxes
from tests.jobs.world import LAKE_FOLDER, miniature_settings, run

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

NUM_KILLS, NUM_LATE = 20, 5
_ALMOST_ALL, _END_S = 240, 6.0
FEW = {"photos_per_task": 15, "transfers_per_task": 8}


def test_a_run_that_is_killed_at_20_random_moments_loses_and_doubles_nothing(
    spark: SparkSession, world: World, catalog: Path, tmp_path: Path
) -> None:
    chances = random.Random(7)
    landed = []
    for number in range(NUM_KILLS):
        folder = tmp_path / str(number)
        shutil.copytree(catalog, folder)
        with serve_world(world) as server:
            settings = miniature_settings(world, server, folder, fetch=FEW)
            # The whole run asks about 250 times; the n-th request is a moment that can be named.
            # What comes after the last, commits and the end of the run, has its share by the clock.
            is_late = number >= NUM_KILLS - NUM_LATE
            moment = _ALMOST_ALL if is_late else chances.randrange(1, _ALMOST_ALL)
            delay_s = chances.uniform(0, _END_S) if is_late else 0.0
            with (
                fetch_crops(settings, folder) as process,
                killed_at_request(server, moment, process, delay_s) as killed,
            ):
                process.communicate()
            assert killed.is_set()
            finished = check_never_two(crops_of(settings))
            landed.append(len(finished))
            run(spark, "fetch_crops", settings)
            check_complete(settings, finished)
        shutil.rmtree(folder)
    assert min(landed) == 0
    assert max(landed) > 100


@contextmanager
def killed_at_request(
    server: MiniatureServer, moment: int, process: subprocess.Popen[str], delay_s: float
) -> Iterator[threading.Event]:
    """Kills a command some time after the n-th request."""
    timer = threading.Timer(delay_s, kill_group, [process])
    with at_request(server, moment, timer.start) as asked:
        yield asked
    timer.cancel()
    if asked.is_set():
        timer.join()


def test_a_driver_that_dies_between_data_and_commit_leaves_data_that_nobody_reads(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    settings = miniature_settings(world, server, folder, fetch=FEW)
    crops = folder / LAKE_FOLDER / "crops"
    with fetch_crops(settings, folder) as process:
        # Whole files, each with its footer, that no commit names yet: that is the moment.
        while not orphans(settings, crops):
            assert process.poll() is None
        kill_group(process)
        process.wait()
    assert orphans(settings, crops)
    finished = check_never_two(crops_of(settings))
    run(spark, "fetch_crops", settings)
    check_complete(settings, finished)


def orphans(settings: Settings, crops: Path) -> set[str]:
    """Finished Parquet files of crops that no commit names."""
    written = {
        path.name
        for path in crops.glob("recipe_id=*/has_crop=true/*.parquet")
        if path.stat().st_size > 8 and path.read_bytes()[-4:] == b"PAR1"
    }
    log = "".join(path.read_text() for path in (crops / "_delta_log").glob("*.json"))
    return written - set(re.findall(r"part-[^\"/]*?\.parquet", log))


def executors_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the executors' JVMs that belong to a command's process group."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                is_executor = b"CoarseGrainedExecutorBackend" in (folder / "cmdline").read_bytes()
                if is_executor and os.getpgid(int(folder.name)) == process.pid:
                    found.append(int(folder.name))
            except (OSError, ProcessLookupError):
                continue
    return found


def test_an_executor_that_dies_in_the_middle_of_its_task_costs_nothing(
    world: World, server: MiniatureServer, folder: Path
) -> None:
    settings = miniature_settings(
        world, server, folder, fetch=FEW, spark={"master": "local-cluster[2,1,1024]"}
    )
    killed: list[int] = []

    def kill_an_executor(process: subprocess.Popen[str]) -> None:
        killed.extend(executors_of(process)[:1])
        os.kill(killed[0], signal.SIGKILL)

    with (
        fetch_crops(settings, folder) as process,
        at_request(server, 100, lambda: kill_an_executor(process)),
    ):
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert killed
    check_complete(settings, {})


def test_a_lake_whose_disk_is_full_stays_whole_and_the_run_goes_on_when_there_is_room(
    spark: SparkSession, world: World, server: MiniatureServer, catalog: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk of one's own takes the right to mount one")
    try:
        shutil.copytree(catalog, folder, dirs_exist_ok=True)
        fetch = FEW | {"min_free_bytes": 0, "recipe": {"jpeg_quality": 100}}
        settings = miniature_settings(world, server, folder, fetch=fetch)
        with fetch_crops(settings, folder) as process:
            printed, _ = process.communicate()
        assert process.returncode == 3, printed
        assert "No space left on device" in printed
        finished = check_never_two(crops_of(settings))
        assert len(finished) < len(kept_boxes(settings))
        subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
        run(spark, "fetch_crops", settings)
        check_complete(settings, finished)
        assert Counter(row[t.STATUS] for row in crops_of(settings))["ok"] > len(finished)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
