"""EXIF orientations read in the TensorFlow graph, beside Pillow's."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

tf = pytest.importorskip("tensorflow")

from croplake.model_export.orientation import read_orientation, turn_upright  # noqa: E402

ORIENTATION = 0x0112
COLOURS = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
read = tf.function(read_orientation, input_signature=[tf.TensorSpec((), tf.string)])


def picture(orientation: int | None, *, endian: str = "<", format: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a maker of cameras"  # before it in the directory, and longer than its entry
    if orientation is not None:
        exif[ORIENTATION] = orientation
    target = io.BytesIO()
    Image.fromarray(COLOURS).save(target, format, exif=exif, quality=95)
    return target.getvalue()


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_pillow_turns_it(orientation: int, endian: str) -> None:
    jpeg = picture(orientation, endian=endian)
    assert jpeg[jpeg.index(b"Exif") + 6] == (ord("I") if endian == "<" else ord("M"))
    stored = Image.open(io.BytesIO(jpeg))
    assert int(read(jpeg)) == stored.getexif()[ORIENTATION] == orientation
    turned = turn_upright(tf.constant(jpeg), tf.constant(np.asarray(stored)))
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(stored)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        picture(None),
        picture(0),
        picture(9),
        picture(6, format="PNG"),  # which has its EXIF elsewhere
        picture(6).replace(b"Exif", b"Exit"),
        b"\xff\xe1\0\x20Exif\0\0",
        b"\xff\xe1\0\x20Exif\0\0II*\0\xff\xff\xff\xff",
        b"\xff\xe1\0\x20Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01",
    ],
)
def test_what_does_not_say_or_is_broken_stays_as_it_is(content: bytes) -> None:
    assert int(read(content)) == 1


@pytest.mark.parametrize("num_bytes", [1024, 60_000, 180_000])
def test_it_is_found_behind_other_segments(num_bytes: int) -> None:
    jpeg = picture(6)
    comment = b"\xff\xfe\x04\x02" + b"c" * 1024
    assert int(read(jpeg[:2] + num_bytes // 1024 * comment + jpeg[2:])) == 6


@pytest.mark.parametrize(
    ("said", "orientation"),
    [
        ('tiff:Orientation="6"', 6),
        ("<tiff:Orientation>8</tiff:Orientation>", 8),
        ("tiff:Orientation='6'", 1),
        ('tiff:Orientation="0"', 1),
        ("tiff:Orientation", 1),
    ],
)
def test_where_exif_does_not_say_xmp_does_as_for_pillow(said: str, orientation: int) -> None:
    target = io.BytesIO()
    Image.fromarray(COLOURS).save(target, "JPEG", xmp=said.encode())
    found = Image.open(io.BytesIO(target.getvalue())).getexif().get(ORIENTATION, 1)
    assert int(read(target.getvalue())) == orientation == (found or 1)
    exif = picture(3)
    start = target.getvalue().index(b"\xff\xe1")
    assert int(read(exif[:2] + target.getvalue()[start:])) == orientation
    assert int(read(exif[: exif.index(b"\xff\xdb")] + target.getvalue()[start:])) == 3
