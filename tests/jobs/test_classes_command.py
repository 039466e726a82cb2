"""`croplake classes`: places in the hierarchy and boxes of each subset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.cli import main
from croplake.conf.loading import load_settings
from croplake.miniature import World, serve_world
from tests.jobs.world import miniature_settings, rows_of, run


@pytest.fixture(scope="module")
def conf(spark: SparkSession, world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Settings of a lake with the published class list."""
    folder = tmp_path_factory.mktemp("classes")
    with serve_world(world) as server:
        settings = miniature_settings(world, server, folder)
    run(spark, "ingest_catalog", settings)
    return str(folder / "conf.yaml")


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["classes", *arguments]) == 0
    return capsys.readouterr().out


def test_json_gives_places_and_counts_as_the_table_has_them(
    conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = json.loads(output(capsys, "mushroom", "--conf", conf, "--json"))
    rows = {row[t.CLASS_NAME]: row for row in rows_of(load_settings(conf), "classes")}
    row = rows["Mushroom"]
    assert found == {
        "mid": row[t.LABEL_MID],
        "name": "Mushroom",
        "paths": [["Food", "Mushroom"]],
        "num_boxes": {
            "train": row[t.NUM_BOXES_TRAIN],
            "validation": row[t.NUM_BOXES_VALIDATION],
            "test": row[t.NUM_BOXES_TEST],
        },
    }
    assert found["num_boxes"]["train"] > 0


def test_a_pattern_lists_its_classes_with_every_place_they_have(
    conf: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = output(capsys, "*boat*", "--conf", conf)
    assert "Boat" in text
    assert "Vehicle › Watercraft" in text
    assert "Mushroom" not in text
    assert len(json.loads(output(capsys, "--conf", conf, "--json"))) == 601


def test_the_tree_of_a_subtree_draws_what_lies_below_once(
    conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = output(capsys, "Watercraft/**", "--tree", "--conf", conf).splitlines()
    assert lines[0].startswith("Watercraft ")
    names = [line.lstrip("│├└─ ").rsplit(" ", 1)[0] for line in lines]
    assert names.count("Boat") == 1
    assert names.index("Boat") < names.index("Barge")
    boat, barge = lines[names.index("Boat")], lines[names.index("Barge")]
    assert barge.index("Barge") > boat.index("Boat")


def test_a_miss_offers_near_names(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classes", "Mushrom", "--conf", conf]) == 2
    assert 'no class matches "Mushrom"; did you mean: Mushroom' in capsys.readouterr().err


def test_a_lake_without_a_catalog_says_so(
    tmp_path: Path, conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"lake.root={tmp_path / 'none'}"
    assert main(["classes", "--conf", conf, "--set", nowhere]) == 4
    assert "no table classes yet" in capsys.readouterr().err
