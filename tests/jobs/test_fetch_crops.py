from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.errors import IncompleteError
from croplake.lake import Lake
from croplake.miniature import MiniatureServer, World, serve_world
from tests.jobs.crops import Row, asked_photos, check_pixels, kept_boxes
from tests.jobs.world import miniature_settings, rows_of, run


def test_every_kept_box_has_one_row_its_photo_was_had_once_and_crops_agree_with_numpy(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    settings = miniature_settings(world, server, folder)
    run(spark, "fetch_crops", settings)
    crops = rows_of(settings, "crops")
    kept = kept_boxes(settings)
    assert Counter(row[t.BOX_ID] for row in crops) == Counter(dict.fromkeys(kept, 1))
    check_statuses(world, crops)
    check_downloads(world, server, crops)
    check_pixels(world, crops, settings)


def check_statuses(world: World, crops: list[Row]) -> None:
    """Each fault of the hosts has its status and takes nothing else with it."""
    statuses: dict[str, set[tuple[str, str | None]]] = {}
    for row in crops:
        statuses.setdefault(row[t.IMAGE_ID], set()).add((row[t.STATUS], row[t.SOURCE]))
    faults = world.faults()
    of_fault = {
        "gone": {"not_found"},
        "mirror_gone": {"ok"},
        "truncated": {"broken_photo"},
        "empty": {"empty"},
        "html": {"not_a_photo"},
        "busy": {"busy"},
    }
    assert set(of_fault) == {faults[image_id] for image_id in statuses if image_id in faults}
    for image_id, found in statuses.items():
        if image_id not in faults:
            assert found == {("ok", "mirror")}
        else:
            assert {status for status, _ in found} == of_fault[faults[image_id]]
        if faults.get(image_id) == "mirror_gone":
            assert found == {("ok", "original")}
    for row in crops:
        is_ok = row[t.STATUS] == "ok"
        assert is_ok == row[t.HAS_CROP] == (row[t.JPEG] is not None) == (row[t.DETAIL] is None)
        assert row[t.ATTEMPT] == 1
        assert row[t.LICENSE]
        assert row[t.LANDING_URL]


def check_downloads(world: World, server: MiniatureServer, crops: list[Row]) -> None:
    asked = asked_photos(world, server)
    fine = {row[t.IMAGE_ID] for row in crops} - set(world.faults())
    assert {image_id: asked[image_id] for image_id in fine} == dict.fromkeys(fine, 1)
    assert set(asked) == {row[t.IMAGE_ID] for row in crops}


def test_a_second_run_asks_for_nothing_but_transient_failures_with_attempts_left(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    settings = miniature_settings(world, server, folder)
    run(spark, "fetch_crops", settings)
    kept = kept_boxes(settings)
    busy = {image_id for image_id, fault in world.faults().items() if fault == "busy"}
    busy &= {row[t.IMAGE_ID] for row in kept.values()}

    server.clear_requests()
    run(spark, "fetch_crops", miniature_settings(world, server, folder, fetch={"max_attempts": 1}))
    assert asked_photos(world, server) == {}
    run(spark, "fetch_crops", miniature_settings(world, server, folder, fetch={"retry": "none"}))
    assert asked_photos(world, server) == {}

    run(spark, "fetch_crops", settings)
    assert asked_photos(world, server) == Counter(dict.fromkeys(busy, 1))
    crops = rows_of(settings, "crops")
    assert Counter(row[t.BOX_ID] for row in crops) == Counter(dict.fromkeys(kept, 1))
    healed = [row for row in crops if row[t.IMAGE_ID] in busy]
    assert {(row[t.STATUS], row[t.ATTEMPT]) for row in healed} == {("ok", 2)}

    server.clear_requests()
    version = Lake(spark, settings.lake.root).version(t.CROPS)
    run(spark, "fetch_crops", settings)
    assert server.requests == []
    assert Lake(spark, settings.lake.root).version(t.CROPS) == version

    lost = next(row for row in crops if row[t.STATUS] == "ok")
    DeltaTable.forPath(spark, f"{settings.lake.root}/crops").delete(f"box_id = '{lost[t.BOX_ID]}'")
    run(spark, "fetch_crops", settings)
    assert asked_photos(world, server) == {lost[t.IMAGE_ID]: 1}
    again = {row[t.BOX_ID]: row for row in rows_of(settings, "crops")}
    assert again[lost[t.BOX_ID]][t.JPEG] == lost[t.JPEG]


@pytest.mark.full
def test_a_run_that_brings_no_crop_has_nothing_made_anew_of_them(
    spark: SparkSession, world: World, folder: Path
) -> None:
    written = []
    for _ in range(2):
        with serve_world(world) as server:  # another server: what was busy is busy again
            settings = miniature_settings(world, server, folder)
            written.append(run(spark, "fetch_crops", settings).written)
    tries = [row[t.ATTEMPT] for row in rows_of(settings, "crops") if row[t.STATUS] == "busy"]
    assert set(tries) == {2}
    assert written[0] == written[1]
    assert Lake(spark, settings.lake.root).version(t.CROPS) > written[0][t.CROPS.name]


def test_a_second_dataset_fetches_only_what_the_first_has_not(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    first = miniature_settings(
        world, server, folder, dataset={"name": "first", "classes": ["Boat", "Fish", "House"]}
    )
    second = miniature_settings(
        world, server, folder, dataset={"name": "second", "classes": ["House", "Tree"]}
    )
    for settings in (first, second):
        run(spark, "select_boxes", settings)
    run(spark, "fetch_crops", first)
    before = {row[t.BOX_ID]: row for row in rows_of(first, "crops")}
    server.clear_requests()
    run(spark, "fetch_crops", second)
    missing = {
        row[t.IMAGE_ID] for box_id, row in kept_boxes(second).items() if box_id not in before
    }
    busy = {image_id for image_id, fault in world.faults().items() if fault == "busy"}
    assert set(asked_photos(world, server)) - busy == missing - busy
    after = {row[t.BOX_ID]: row for row in rows_of(first, "crops")}
    assert set(after) == set(kept_boxes(first)) | set(kept_boxes(second))
    assert {
        box_id: row for box_id, row in after.items() if row[t.IMAGE_ID] not in busy
    }.items() >= {
        box_id: row for box_id, row in before.items() if row[t.IMAGE_ID] not in busy
    }.items()


def test_another_recipe_keeps_crops_of_its_own(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    few = {"name": "few", "classes": ["Boat"]}
    small = miniature_settings(
        world, server, folder, dataset=few, fetch={"recipe": {"max_side_px": 32}}
    )
    run(spark, "select_boxes", small)
    run(spark, "fetch_crops", miniature_settings(world, server, folder, dataset=few))
    run(spark, "fetch_crops", small)
    crops = rows_of(small, "crops")
    assert set(Counter(row[t.BOX_ID] for row in crops).values()) == {2}
    assert len({row[t.RECIPE_ID] for row in crops}) == 2
    sides = {max(row[t.WIDTH_PX], row[t.HEIGHT_PX]) for row in crops if row[t.JPEG]}
    assert {32, 96} <= sides


def test_a_run_that_breaks_off_is_incomplete_and_the_next_fetches_only_the_rest(
    spark: SparkSession,
    world: World,
    server: MiniatureServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = miniature_settings(world, server, folder, fetch={"photos_per_task": 20})
    append, appended = Lake.append, []

    def failing_append(lake: Lake, df: Any, table: t.Table) -> None:  # noqa: ANN401
        if table is t.CROPS:
            appended.append(1)
            if len(appended) == 3:
                raise OSError("no space left on device")
        append(lake, df, table)

    monkeypatch.setattr(Lake, "append", failing_append)
    with pytest.raises(IncompleteError, match="no space left on device"):
        run(spark, "fetch_crops", settings)
    monkeypatch.undo()
    landed = {row[t.BOX_ID]: row for row in rows_of(settings, "crops")}
    kept = kept_boxes(settings)
    assert 0 < len(landed) < len(kept)
    assert rows_of(settings, "runs")[-1][t.OUTCOME] in ("incomplete", "done")
    assert "incomplete" in {row[t.OUTCOME] for row in rows_of(settings, "runs")}

    server.clear_requests()
    run(spark, "fetch_crops", settings)
    rest = {row[t.IMAGE_ID] for box_id, row in kept.items() if box_id not in landed}
    busy = {row[t.IMAGE_ID] for row in landed.values() if row[t.STATUS] == "busy"}
    assert set(asked_photos(world, server)) == rest | busy
    assert Counter(row[t.BOX_ID] for row in rows_of(settings, "crops")) == Counter(
        dict.fromkeys(kept, 1)
    )


def test_a_box_whose_photo_the_catalog_does_not_list_has_its_reason(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    settings = miniature_settings(world, server, folder, dataset={"name": "f", "classes": ["Fish"]})
    run(spark, "select_boxes", settings)
    image_id = next(iter(kept_boxes(settings).values()))[t.IMAGE_ID]
    DeltaTable.forPath(spark, f"{settings.lake.root}/photos").delete(f"image_id = '{image_id}'")
    run(spark, "fetch_crops", settings)
    rows = [row for row in rows_of(settings, "crops") if row[t.IMAGE_ID] == image_id]
    assert {row[t.STATUS] for row in rows} == {"photo_not_listed"}
    assert image_id not in asked_photos(world, server)


def shuffled_bytes(spark: SparkSession) -> dict[int, int]:
    """Bytes that each stage so far has written for a shuffle, by Spark's own count."""
    context: Any = spark.sparkContext
    doubles = context._gateway.new_array(context._jvm.double, 0)
    stages = context._jsc.sc().statusStore().stageList(None, False, False, doubles, None)
    found = [stages.apply(number) for number in range(stages.size())]
    return {stage.stageId(): stage.shuffleWriteBytes() for stage in found}


@pytest.mark.full
def test_no_shuffle_carries_the_bytes_of_crops(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    settings = miniature_settings(world, server, folder, fetch={"recipe": {"jpeg_quality": 100}})
    before = shuffled_bytes(spark)
    run(spark, "fetch_crops", settings)
    run(spark, "fetch_crops", settings)  # heals what was busy, and drops superseded failures
    crops = rows_of(settings, "crops")
    assert {row[t.ATTEMPT] for row in crops} >= {1, 2}
    num_bytes = sum(len(row[t.JPEG] or b"") for row in crops)
    written = {
        stage: count for stage, count in shuffled_bytes(spark).items() if stage not in before
    }
    assert sum(written.values()) < num_bytes / 4
