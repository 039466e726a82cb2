from __future__ import annotations

import io
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from delta.tables import DeltaTable
from numpy.typing import NDArray
from PIL import Image
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import IncompleteError
from croplake.lake import Lake
from croplake.miniature import MiniatureServer, World, serve_world
from tests.jobs.world import miniature_settings, rows_of, run

Row = dict[str, Any]


@pytest.fixture(scope="module")
def catalog(spark: SparkSession, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the catalog and the selected boxes; each test copies what it needs of it."""
    folder = tmp_path_factory.mktemp("catalog")
    with serve_world(world) as server:
        settings = miniature_settings(world, server, folder)
        run(spark, "ingest_catalog", settings)
        run(spark, "select_boxes", settings)
    return folder


@pytest.fixture
def folder(catalog: Path, tmp_path: Path) -> Path:
    """A folder of one test's own with a copy of the catalog."""
    shutil.copytree(catalog, tmp_path, dirs_exist_ok=True)
    return tmp_path


def kept_boxes(settings: Settings) -> dict[str, Row]:
    rows = rows_of(settings, "selected_boxes")
    name = settings.dataset.name
    return {
        row[t.BOX_ID]: row
        for row in rows
        if row[t.DATASET] == name and row[t.REJECT_REASON] is None
    }


def asked_photos(world: World, server: MiniatureServer) -> Counter[str]:
    """How often each photo was asked for, at any host."""
    by_path = {}
    for photo in world.photos():
        by_path[f"/{photo['subset']}/{photo['image_id']}.jpg"] = photo["image_id"]
        by_path[photo["original_path"]] = by_path[photo["thumbnail_path"]] = photo["image_id"]
    return Counter(by_path[r.path] for r in server.requests if r.path in by_path)


def full_decode(world: World, photo: Row, source: str) -> NDArray[np.uint8]:
    """What a source serves, decoded whole by Pillow alone."""
    place = {
        "mirror": world.root / "mirror" / photo["subset"] / f"{photo['image_id']}.jpg",
        "original": world.root / "originals" / photo["image_id"],
        "thumbnail": world.root / "thumbnails" / f"{photo['image_id']}.jpg",
    }[source]
    with Image.open(place) as image:
        return np.asarray(image.convert("RGB"))


def cut_by_numpy(pixels_HWC: NDArray[np.uint8], row: Row, padding_frac: float) -> NDArray[np.uint8]:
    """The padded box, corners rounded outwards, straight from the fractions."""
    height, width = pixels_HWC.shape[:2]
    x0, x1 = row[t.X_MIN] * width, row[t.X_MAX] * width
    y0, y1 = row[t.Y_MIN] * height, row[t.Y_MAX] * height
    margin = padding_frac * max(x1 - x0, y1 - y0)
    left, top = math.floor(max(0, x0 - margin) + 1e-6), math.floor(max(0, y0 - margin) + 1e-6)
    right, bottom = math.ceil(x1 + margin - 1e-6), math.ceil(y1 + margin - 1e-6)
    return pixels_HWC[top : min(bottom, height), left : min(right, width)]


def mean_difference(crop: Row, photo: Row, cut_HWC: NDArray[np.uint8]) -> float:
    """Mean absolute difference to the crop, at its size and turned as it is."""
    upright = np.rot90(cut_HWC, (photo["rotation_deg"] or 0) // 90)
    size = (crop[t.WIDTH_PX], crop[t.HEIGHT_PX])
    expected = Image.fromarray(np.ascontiguousarray(upright)).resize(size, Image.Resampling.LANCZOS)
    with Image.open(io.BytesIO(crop[t.JPEG])) as image:
        assert image.size == size
        found = np.asarray(image, dtype=np.int64)
    return float(np.abs(found - np.asarray(expected, dtype=np.int64)).mean())


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


def check_pixels(world: World, crops: list[Row], settings: Settings) -> None:
    photos = {photo["image_id"]: photo for photo in world.photos()}
    differences, seen = [], set()
    for crop in crops:
        if crop[t.JPEG] is None:
            continue
        photo = photos[crop[t.IMAGE_ID]]
        pixels_HWC = full_decode(world, photo, crop[t.SOURCE])
        cut_HWC = cut_by_numpy(pixels_HWC, crop, settings.fetch.recipe.padding_frac)
        difference = mean_difference(crop, photo, cut_HWC)
        differences.append(difference)
        if min(crop[t.WIDTH_PX], crop[t.HEIGHT_PX]) >= 16:
            assert difference <= 8, crop[t.BOX_ID]
        seen |= {photo["kind"], photo["rotation_deg"]}
    assert np.mean(differences) <= 3
    assert {"colour", "grey", "cmyk", "progressive", "png", 0, 90, 270} <= seen


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
