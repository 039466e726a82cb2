from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyspark.sql import SparkSession
from rich.console import Console

from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import IncompleteError, InputDataError
from croplake.jobs import build_examples, evaluate_classifier, train_classifier
from croplake.jobs.way import JOBS, run_all
from croplake.lake import Lake
from croplake.miniature import World, serve_world
from croplake.storage import local_path
from tests.jobs.conftest import WholeWay
from tests.jobs.world import miniature_settings, rows_of


def run_quietly(spark: SparkSession, settings: Settings) -> str:
    printed = io.StringIO()
    run_all(spark, settings, Console(file=printed, width=100))
    return printed.getvalue()


def model_folder(way: WholeWay) -> Path:
    (trained,) = [r for r in rows_of(way.settings, "runs") if r[t.JOB] == "train_classifier"]
    return Path(way.settings.lake.root, "models", trained[t.MODEL_ID])


def test_every_job_leaves_a_row_in_runs_with_the_versions_it_read_and_wrote(
    whole_way: WholeWay,
) -> None:
    runs = {row[t.JOB]: row for row in rows_of(whole_way.settings, "runs")}
    assert sorted(runs, key=lambda job: runs[job][t.STARTED_AT]) == [job.name for job in JOBS]
    assert {row[t.OUTCOME] for row in runs.values()} == {"done"}
    assert dict(runs["build_examples"][t.TABLES_READ]).keys() >= {"crops", "selected_boxes"}
    built = dict(runs["build_examples"][t.TABLES_WRITTEN])
    assert built.keys() == {"examples", "near_duplicates"}
    assert json.loads(runs["fetch_crops"][t.SETTINGS])["dataset"]["name"] == "miniature"


def test_each_step_prints_what_landed_and_the_end_is_the_test_top_1(whole_way: WholeWay) -> None:
    for title in [job.name for job in JOBS]:
        assert f"\n{title}" in f"\n{whole_way.printed}"
    assert "epoch 2 of 2" in whole_way.printed
    (top1,) = [
        row[t.VALUE]
        for row in rows_of(whole_way.settings, "evaluations")
        if row[t.METRIC] == "top1" and row[t.SLICE] is None
    ]
    assert f"test top-1: {top1:.2%}" in whole_way.printed


def test_a_model_is_a_folder_with_both_formats_labels_settings_and_history(
    whole_way: WholeWay,
) -> None:
    folder = model_folder(whole_way)
    assert {file.name for file in folder.iterdir()} == {
        "model.keras",
        "model.h5",
        "labels.json",
        "history.json",
        "settings.json",
        "confusion_test.png",
    }
    labels = json.loads((folder / "labels.json").read_text())
    assert labels == sorted(whole_way.settings.dataset.classes)
    assert len(json.loads((folder / "history.json").read_text())) == 2
    with Image.open(folder / "confusion_test.png") as picture:
        assert min(picture.size) > 300


def test_the_confusion_matrix_counts_every_test_example_once(whole_way: WholeWay) -> None:
    rows = rows_of(whole_way.settings, "evaluations")
    confusion = sum(row[t.VALUE] for row in rows if row[t.METRIC] == "confusion")
    tests = [r for r in rows_of(whole_way.settings, "examples") if r[t.SPLIT] == "test"]
    assert confusion == len(tests) > 0


def test_new_photos_have_a_row_each_in_the_table_and_in_the_csv(
    whole_way: WholeWay, world: World
) -> None:
    rows = {
        Path(local_path(row[t.PATH])).name: row
        for row in rows_of(whole_way.settings, "predictions")
    }
    assert set(rows) == {file.name for file in world.new_photos_dir.iterdir()}
    assert rows["broken.jpg"][t.STATUS] == "broken_photo"
    assert rows["notes.txt"][t.STATUS] == "not_a_photo"
    assert rows["boat_00.jpg"][t.STATUS] in ("ok", "unsure")
    assert rows["boat_00.jpg"][t.CATEGORY] in whole_way.settings.dataset.classes
    folder = Path(whole_way.settings.lake.root) / "predictions_csv"
    (file,) = folder.iterdir()
    with file.open(newline="") as content:
        assert len(list(csv.DictReader(content))) == len(rows)


@pytest.mark.full
def test_a_second_run_asks_hosts_for_nothing_new_and_skips_what_is_up_to_date(
    spark: SparkSession, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted way goes on with the job that broke off."""

    def of_server(server: Any) -> Settings:  # noqa: ANN401
        return miniature_settings(
            world, server, tmp_path, dataset={"name": "few", "classes": ["Boat", "Fish"]}
        )

    def broken(context: object) -> None:
        raise IncompleteError("the power went")

    with serve_world(world) as server:
        job = build_examples.JOB
        interrupted = [
            type(job)(**{**vars(other), "run": broken}) if other is job else other for other in JOBS
        ]
        monkeypatch.setattr("croplake.jobs.way.JOBS", tuple(interrupted))
        with pytest.raises(IncompleteError, match="the power went"):
            run_quietly(spark, of_server(server))
        monkeypatch.setattr("croplake.jobs.way.JOBS", JOBS[:4])
        server.clear_requests()
        printed = run_quietly(spark, of_server(server))
        assert "ingest_catalog: up to date" in printed
        assert "select_boxes: up to date" in printed
        assert "build_examples: examples" in printed
        server.clear_requests()
        again = run_quietly(spark, of_server(server))
    assert "build_examples: up to date" in again
    assert server.requests == []
    outcomes = [
        row[t.OUTCOME]
        for row in sorted(rows_of(of_server(server), "runs"), key=lambda row: row[t.STARTED_AT])
        if row[t.JOB] == "build_examples"
    ]
    assert outcomes == ["incomplete", "done"]


def test_a_changed_setting_runs_its_job_and_those_after_it_again(
    whole_way: WholeWay,
) -> None:
    from croplake.jobs.context import settings_hash

    other = whole_way.settings.model_copy(
        update={"evaluate": whole_way.settings.evaluate.model_copy(update={"split": "train"})}
    )
    for job in JOBS:
        same = settings_hash(job, whole_way.settings, {}) == settings_hash(job, other, {})
        assert same == (job is not evaluate_classifier.JOB)


def test_a_model_whose_file_is_gone_is_not_up_to_date(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path
) -> None:
    root = tmp_path / "lake"
    shutil.copytree(whole_way.settings.lake.root, root)
    lake = Lake(spark, str(root))
    (trained,) = [r for r in rows_of(whole_way.settings, "runs") if r[t.JOB] == "train_classifier"]
    assert train_classifier.JOB.is_there(lake, trained)
    (root / "models" / trained[t.MODEL_ID] / "model.keras").unlink()
    assert not train_classifier.JOB.is_there(lake, trained)


def test_evaluating_an_unknown_model_is_an_error_that_says_so(
    spark: SparkSession, whole_way: WholeWay
) -> None:
    from tests.jobs.world import run

    settings = whole_way.settings.model_copy(
        update={"evaluate": whole_way.settings.evaluate.model_copy(update={"model": "nobody"})}
    )
    with pytest.raises(InputDataError, match="the lake has no model nobody"):
        run(spark, "evaluate_classifier", settings)
