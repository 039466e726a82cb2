from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from croplake.fetching.outcome import PhotoError
from croplake.fetching.photo import DecodeBuffer, decode_photo, halve, look_of, sniff_format

LIMIT = 10_000_000


def picture(width: int = 32, height: int = 16) -> Image.Image:
    pixels = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_photos_of_the_usual_formats_are_decoded_to_rgb(kind: str) -> None:
    data = encoded(picture(), kind)
    assert sniff_format(data) == kind
    image_HWC = decode_photo(data, max_pixels=LIMIT)
    assert image_HWC.shape == (16, 32, 3)
    assert image_HWC.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        (b"", "empty", "0 bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "unsupported_format", "EPS"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "unsupported_format", "SVG"),
        (b"<?xml version='1.0'?><Error/>", "not_a_photo", "an XML document"),
        (b"\0\0\0 ftypavif", "unsupported_format", "AVIF"),
        (b"<!DOCTYPE html><html>sorry</html>", "not_a_photo", "an HTML page"),
        (b"hello", "not_a_photo", "5 bytes that begin with b'hello'"),
        (b"\xff\xd8\xff\xe0nothing more", "broken_photo", "JPEG: Truncated"),
        (b"\xff\xd8\xff\xd9", "broken_photo", "JPEG header cannot be read"),
    ],
)
def test_what_is_no_photo_is_named(data: bytes, status: str, detail: str) -> None:
    with pytest.raises(PhotoError) as error:
        decode_photo(data, max_pixels=LIMIT)
    assert error.value.status == status
    assert detail in error.value.detail


def test_a_truncated_photo_is_broken_not_grey_below() -> None:
    data = encoded(picture(256, 256), "JPEG")
    with pytest.raises(PhotoError) as error:
        decode_photo(data[: len(data) * 2 // 3], max_pixels=LIMIT)
    assert error.value.status == "broken_photo"
    assert "Premature end of JPEG file" in error.value.detail


def test_16_bit_grey_keeps_its_upper_bits() -> None:
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    image_HWC = decode_photo(encoded(Image.fromarray(pixels), "PNG"), max_pixels=LIMIT)
    assert (image_HWC[:, :, 0] == np.arange(256).reshape(16, 16)).all()


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image_HWC = decode_photo(encoded(clear, "PNG"), max_pixels=LIMIT)
    assert (image_HWC == 255).all()


def test_exif_turns_a_photo_only_where_it_is_asked_to() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(), "JPEG", exif=exif)
    assert decode_photo(data, max_pixels=LIMIT).shape == (16, 32, 3)
    assert decode_photo(data, max_pixels=LIMIT, apply_exif=True).shape == (32, 16, 3)


def test_a_look_tells_photos_apart_and_survives_recompression() -> None:
    rng = np.random.default_rng(1)
    small = rng.integers(0, 255, (8, 9, 3), dtype=np.uint8)
    photo = Image.fromarray(small).resize((300, 200), Image.Resampling.BICUBIC)
    again = decode_photo(encoded(photo, "JPEG", quality=60), max_pixels=LIMIT)
    other = Image.fromarray(rng.integers(0, 255, (8, 9, 3), dtype=np.uint8)).resize((300, 200))
    first, second, third = (look_of(np.asarray(each)) for each in (photo, again, other))
    assert -(1 << 63) <= first.dhash < 1 << 63
    assert ((first.dhash ^ second.dhash) & (2**64 - 1)).bit_count() <= 3
    assert ((first.dhash ^ third.dhash) & (2**64 - 1)).bit_count() > 16


def test_a_looks_colours_are_the_means_of_sixteen_cells() -> None:
    quarters = np.zeros((256, 512, 3), dtype=np.uint8)
    quarters[:128, :256] = (255, 0, 0)
    quarters[128:, 256:] = (0, 40, 200)
    cells = np.frombuffer(look_of(quarters).colors, dtype=np.uint8).reshape(4, 4, 3)
    expected = quarters[32::64, 64::128]
    assert np.array_equal(cells, expected)


def damaged(data: bytes, at: int, *, num_bytes: int) -> bytes:
    """The same file with bytes in its pixels' data overwritten."""
    return data[:at] + bytes(0x55 for _ in range(num_bytes)) + data[at + num_bytes :]


def test_a_photo_whose_data_was_damaged_is_broken_not_smeared() -> None:
    data = encoded(picture(256, 256), "JPEG")
    with pytest.raises(PhotoError) as error:
        decode_photo(damaged(data, len(data) // 2, num_bytes=200), max_pixels=LIMIT)
    assert error.value.status == "broken_photo"
    assert "Corrupt JPEG data" in error.value.detail


def test_a_few_bytes_of_padding_are_no_damage() -> None:
    data = encoded(picture(64, 64), "JPEG")
    padded = data[:-2] + b"\0" * 9 + data[-2:]
    expected = decode_photo(data, max_pixels=LIMIT)
    assert (decode_photo(padded, max_pixels=LIMIT) == expected).all()
    with pytest.raises(PhotoError, match="extraneous bytes before marker"):
        decode_photo(data[:-2] + b"\0" * 99 + data[-2:], max_pixels=LIMIT)


def test_jpegs_are_decoded_as_pillow_decodes_them_also_into_used_memory() -> None:
    buffer = DecodeBuffer()
    for width, height, options in (
        (64, 48, {}),
        (33, 17, {"progressive": True}),
        (40, 30, {"subsampling": 0}),
    ):
        data = encoded(picture(width, height), "JPEG", **options)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        found = decode_photo(data, max_pixels=LIMIT, buffer=buffer)
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_halving_takes_the_mean_of_each_2_by_2_block() -> None:
    image_HWC = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    expected = image_HWC[:4, :6].reshape(2, 2, 3, 2, 3).mean(axis=(1, 3))
    assert np.abs(halve(image_HWC) - expected).max() <= 0.5
