"""Photos of every kind through the executor code, with a network that knows three colours."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from croplake import tables as t
from croplake.fetching.outcome import PhotoError, Status
from croplake.fetching.upright import decode_upright
from croplake.inference.photos import PHOTOS_SCHEMA, ClassifyRun, Opened, classify_photos
from croplake.inference.reading import photo_loader

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)


class Colours:
    """Each colour's share of the light, which on black is no number."""

    categories = ("red", "green", "blue")

    def fit_photo(self, photo_HWC: Any) -> Any:  # noqa: ANN401
        return np.asarray(Image.fromarray(photo_HWC).resize((4, 4)))

    def predict(self, squares_NHWC: Any) -> Any:  # noqa: ANN401
        light = squares_NHWC.mean(axis=(1, 2))
        with np.errstate(invalid="ignore"):
            return (light / light.sum(axis=1, keepdims=True)).astype(np.float32)


def photo(colour: Any, kind: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:  # noqa: ANN401
    target = io.BytesIO()
    Image.new("RGB", (40, 20), colour).convert(mode).save(target, kind, **options)
    return target.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return photo(RED, exif=exif)


FILES: dict[str, Callable[[], bytes]] = {
    "red.jpg": lambda: photo(RED),
    "green.png": lambda: photo(GREEN, "PNG"),
    "cmyk.jpg": lambda: photo(BLUE, mode="CMYK"),
    "grey.jpg": lambda: photo(RED, mode="L"),
    "phone.jpg": turned,
    "letter.txt": lambda: b"Dear reader, this is no photo.",
    "cut.jpg": lambda: photo(RED)[:-40],
    "empty.jpg": lambda: b"",
    "huge.png": lambda: png_of(2000, 2000),
    "black.png": lambda: photo((0, 0, 0), "PNG"),
}


def png_of(width: int, height: int) -> bytes:
    target = io.BytesIO()
    Image.new("1", (width, height)).save(target, "PNG")
    return target.getvalue()


def load_by_name(path: str) -> bytes:
    if path not in FILES:
        raise PhotoError(Status.NOT_FOUND, "No such file")
    return FILES[path]()


def batch_of(paths: list[str]) -> pa.RecordBatch:
    rows = [{t.PATH: path, "content": None, "is_shared_name": False} for path in paths]
    return pa.RecordBatch.from_pylist(rows, schema=PHOTOS_SCHEMA)


def classify(paths: list[str], **changes: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    least = changes.pop("min_probability", 0.0)
    top, batch_size = changes.pop("top", 2), changes.pop("batch_size", 3)
    run = ClassifyRun("run 1", "model 1", top, batch_size, 2, least)
    batches = changes.pop("batches", [batch_of(part) for part in (paths[:4], paths[4:])])
    settings: dict[str, Any] = {
        "load_bytes": load_by_name,
        "decode": functools.partial(decode_upright, max_pixels=1_000_000, least_side_px=8),
        "max_bytes": 10_000,
        "clock": lambda: NOW,
    }
    classifier = changes.pop("classifier", Colours())
    out = list(classify_photos(batches, run, classifier, **(settings | changes)))
    assert all(batch.schema == t.PREDICTIONS.schema for batch in out)
    return [row for batch in out for row in batch.to_pylist()]


def test_every_path_has_its_row_in_its_place_whatever_the_file_is() -> None:
    paths = [*FILES, "gone.jpg"]
    rows = classify(paths)
    assert [row[t.PATH] for row in rows] == paths
    assert {row[t.PATH]: row[t.STATUS] for row in rows} == {
        "red.jpg": "ok",
        "green.png": "ok",
        "cmyk.jpg": "ok",
        "grey.jpg": "ok",
        "phone.jpg": "ok",
        "letter.txt": "not_a_photo",
        "cut.jpg": "broken_photo",
        "empty.jpg": "empty",
        "huge.png": "too_many_pixels",
        "black.png": "not_finite",
        "gone.jpg": "not_found",
    }
    for row in rows:
        is_ok = row[t.STATUS] == "ok"
        assert (row[t.CATEGORY] is not None) == is_ok
        assert (row[t.DETAIL] is None) == is_ok
        assert (row[t.RUN_ID], row[t.MODEL_ID]) == ("run 1", "model 1")
        assert row[t.PREDICTED_AT] == NOW


def test_a_photo_gets_its_best_categories_best_first() -> None:
    (row,) = classify(["green.png"])
    assert row[t.CATEGORY] == "green"
    assert row[t.PROBABILITY] == pytest.approx(230 / 270)
    assert [category for category, _ in row[t.PROBABILITIES]] == ["green", "red"]
    assert classify(["cmyk.jpg"])[0][t.CATEGORY] == "blue"
    assert len(classify(["green.png"], top=9)[0][t.PROBABILITIES]) == 3


def test_a_photo_of_a_phone_is_seen_upright() -> None:
    (row,) = classify(["phone.jpg"])
    assert (row[t.WIDTH_PX], row[t.HEIGHT_PX]) == (20, 40)
    (row,) = classify(["red.jpg"])
    assert (row[t.WIDTH_PX], row[t.HEIGHT_PX]) == (40, 20)


@given(st.lists(st.sampled_from([*FILES, "gone.jpg"]), max_size=12), st.integers(1, 13))
@settings(max_examples=25, deadline=None)
def test_rows_do_not_depend_on_the_batches(paths: list[str], batch_size: int) -> None:
    rows = classify(paths, batch_size=batch_size)
    assert rows == [classify([path])[0] for path in paths]


def test_a_failed_download_and_an_unforeseen_fault_cost_one_row_each() -> None:
    def load(path: str) -> bytes:
        if path == "http://h/busy":
            raise PhotoError(Status.BUSY, "HTTP 429")
        if path == "http://h/bug":
            raise ZeroDivisionError("oops")
        return photo(RED)

    rows = classify(["http://h/busy", "http://h/fine", "http://h/bug"], load_bytes=load)
    assert [(row[t.STATUS], row[t.DETAIL]) for row in rows] == [
        ("busy", "HTTP 429"),
        ("ok", None),
        ("unexpected", "ZeroDivisionError: oops"),
    ]


def test_a_network_that_fails_costs_the_batch_its_answers_and_no_row() -> None:
    class Failing(Colours):
        def predict(self, squares_NHWC: Any) -> Any:  # noqa: ANN401
            if len(squares_NHWC) > 1:
                raise RuntimeError("out of memory")
            return super().predict(squares_NHWC)

    rows = classify(
        ["red.jpg", "letter.txt", "red.jpg", "green.png"], classifier=Failing(), batch_size=3
    )
    assert [row[t.STATUS] for row in rows] == [
        "prediction_failed",
        "not_a_photo",
        "prediction_failed",
        "ok",
    ]
    assert rows[0][t.DETAIL] == "RuntimeError: out of memory"
    assert rows[0][t.WIDTH_PX] == 40


def test_photos_are_loaded_side_by_side_and_no_more_at_once_than_allowed() -> None:
    both_here = threading.Barrier(2, timeout=20)
    seen: list[int] = []
    inside = 0
    lock = threading.Lock()

    def load(path: str) -> bytes:
        nonlocal inside
        with lock:
            inside += 1
            seen.append(inside)
        both_here.wait()  # breaks, and so fails the row, where only one thread loads
        with lock:
            inside -= 1
        return photo(RED)

    rows = classify([f"http://h/{index}" for index in range(6)], load_bytes=load, batch_size=6)
    assert {row[t.STATUS] for row in rows} == {"ok"}
    assert max(seen) == 2


def test_a_consumer_that_stops_early_does_not_make_the_rest_load(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FILES["green.png"]())
    loaded: list[str] = []
    load_file = photo_loader(getter=_NoNetwork(), max_bytes=10_000)

    def load(path: str) -> bytes:
        loaded.append(path)
        return load_file(path)

    def batches() -> Iterator[pa.RecordBatch]:
        while True:
            yield batch_of([str(tmp_path / "a.png")] * 2)

    run = ClassifyRun("r", "m", top=1, batch_size=2)
    decode = functools.partial(decode_upright, max_pixels=1000, least_side_px=8)
    given: dict[str, Any] = {"load_bytes": load, "decode": decode, "max_bytes": 10_000}
    out: Any = classify_photos(batches(), run, Colours(), **given)
    assert next(iter(out)).num_rows == 2
    out.close()
    # The batch, and what was read ahead: the next, and what the thread had in hand.
    assert 2 <= len(loaded) <= 5


class _NoNetwork:
    def get(self, url: str) -> bytes:
        raise AssertionError(url)


def test_a_best_guess_below_the_threshold_is_unsure_and_keeps_its_category() -> None:
    rows = classify(["green.png", "grey.jpg", "letter.txt"], min_probability=0.5)
    assert [row[t.STATUS] for row in rows] == ["ok", "unsure", "not_a_photo"]
    assert rows[1][t.CATEGORY] == "red"
    assert rows[1][t.PROBABILITY] == pytest.approx(1 / 3)
    assert [row[t.STATUS] for row in classify(["grey.jpg"], min_probability=0.0)] == ["ok"]


def test_photos_whose_bytes_are_given_are_not_read() -> None:
    def load(path: str) -> bytes:
        raise AssertionError(path)

    rows = [
        ("named", photo(BLUE), True),
        ("empty", b"", True),
        ("long", photo(RED) + b" " * 9_999, True),
    ]
    batch = pa.RecordBatch.from_pylist(
        [dict(zip(PHOTOS_SCHEMA.names, row, strict=True)) for row in rows], schema=PHOTOS_SCHEMA
    )
    out = classify([], batches=[batch], load_bytes=load)
    assert [(row[t.PATH], row[t.STATUS]) for row in out] == [
        ("named", "ok"),
        ("empty", "empty"),
        ("long", "too_many_bytes"),
    ]


def test_sinks_are_told_of_every_photo_with_its_row_and_bytes() -> None:
    class Told:
        def __init__(self) -> None:
            self.photos: list[tuple[Opened, dict[str, Any]]] = []

        def take(self, photo: Opened, row: dict[str, Any]) -> None:
            self.photos.append((photo, row))

    told = Told()
    rows = classify(
        ["red.jpg", "letter.txt"], sinks=[told], shrink=lambda seen: seen[:2, :2], keeps_data=True
    )
    assert [row[t.STATUS] for _, row in told.photos] == [row[t.STATUS] for row in rows]
    first, second = (photo for photo, _ in told.photos)
    assert first.data == FILES["red.jpg"]()
    assert first.small_HWC is not None
    assert first.small_HWC.shape == (2, 2, 3)
    assert (second.data, second.small_HWC) == (None, None)


def test_the_next_batch_is_read_while_the_network_has_one() -> None:
    next_is_read = threading.Event()

    def load(path: str) -> bytes:
        if path == "http://h/2":
            next_is_read.set()
        return photo(RED)

    class Waiting(Colours):
        def predict(self, squares_NHWC: Any) -> Any:  # noqa: ANN401
            assert next_is_read.wait(timeout=20)
            return super().predict(squares_NHWC)

    paths = [f"http://h/{number}" for number in range(4)]
    rows = classify(paths, load_bytes=load, classifier=Waiting(), batch_size=2)
    assert {row[t.STATUS] for row in rows} == {"ok"}
