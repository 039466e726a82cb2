"""Decoding of a photo of unknown origin, within limits.

JPEGs, which almost all are, go to libjpeg-turbo directly; what else is known goes to Pillow.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Final, NamedTuple, TypeAlias

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from croplake.fetching.outcome import PhotoError, Status

Pixels: TypeAlias = NDArray[np.uint8]

FORMATS: Final = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded; anything else that Pillow could open (EPS, PSD, …) is not handed to it."""

_MAGIC: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)
_KNOWN_OTHERS: Final = (
    (b"%!PS", "EPS"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"8BPS", "PSD"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "GZIP"),
)


_HARMLESS_WARNING: Final = re.compile(
    r"JFIF major revision|Adobe color transform|"
    r"Corrupt JPEG data: ([0-9]|[12][0-9]|3[012]) extraneous bytes"
)
"""libjpeg's complaints about photos whose pixels are sound all the same: cameras leave a few bytes
of padding between segments. Many such bytes are lost data."""


_LOOK_SIDE_PX: Final = 128
_LARGEST_KEPT_BYTES: Final = 48 * 1024 * 1024
_MAX_HALVINGS: Final = 3
_MAX_SCANS: Final = 200
"""A progressive JPEG has about ten, and a scan of a huge photo takes milliseconds however few its
bytes are. Marks within metadata are counted, too."""
_OTHERS_SHARE: Final = 4
"""So many times fewer pixels may a photo have that is no plain JPEG: alpha channels, 16 bits, four
inks and their conversions take so many times the memory."""


class DecodeBuffer:
    """Memory that one thread decodes into again and again; each photo overwrites the last."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def of_size(self, num_bytes: int) -> memoryview:
        """The first bytes of it, more memory being taken where needed.

        What a huge photo needs is its own, so that it goes with it.
        """
        if num_bytes > _LARGEST_KEPT_BYTES:
            return memoryview(bytearray(num_bytes))
        if len(self._bytes) < num_bytes:
            self._bytes = bytearray(num_bytes)
        return memoryview(self._bytes)[:num_bytes]


def sniff_format(data: bytes) -> str | None:
    """Tells a picture's format by its first bytes.

    Args:
        data: the file's bytes, or its first 32.

    Returns:
        One of `FORMATS`, or None where the bytes are none of them.
    """
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def decode_photo(
    data: bytes,
    *,
    max_pixels: int,
    apply_exif: bool = False,
    buffer: DecodeBuffer | None = None,
) -> Pixels:
    """Decodes a whole photo into the frame its file stores.

    Args:
        data: the file's bytes.
        max_pixels: a photo of more pixels is refused before its pixels are decoded; of a quarter of
            them where it is no plain JPEG.
        apply_exif: turns the photo as its EXIF orientation says. Open Images boxes are in the
            stored frame, so crops are cut without; a person's own photos want it.
        buffer: where a JPEG's pixels may go; the result is then good until its next use.

    Returns:
        uint8 RGB, shape (height, width, 3).

    Raises:
        PhotoError: `empty`, `not_a_photo`, `unsupported_format`, `too_many_pixels` or
            `broken_photo`.
    """
    if not data:
        raise PhotoError(Status.EMPTY, "0 bytes")
    found = sniff_format(data)
    if found is None:
        raise _unknown(data)
    if found == "JPEG":
        check_scans(data)
    if found == "JPEG" and not apply_exif:
        image_HWC = decode_plain_jpeg(data, max_pixels, buffer)
        if image_HWC is not None:
            return image_HWC
    return _decode_by_pillow(data, found, max_pixels, apply_exif=apply_exif)


def decode_plain_jpeg(
    data: bytes,
    max_pixels: int,
    buffer: DecodeBuffer | None = None,
    *,
    least_side_px: int | None = None,
) -> Pixels | None:
    """Decodes by libjpeg-turbo alone, in the frame that the file stores.

    Args:
        data: a JPEG.
        max_pixels: a photo of more pixels is refused before its pixels are decoded.
        buffer: where its pixels may go.
        least_side_px: halved up to three times, by libjpeg itself, as long as both sides stay so
            long; None is its full size.

    Returns:
        uint8 RGB, shape (height, width, 3); None where Pillow knows more (CMYK, odd subsampling).

    Raises:
        PhotoError: `too_many_pixels` or `broken_photo`.
    """
    try:
        height_px, width_px, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_pixels(width_px, height_px, max_pixels)
    if colours not in ("YCbCr", "RGB", "Gray"):
        return None
    target = None if buffer is None else buffer.of_size(3 * height_px * width_px)
    size = {} if least_side_px is None else _halved(width_px, height_px, least_side_px)
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, buffer=target, **size))
    except ValueError as error:
        if not _HARMLESS_WARNING.match(str(error)):
            raise PhotoError(Status.BROKEN_PHOTO, f"JPEG: {error}") from error
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, buffer=target, strict=False, **size))
    except ValueError as error:
        raise PhotoError(Status.BROKEN_PHOTO, f"JPEG: {error}") from error


def _halved(width_px: int, height_px: int, least_side_px: int) -> dict[str, float]:
    """What simplejpeg is told to decode at 1/2, 1/4 or 1/8 where that leaves enough."""
    times = 0
    while times < _MAX_HALVINGS and min(width_px, height_px) >= least_side_px << (times + 1):
        times += 1
    rounded = (1 << times) - 1
    return {
        "min_height": (height_px + rounded) >> times,
        "min_width": (width_px + rounded) >> times,
        "min_factor": 1,
    }


def _decode_by_pillow(data: bytes, found: str, max_pixels: int, *, apply_exif: bool) -> Pixels:
    try:
        with warnings.catch_warnings():
            # Pillow's own bomb limit is far from ours, its EXIF warnings are not the user's.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=(found,)) as image:
                is_plain = found == "JPEG" and image.mode in ("RGB", "L")
                most = max_pixels if is_plain else max_pixels // _OTHERS_SHARE
                _check_pixels(image.width, image.height, most)
                upright = ImageOps.exif_transpose(image) if apply_exif else image
                return np.asarray(_to_rgb(upright))
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:
        raise PhotoError(Status.TOO_MANY_PIXELS, str(error)) from error
    except UnidentifiedImageError as error:
        raise PhotoError(Status.BROKEN_PHOTO, f"{found} header cannot be read") from error
    # Damaged files reach every corner of the decoders; whatever they raise, the photo is broken.
    except Exception as error:
        raise PhotoError(Status.BROKEN_PHOTO, f"{found}: {error}") from error


def check_scans(data: bytes) -> None:
    """Refuses a JPEG that takes seconds however few its bytes are: `broken_photo`."""
    num_scans = data.count(b"\xff\xda")
    if num_scans > _MAX_SCANS:
        detail = f"JPEG of {num_scans} scans, at most {_MAX_SCANS} are decoded"
        raise PhotoError(Status.BROKEN_PHOTO, detail)


def _check_pixels(width_px: int, height_px: int, max_pixels: int) -> None:
    if width_px * height_px > max_pixels:
        detail = f"{width_px}×{height_px} px, the limit is {max_pixels} px in all"
        raise PhotoError(Status.TOO_MANY_PIXELS, detail)


def halve(image_HWC: Pixels) -> Pixels:
    """The mean of each 2×2 px block; an odd last row or column is left out.

    Args:
        image_HWC: uint8, shape (height, width, channels), both sides at least 2 px.
    """
    height_px, width_px = image_HWC.shape[0] // 2, image_HWC.shape[1] // 2
    even_HWC = image_HWC[: 2 * height_px, : 2 * width_px]
    return np.asarray(cv2.resize(even_HWC, (width_px, height_px), interpolation=cv2.INTER_AREA))


class Halvings:
    """A picture, halved again and again as far as somebody asks; each step is computed once.

    Attributes:
        whole_HWC: the picture, uint8, shape (height, width, channels).
    """

    def __init__(self, image_HWC: Pixels) -> None:
        self.whole_HWC = image_HWC
        self._levels = [image_HWC]

    def down_to(self, least_width_px: int, least_height_px: int) -> Pixels:
        """The smallest of the halvings that is at least so large; the picture itself if none is."""
        level = 0
        while (
            self._levels[level].shape[1] >= 2 * least_width_px
            and self._levels[level].shape[0] >= 2 * least_height_px
        ):
            level += 1
            if level == len(self._levels):
                self._levels.append(halve(self._levels[-1]))
        return self._levels[level]


class Look(NamedTuple):
    """What a photo looks like, in few bytes; similar ones are near-duplicates.

    Attributes:
        dhash: which of its 8×8 grey cells is brighter than the one to its left, as a signed 64-bit
            integer; similar photos differ in few bits.
        colors: the mean RGB of its 4×4 cells, row by row, uint8: 48 bytes.
    """

    dhash: int
    colors: bytes


def look_of(image_HWC: Pixels) -> Look:
    """Looks at a photo.

    Args:
        image_HWC: uint8 RGB, shape (height, width, 3).
    """
    # A cell's mean over every s-th row and column is as good as over all of them, at a tenth of the
    # cost: some hundred pixels are left of each.
    height_px, width_px = image_HWC.shape[:2]
    step = max(1, min(height_px, width_px) // _LOOK_SIDE_PX)
    thin_size = (width_px // step, height_px // step)
    thin_HWC = cv2.resize(image_HWC, thin_size, interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(thin_HWC, cv2.COLOR_RGB2GRAY)
    cells = np.asarray(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA), dtype=np.int16)
    bits = np.packbits(cells[:, 1:] > cells[:, :-1])
    colors = np.asarray(cv2.resize(thin_HWC, (4, 4), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return Look(int.from_bytes(bits.tobytes(), "big", signed=True), colors.tobytes())


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB; transparency lies on white, 16-bit grey keeps its eight upper bits."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _unknown(data: bytes) -> PhotoError:
    head = data[:512].lstrip()
    for magic, name in _KNOWN_OTHERS:
        if head.startswith(magic):
            return PhotoError(Status.UNSUPPORTED_FORMAT, f"{name}, expected {', '.join(FORMATS)}")
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("ascii", "replace").upper()
        return PhotoError(Status.UNSUPPORTED_FORMAT, f"{brand}, expected {', '.join(FORMATS)}")
    if head.startswith(b"<?xml") and b"<svg" in head:
        return PhotoError(Status.UNSUPPORTED_FORMAT, f"SVG, expected {', '.join(FORMATS)}")
    if b"<html" in head.lower() or b"<!doctype" in head.lower():
        return PhotoError(Status.NOT_A_PHOTO, "an HTML page")
    if head.startswith(b"<?xml"):
        return PhotoError(Status.NOT_A_PHOTO, "an XML document")
    return PhotoError(Status.NOT_A_PHOTO, f"{len(data)} bytes that begin with {data[:8]!r}")
