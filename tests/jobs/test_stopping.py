from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.errors import IncompleteError
from croplake.jobs import fetch_chunks
from croplake.miniature import MiniatureServer, World
from tests.jobs.commands import (
    at_request,
    check_complete,
    check_never_two,
    fetch_crops,
    write_conf,
)
from tests.jobs.crops import asked_photos, kept_boxes
from tests.jobs.world import (
    hand_made_settings,
    miniature_settings,
    outside_environment,
    rows_of,
    run,
)

FEW = {"photos_per_task": 20, "transfers_per_task": 4}
"""Six chunks or so, and few photos under way when a run is stopped."""


def terminate(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    """A terminal tells every process of the group."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.full
@pytest.mark.parametrize(("tell", "name"), [(terminate, "SIGTERM"), (press_ctrl_c, "SIGINT")])
def test_a_run_that_is_told_to_stop_commits_what_is_under_way_and_says_how_to_go_on(
    spark: SparkSession,
    world: World,
    server: MiniatureServer,
    folder: Path,
    tell: Callable[[subprocess.Popen[str]], None],
    name: str,
) -> None:
    settings = miniature_settings(world, server, folder, fetch=FEW)
    with (
        fetch_crops(settings, folder) as process,
        at_request(server, 60, lambda: tell(process)),
    ):
        printed, _ = process.communicate()
    assert process.returncode == 3, printed
    assert f"stopped by {name}" in printed
    assert "run the same command again to go on" in printed
    assert "Traceback" not in printed
    rows = rows_of(settings, "crops")
    finished = check_never_two(rows)
    assert 0 < len(rows) < len(kept_boxes(settings))
    assert {row[t.IMAGE_ID] for row in rows} == set(asked_photos(world, server))
    assert {row[t.OUTCOME] for row in rows_of(settings, "runs")} >= {"incomplete"}
    run(spark, "fetch_crops", settings)
    check_complete(settings, finished)


@pytest.mark.full
def test_a_job_that_is_told_to_end_before_its_chunks_closes_its_record(tmp_path: Path) -> None:
    settings = hand_made_settings(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/classes.csv"
        catalog = settings.catalog.model_copy(update={"classes": address})
        settings = settings.model_copy(update={"catalog": catalog})
        command = ["croplake", "ingest-catalog", "--conf", write_conf(settings, tmp_path)]
        with subprocess.Popen(
            command, env=outside_environment(), stderr=subprocess.PIPE, text=True
        ) as process:
            asked, _ = silent.accept()
            with asked:
                asked.recv(1)
                terminate(process)
                _, said = process.communicate()
    assert process.returncode == 3, said
    assert "croplake: interrupted" in said
    (row,) = rows_of(settings, "runs")
    assert (row[t.OUTCOME], row[t.DETAIL]) == ("failed", "KeyboardInterrupt: ")
    assert row[t.ENDED_AT] is not None


def test_a_run_does_not_start_where_its_crops_would_not_fit(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    settings = miniature_settings(world, server, folder, fetch={"min_free_bytes": 1 << 60})
    with pytest.raises(IncompleteError, match=r"crops take about .* MiB, the disk of .* has"):
        run(spark, "fetch_crops", settings)
    assert server.requests == []


@pytest.mark.full
def test_a_run_stops_between_chunks_where_the_disk_runs_low(
    spark: SparkSession,
    world: World,
    server: MiniatureServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = miniature_settings(world, server, folder, fetch=FEW)
    free = iter([1 << 40] * 3)
    monkeypatch.setattr(fetch_chunks, "free_bytes", lambda root: next(free, 0))
    with pytest.raises(IncompleteError, match="the lake's disk has 0 MiB left"):
        run(spark, "fetch_crops", settings)
    finished = check_never_two(rows_of(settings, "crops"))
    assert 0 < len(finished) < len(kept_boxes(settings))
    monkeypatch.undo()
    run(spark, "fetch_crops", settings)
    check_complete(settings, finished)


@pytest.mark.full
def test_a_run_stops_where_nothing_comes_any_more_instead_of_using_up_tries(
    spark: SparkSession,
    world: World,
    server: MiniatureServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch_chunks, "HOPELESS_PHOTOS", 30)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
        fetch = FEW | {"connect_to": dict.fromkeys(server.connect_to, nowhere), "rounds": 1}
        settings = miniature_settings(world, server, folder, fetch=fetch)
        with pytest.raises(IncompleteError, match=r"no host had an answer for the last \d+"):
            run(spark, "fetch_crops", settings)
    rows = rows_of(settings, "crops")
    assert {row[t.STATUS] for row in rows} <= {"host_unreachable", "host_paused"}
    assert len(rows) < len(kept_boxes(settings))
    tries = {row[t.STATUS]: row[t.ATTEMPT] for row in rows}
    assert tries == {"host_unreachable": 1, "host_paused": 0}, "what was not asked for is no try"
    run(spark, "fetch_crops", miniature_settings(world, server, folder))
    check_complete(settings, {})
