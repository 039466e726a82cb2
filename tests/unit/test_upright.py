"""Photos as people see them: turned, halved, of any kind."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from croplake.fetching.outcome import PhotoError
from croplake.fetching.photo import decode_photo
from croplake.fetching.upright import Upright, decode_upright


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(3).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def file_of(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:  # noqa: ANN401
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def decode(data: bytes, least_side_px: int = 1000, max_pixels: int = 10_000_000) -> Upright:
    return decode_upright(data, max_pixels=max_pixels, least_side_px=least_side_px)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(picture(61, 33), exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    seen = decode(data)
    assert np.array_equal(seen.image_HWC, expected)
    assert (seen.height_px, seen.width_px) == expected.shape[:2]
    assert np.array_equal(seen.image_HWC, decode_photo(data, max_pixels=10_000, apply_exif=True))


def test_metadata_that_cannot_be_read_costs_nothing_but_the_turning() -> None:
    plain = file_of(picture(20, 10))
    odd = plain[:2] + b"\xff\xe1\x00\x10Exif\x00\x00" + b"\xff" * 8 + plain[2:]
    assert decode(odd).image_HWC.shape == (10, 20, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("size", "least", "shape"),
    [
        ((800, 600), 300, (300, 400)),
        ((800, 600), 301, (600, 800)),
        ((640, 800), 40, (50, 40)),
        ((800, 64), 64, (64, 800)),
    ],
)
def test_a_large_photo_is_halved_as_long_as_both_sides_stay_long_enough(
    kind: str, size: tuple[int, int], least: int, shape: tuple[int, int]
) -> None:
    seen = decode(file_of(picture(*size), kind), least)
    assert (seen.width_px, seen.height_px) == size
    assert seen.image_HWC.shape == (*shape, 3)
    # Each pixel is about the mean of those it stands for, whoever has halved.
    mean = picture(*size).resize(shape[::-1], Image.Resampling.BOX)
    difference = np.abs(np.asarray(mean, np.int16) - seen.image_HWC)
    assert difference.mean() < 3


def test_a_jpeg_of_four_inks_and_a_transparent_png_come_through() -> None:
    assert decode(file_of(picture(40, 20).convert("CMYK"))).image_HWC.shape == (20, 40, 3)
    clear = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    assert (decode(file_of(clear, "PNG")).image_HWC == 255).all()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "empty"),
        (b"no photo", "not_a_photo"),
        (file_of(picture(40, 20))[:-40], "broken_photo"),
        (file_of(picture(200, 200)), "too_many_pixels"),
        (file_of(picture(200, 200), "PNG"), "too_many_pixels"),
    ],
)
def test_what_cannot_be_decoded_has_its_reason(data: bytes, status: str) -> None:
    with pytest.raises(PhotoError) as caught:
        decode(data, 8, max_pixels=10_000)
    assert caught.value.status == status
