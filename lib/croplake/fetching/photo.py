"""Decoding of a photo of unknown origin, within limits."""

from __future__ import annotations

import io
import warnings
from typing import Final, TypeAlias

import numpy as np
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
    (b"<?xml", "XML"),
    (b"8BPS", "PSD"),
    (b"PK\x03\x04", "ZIP"),
)


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


def decode_photo(data: bytes, *, max_pixels: int, apply_exif: bool = False) -> Pixels:
    """Decodes a whole photo into the frame its file stores.

    Args:
        data: the file's bytes.
        max_pixels: a photo of more pixels is refused before its pixels are decoded.
        apply_exif: turns the photo as its EXIF orientation says. Open Images boxes are in the
            stored frame, so crops are cut without; a person's own photos want it.

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
    try:
        with warnings.catch_warnings():
            # Pillow's own bomb limit is far from ours, its EXIF warnings are not the user's.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_plugins(found)) as image:
                if image.width * image.height > max_pixels:
                    detail = f"{image.width}×{image.height} px, the limit is {max_pixels} px in all"
                    raise PhotoError(Status.TOO_MANY_PIXELS, detail)
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


def dhash(image_HWC: Pixels) -> int:
    """The 64-bit difference hash of a photo: which of its 8×8 grey cells is brighter to the right.

    Args:
        image_HWC: uint8 RGB, shape (height, width, 3).

    Returns:
        A signed 64-bit integer; similar photos differ in few bits.
    """
    grey = Image.fromarray(image_HWC).convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(grey, dtype=np.int16)
    bits = np.packbits(cells[:, 1:] > cells[:, :-1])
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def _plugins(found: str) -> tuple[str, ...]:
    return ("JPEG", "MPO") if found == "JPEG" else (found,)


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
    if b"<html" in head.lower() or b"<!doctype" in head.lower():
        return PhotoError(Status.NOT_A_PHOTO, "an HTML page")
    return PhotoError(Status.NOT_A_PHOTO, f"{len(data)} bytes that begin with {data[:8]!r}")
