from __future__ import annotations

import hashlib
import io
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from croplake import tables as t
from croplake.fetching.batches import fetch_batches
from croplake.fetching.crop import Recipe
from croplake.fetching.outcome import PhotoError, Status
from croplake.fetching.photo_task import (
    BOXES_FIELD,
    LISTED_FIELD,
    TASK_SCHEMA,
    FetchRules,
    fetch_photo,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RULES = FetchRules(
    recipe=Recipe(0.0, 64, 95, "lanczos"),
    sources=("mirror", "original", "thumbnail"),
    mirror_url="http://mirror/{subset}/{image_id}.jpg",
    max_photo_pixels=1_000_000,
    run_id="run",
)
MIRROR, ORIGINAL, THUMBNAIL = "http://mirror/train/00aa.jpg", "http://flickr/o", "http://flickr/z"


class Shelf:
    """A getter over a dict; an exception in it is raised, anything missing is gone."""

    def __init__(self, shelf: dict[str, bytes | Exception]) -> None:
        self.shelf = shelf
        self.asked: list[str] = []

    def get(self, url: str) -> bytes:
        self.asked.append(url)
        found = self.shelf.get(url, PhotoError(Status.NOT_FOUND, f"{url}: HTTP 404", 404))
        if isinstance(found, Exception):
            raise found
        return found


def jpeg(width: int = 40, height: int = 20, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    pixels = np.linspace(0, 255, width * height).reshape(height, width).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def task(num_boxes: int = 2, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    row: dict[str, Any] = dict.fromkeys(TASK_SCHEMA.names)
    row |= {t.IMAGE_ID: "00aa", t.SUBSET: "train", LISTED_FIELD: True, t.ROTATION_DEG: 0}
    row |= {t.ORIGINAL_URL: ORIGINAL, t.THUMBNAIL_URL: THUMBNAIL, t.LICENSE: "by", t.AUTHOR: "Ann"}
    row[BOXES_FIELD] = [
        dict(zip(t.CORNERS, (0.0, 0.5, 0.0, 1.0), strict=True))
        | {t.BOX_ID: f"box{number}", t.LABEL_MID: "/m/1", t.ATTEMPT: 1}
        for number in range(num_boxes)
    ]
    return row | changes


def fetch(shelf: Shelf, **changes: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    return fetch_photo(task(**changes), RULES, shelf, lambda: NOW)


def test_a_photo_is_downloaded_once_for_all_its_boxes() -> None:
    data = jpeg()
    shelf = Shelf({MIRROR: data})
    rows = fetch(shelf, num_boxes=5)
    assert shelf.asked == [MIRROR]
    assert [row[t.STATUS] for row in rows] == ["ok"] * 5
    assert {row[t.PHOTO_SHA256] for row in rows} == {hashlib.sha256(data).hexdigest()}
    first = rows[0]
    assert (first[t.PHOTO_WIDTH_PX], first[t.PHOTO_HEIGHT_PX]) == (40, 20)
    assert (first[t.SOURCE_BOX_WIDTH_PX], first[t.SOURCE_BOX_HEIGHT_PX]) == (20, 20)
    assert (first[t.SOURCE], first[t.LICENSE], first[t.AUTHOR]) == ("mirror", "by", "Ann")
    assert first[t.FETCHED_AT] == NOW


def test_sources_are_tried_in_order_until_one_gives_a_photo() -> None:
    shelf = Shelf({ORIGINAL: b"<html>gone</html>", THUMBNAIL: jpeg()})
    rows = fetch(shelf)
    assert shelf.asked == [MIRROR, ORIGINAL, THUMBNAIL]
    assert {(row[t.STATUS], row[t.SOURCE]) for row in rows} == {("ok", "thumbnail")}


@pytest.mark.parametrize("rotation", [90, None])
def test_the_thumbnail_is_no_source_unless_the_rotation_is_known_to_be_0(
    rotation: int | None,
) -> None:
    shelf = Shelf({THUMBNAIL: jpeg()})
    rows = fetch(shelf, rotation_deg=rotation)
    assert THUMBNAIL not in shelf.asked
    assert {row[t.STATUS] for row in rows} == {"not_found"}


def test_a_failure_that_may_pass_decides_the_status_and_all_are_told() -> None:
    busy = PhotoError(Status.BUSY, "HTTP 503", 503)
    rows = fetch(Shelf({MIRROR: busy, ORIGINAL: b"", THUMBNAIL: b"GIF89a"}))
    assert {(row[t.STATUS], row[t.SOURCE], row[t.HTTP_STATUS]) for row in rows} == {
        ("busy", "mirror", 503)
    }
    detail = rows[0][t.DETAIL]
    assert "mirror busy: HTTP 503" in detail
    assert "original empty: 0 bytes" in detail
    assert "thumbnail broken_photo" in detail


def test_a_surprise_of_a_library_costs_one_source_not_the_task() -> None:
    rows = fetch(Shelf({MIRROR: ValueError("odd"), ORIGINAL: jpeg()}))
    assert {(row[t.STATUS], row[t.SOURCE]) for row in rows} == {("ok", "original")}
    rows = fetch(Shelf({MIRROR: ValueError("odd")}), original_url=None, thumbnail_url=None)
    assert {row[t.STATUS] for row in rows} == {"unexpected"}
    assert "ValueError: odd" in rows[0][t.DETAIL]


def test_a_box_without_area_fails_alone() -> None:
    boxes = task()[BOXES_FIELD]
    boxes[1][t.X_MAX] = boxes[1][t.X_MIN]
    rows = fetch(Shelf({MIRROR: jpeg()}), photo_boxes=boxes)
    assert [row[t.STATUS] for row in rows] == ["ok", "empty_crop"]
    assert [row[t.HAS_CROP] for row in rows] == [True, False]
    assert rows[1][t.JPEG] is None


def test_a_photo_the_catalog_does_not_list_is_not_asked_for() -> None:
    shelf = Shelf({MIRROR: jpeg()})
    rows = fetch(shelf, is_listed=False)
    assert shelf.asked == []
    assert {row[t.STATUS] for row in rows} == {"photo_not_listed"}


def test_a_photo_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    rows = fetch(Shelf({MIRROR: jpeg(1200, 1000)}), original_url=None, thumbnail_url=None)
    assert {row[t.STATUS] for row in rows} == {"too_many_pixels"}
    assert "1200×1000 px, the limit is 1000000 px" in rows[0][t.DETAIL]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_photos_give_rgb_crops(mode: str) -> None:
    rows = fetch(Shelf({MIRROR: jpeg(mode=mode)}))
    assert Image.open(io.BytesIO(rows[0][t.JPEG])).mode == "RGB"


def test_every_box_of_every_photo_comes_back_once_whatever_the_batches() -> None:
    rows = [
        task(num_boxes=1 + number % 3, image_id=f"{number:016x}") | {t.ROTATION_DEG: None}
        for number in range(300)
    ]
    for number, row in enumerate(rows):
        for index, box in enumerate(row[BOXES_FIELD]):
            box[t.BOX_ID] = f"{number}-{index}"
    shelf = Shelf({f"http://mirror/train/{n:016x}.jpg": jpeg() for n in range(0, 300, 2)})
    table = pa.Table.from_pylist(rows, schema=TASK_SCHEMA)
    statuses: Counter[str] = Counter()
    out = list(
        fetch_batches(
            table.to_batches(max_chunksize=70),
            RULES,
            shelf,
            transfers=8,
            on_photo=statuses.update,
            clock=lambda: NOW,
        )
    )
    got = [row for batch in out for row in batch.to_pylist()]
    assert sorted(row[t.BOX_ID] for row in got) == sorted(
        box[t.BOX_ID] for row in rows for box in row[BOXES_FIELD]
    )
    assert all(batch.schema == t.CROPS.schema for batch in out)
    assert statuses == Counter(row[t.STATUS] for row in got)
    assert statuses["ok"] == 300
    assert statuses["not_found"] == 300
