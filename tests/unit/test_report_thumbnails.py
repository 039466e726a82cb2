"""Chosen crops out of the lake's files, and of the others not a byte."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from croplake import tables as t
from croplake.report.thumbnails import (
    FILES_SCHEMA,
    THUMBNAILS_SCHEMA,
    expected_bytes,
    make_small,
    read_thumbnails,
)


def jpeg(width: int, height: int, colour: tuple[int, ...], mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def crop_row(number: int) -> dict[str, Any]:
    return {
        t.BOX_ID: f"b{number}",
        t.IMAGE_ID: f"{number:016x}",
        t.JPEG: jpeg(200, 100, (number, 2 * number, 100)),
        t.WIDTH_PX: 200,
        t.HEIGHT_PX: 100,
        t.AUTHOR: f"author {number}",
    }


def write_crops(path: Path, numbers: range, per_group: int) -> None:
    rows = [crop_row(number) for number in numbers]
    names = [name for name in t.CROPS.columns if name not in t.CROPS.partition_by]
    schema = pa.schema([t.CROPS.schema.field(name) for name in names])
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema),
        path,
        row_group_size=per_group,
        compression="none",
        use_dictionary=False,
    )


def read(paths: list[Path], *box_ids: str, side_px: int = 64) -> dict[str, dict[str, Any]]:
    files = pa.record_batch([pa.array([str(path) for path in paths])], schema=FILES_SCHEMA)
    found = list(read_thumbnails([files], box_ids=frozenset(box_ids), side_px=side_px))
    assert all(batch.schema.equals(THUMBNAILS_SCHEMA) for batch in found)
    rows = [row for batch in found for row in batch.to_pylist()]
    assert len({row[t.BOX_ID] for row in rows}) == len(rows)
    return {row[t.BOX_ID]: row for row in rows}


def test_chosen_crops_come_small_with_their_photo_and_author(tmp_path: Path) -> None:
    files = [tmp_path / "a=1 ä%20.parquet", tmp_path / "b.parquet"]
    write_crops(files[0], range(10), per_group=3)
    write_crops(files[1], range(10, 20), per_group=4)
    found = read(files, "b1", "b8", "b19", "not there")
    assert found.keys() == {"b1", "b8", "b19"}
    for number in (1, 8, 19):
        row = found[f"b{number}"]
        assert (row[t.WIDTH_PX], row[t.HEIGHT_PX]) == (64, 32)
        assert (row[t.IMAGE_ID], row[t.AUTHOR]) == (f"{number:016x}", f"author {number}")
        with Image.open(io.BytesIO(row[t.JPEG])) as image:
            assert image.size == (64, 32)
            assert np.abs(np.asarray(image) - np.array([number, 2 * number, 100.0])).max() <= 4


def test_pictures_of_row_groups_without_a_chosen_crop_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "crops.parquet"
    write_crops(file, range(6), per_group=2)
    footer = pq.ParquetFile(file).metadata
    place = footer.schema.names.index(t.JPEG)
    content = bytearray(file.read_bytes())
    for group in (0, 2):
        pictures = footer.row_group(group).column(place)
        start = pictures.data_page_offset
        content[start : start + pictures.total_compressed_size] = b"\xff" * (
            pictures.total_compressed_size
        )
    file.write_bytes(content)
    assert read([file], "b2", "b3").keys() == {"b2", "b3"}
    with pytest.raises((OSError, pa.ArrowException)):
        read([file], "b0")


def test_a_small_crop_keeps_its_size_and_any_colours_become_rgb() -> None:
    for mode, colour in (("L", (90,)), ("CMYK", (10, 20, 30, 40)), ("RGB", (1, 2, 3))):
        found = make_small(jpeg(20, 10, colour, mode), 64)
        with Image.open(io.BytesIO(found[t.JPEG])) as image:
            assert (image.size, image.mode) == ((20, 10), "RGB")
        assert (found[t.WIDTH_PX], found[t.HEIGHT_PX]) == (20, 10)


@pytest.mark.parametrize(("width", "height"), [(10, 8), (64, 48), (400, 300), (60, 600)])
def test_what_a_crop_will_take_is_told_by_its_sides(width: int, height: int) -> None:
    """More than where it is all of one colour, less than where no two pixels are alike."""
    said = expected_bytes(width, height, 128)
    plain = make_small(jpeg(width, height, (1, 2, 3)), 128)
    noise = np.random.default_rng(1).integers(256, size=(height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=95)
    full = make_small(buffer.getvalue(), 128)
    assert len(plain[t.JPEG]) < said + 50 < len(full[t.JPEG])
    assert said - 300 == pytest.approx(plain[t.WIDTH_PX] * plain[t.HEIGHT_PX] / 10, rel=0.1)


@pytest.mark.parametrize("content", [None, b"", b"no picture", jpeg(50, 50, (1, 2, 3))[:200]])
def test_bytes_that_are_no_picture_are_a_row_without_one(content: bytes | None) -> None:
    assert make_small(content, 64) == {t.JPEG: None, t.WIDTH_PX: None, t.HEIGHT_PX: None}
