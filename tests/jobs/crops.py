"""What tests of crops look at: the boxes that were kept, what was asked for, the pixels."""

from __future__ import annotations

import io
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.conf import Settings
from croplake.miniature import MiniatureServer, World
from tests.jobs.world import rows_of, run

Row = dict[str, Any]


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


def select_sound_photos(
    spark: SparkSession, world: World, settings: Settings
) -> tuple[list[str], dict[str, Path]]:
    """Selects a dataset's boxes.

    Returns:
        The ids of its photos that every host serves well, sorted, and the mirror's file of each
        photo of the world.
    """
    run(spark, "select_boxes", settings)
    chosen = {row[t.IMAGE_ID] for row in kept_boxes(settings).values()}
    files = {path.stem: path for path in (world.root / "mirror").rglob("*.jpg")}
    return sorted(chosen - set(world.faults())), files
