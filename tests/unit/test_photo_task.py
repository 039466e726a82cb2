from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from croplake import tables as t
from croplake.fetching import cutting
from croplake.fetching.batches import ReadyQueue, fetch_batches
from croplake.fetching.crop import Recipe
from croplake.fetching.http import Answer
from croplake.fetching.outcome import PhotoError, Status
from croplake.fetching.photo import decode_photo
from croplake.fetching.photo_task import (
    AT_HAND_FIELD,
    BOXES_FIELD,
    LISTED_FIELD,
    TASK_SCHEMA,
    AtHand,
    FetchRules,
)
from croplake.fetching.request import OnDone, Request, StoppedError

Batches = list[pa.RecordBatch]
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
    """Sources over a dict; an error in it is the answer, anything missing is gone.

    A list gives its entries one after the other, the last for ever.
    """

    def __init__(self, shelf: dict[str, Any]) -> None:
        self.shelf = shelf
        self.asked: list[str] = []
        self.requests: list[Request] = []

    def submit(self, request: Request) -> None:
        self.requests.append(request)
        self._give(request.url, 200, request.on_done)

    def read(self, place: AtHand, on_done: OnDone) -> None:
        self._give(place.uri, None, on_done)

    def _give(self, name: str, http_status: int | None, on_done: OnDone) -> None:
        self.asked.append(name)
        found = self.shelf.get(name, PhotoError(Status.NOT_FOUND, f"{name}: HTTP 404", 404))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        on_done(Answer(found, http_status, name) if isinstance(found, bytes) else found)


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


def fetch_all(shelf: Shelf, rows: list[dict[str, Any]], rules: FetchRules = RULES) -> Batches:
    batches = pa.Table.from_pylist(rows, schema=TASK_SCHEMA).to_batches(max_chunksize=70)
    statuses: Counter[str] = Counter()
    out = list(
        fetch_batches(
            batches,
            rules,
            shelf,
            ReadyQueue(),
            window=8,
            on_photo=lambda found, _: statuses.update(found),
            clock=lambda: NOW,
        )
    )
    assert all(batch.schema == t.CROPS.schema for batch in out)
    assert statuses == Counter(row[t.STATUS] for batch in out for row in batch.to_pylist())
    return out


def fetch(shelf: Shelf, rules: FetchRules = RULES, **changes: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    out = fetch_all(shelf, [task(**changes)], rules)
    return [row for batch in out for row in batch.to_pylist()]


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
    shelf = Shelf({MIRROR: busy, ORIGINAL: b"", THUMBNAIL: b"GIF89a"})
    rows = fetch(shelf)
    assert {(row[t.STATUS], row[t.SOURCE], row[t.HTTP_STATUS]) for row in rows} == {
        ("busy", "mirror", 503)
    }
    detail = rows[0][t.DETAIL]
    assert "mirror busy: HTTP 503" in detail
    assert "original empty: 0 bytes" in detail
    assert "thumbnail broken_photo" in detail


def test_only_sources_that_may_recover_are_asked_once_more_in_the_same_run() -> None:
    error = PhotoError(Status.SERVER_ERROR, "HTTP 500", 500)
    shelf = Shelf({MIRROR: [error, jpeg()]})
    rows = fetch(shelf)
    assert shelf.asked == [MIRROR, ORIGINAL, THUMBNAIL, MIRROR]
    assert {(row[t.STATUS], row[t.SOURCE]) for row in rows} == {("ok", "mirror")}
    assert [request.wait_s for request in shelf.requests] == [0, 0, 0, 0.5]


def test_a_host_that_is_left_alone_does_not_hide_why() -> None:
    errors = [
        PhotoError(Status.SERVER_ERROR, "HTTP 500", 500),
        PhotoError(Status.HOST_PAUSED, "left alone"),
    ]
    rows = fetch(Shelf({MIRROR: errors}), original_url=None, thumbnail_url=None)
    assert {(row[t.STATUS], row[t.HTTP_STATUS]) for row in rows} == {("server_error", 500)}


def test_a_photo_at_hand_is_read_and_not_asked_for() -> None:
    rules = replace(RULES, sources=("at_hand", "mirror"))
    place = {"uri": "file:///photos.tar", "offset_bytes": 512, "num_bytes": 10}
    shelf = Shelf({"file:///photos.tar": jpeg()})
    rows = fetch(shelf, rules, **{AT_HAND_FIELD: place})
    assert shelf.asked == ["file:///photos.tar"]
    assert {(row[t.STATUS], row[t.SOURCE], row[t.HTTP_STATUS]) for row in rows} == {
        ("ok", "at_hand", None)
    }
    assert fetch(Shelf({MIRROR: jpeg()}), rules)[0][t.SOURCE] == "mirror"


def test_an_original_must_be_the_one_that_the_catalog_knows() -> None:
    rules = replace(RULES, sources=("original",))
    data = jpeg()
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()  # noqa: S324
    known = {t.ORIGINAL_SIZE_BYTES: len(data), t.ORIGINAL_MD5_BASE64: md5}
    shelf = Shelf({ORIGINAL: data})
    assert {row[t.STATUS] for row in fetch(shelf, rules, **known)} == {"ok"}
    assert shelf.requests[0].expected_bytes == len(data)
    other = known | {t.ORIGINAL_MD5_BASE64: "rL0YyGK2Xh2YK3Nmzgx6Zw=="}
    (row,) = fetch(Shelf({ORIGINAL: data}), rules, num_boxes=1, **other)
    assert row[t.STATUS] == "wrong_md5"
    assert f"MD5 {md5}, the catalog says rL0YyGK2Xh2YK3Nmzgx6Zw==" in row[t.DETAIL]
    lax = replace(rules, check_originals=False)
    shelf = Shelf({ORIGINAL: data})
    assert {row[t.STATUS] for row in fetch(shelf, lax, **other)} == {"ok"}
    assert shelf.requests[0].expected_bytes is None


def test_a_photo_that_was_not_begun_before_a_stop_leaves_no_row() -> None:
    assert fetch(Shelf({MIRROR: StoppedError()})) == []


def test_a_surprise_of_the_decoder_costs_one_source_not_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decode = decode_photo

    def surprise(data: bytes, **limits: Any) -> Any:  # noqa: ANN401
        if data == b"odd":
            raise ValueError("odd")
        return decode(data, **limits)

    monkeypatch.setattr(cutting, "decode_photo", surprise)
    rows = fetch(Shelf({MIRROR: b"odd", ORIGINAL: jpeg()}))
    assert {(row[t.STATUS], row[t.SOURCE]) for row in rows} == {("ok", "original")}
    rows = fetch(Shelf({MIRROR: b"odd"}), original_url=None, thumbnail_url=None)
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
    out = fetch_all(shelf, rows)
    got = [row for batch in out for row in batch.to_pylist()]
    assert sorted(row[t.BOX_ID] for row in got) == sorted(
        box[t.BOX_ID] for row in rows for box in row[BOXES_FIELD]
    )
    statuses = Counter(row[t.STATUS] for row in got)
    assert statuses["ok"] == 300
    assert statuses["not_found"] == 300
