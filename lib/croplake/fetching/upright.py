"""A person's photo as people see it: turned as its EXIF says, and no larger than is asked for."""

from __future__ import annotations

import io
from typing import Final, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from croplake.fetching.photo import (
    Halvings,
    Pixels,
    check_scans,
    decode_photo,
    decode_plain_jpeg,
    sniff_format,
)

_HEAD_BYTES: Final = 256 * 1024
"""Metadata stands before the pixels."""
_ORIENTATION: Final = 0x0112
_ORIENTATION_MARKS: Final = (b"Exif\x00\x00", b"tiff:Orientation")


class Upright(NamedTuple):
    """A decoded photo.

    Attributes:
        image_HWC: uint8 RGB, shape (height, width, 3), maybe smaller than the photo.
        width_px: of the whole photo, as it is seen.
        height_px: of the whole photo, as it is seen.
    """

    image_HWC: Pixels
    width_px: int
    height_px: int


def decode_upright(data: bytes, *, max_pixels: int, least_side_px: int) -> Upright:
    """Decodes a photo for who looks at all of it.

    A large photo is halved, by means of 2×2 px or as libjpeg does it while decoding, as long as
    both of its sides stay at least `least_side_px`.

    Args:
        data: the file's bytes.
        max_pixels: as for `decode_photo`.
        least_side_px: no side is made shorter than this.

    Raises:
        PhotoError: as `decode_photo`.
    """
    upright = _by_libjpeg(data, max_pixels, least_side_px)
    if upright is None:
        whole_HWC = decode_photo(data, max_pixels=max_pixels, apply_exif=True)
        upright = Upright(whole_HWC, whole_HWC.shape[1], whole_HWC.shape[0])
    small_HWC = Halvings(upright.image_HWC).down_to(least_side_px, least_side_px)
    return upright._replace(image_HWC=small_HWC)


def _by_libjpeg(data: bytes, max_pixels: int, least_side_px: int) -> Upright | None:
    """A JPEG, halved up to three times; None where it is none, or Pillow knows more of it."""
    if sniff_format(data) != "JPEG":
        return None
    check_scans(data)
    stored_HWC = decode_plain_jpeg(data, max_pixels, least_side_px=least_side_px)
    if stored_HWC is None:
        return None
    height_px, width_px, _, _ = simplejpeg.decode_jpeg_header(data)
    orientation = _orientation(data)
    if orientation >= 5:
        height_px, width_px = width_px, height_px
    return Upright(_turned(stored_HWC, orientation), width_px, height_px)


def _orientation(data: bytes) -> int:
    head = data[:_HEAD_BYTES]
    if not any(mark in head for mark in _ORIENTATION_MARKS):
        return 1
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            found = image.getexif().get(_ORIENTATION, 1)
    # Metadata is of strangers, and of no weight beside the pixels.
    except Exception:
        return 1
    return found if found in range(1, 9) else 1


def _turned(stored_HWC: Pixels, orientation: int) -> Pixels:
    """The eight orientations of EXIF; 5 to 8 swap the sides."""
    match orientation:
        case 2:
            turned = stored_HWC[:, ::-1]
        case 3:
            turned = stored_HWC[::-1, ::-1]
        case 4:
            turned = stored_HWC[::-1]
        case 5:
            turned = stored_HWC.swapaxes(0, 1)
        case 6:
            turned = np.rot90(stored_HWC, -1)
        case 7:
            turned = stored_HWC[::-1, ::-1].swapaxes(0, 1)
        case 8:
            turned = np.rot90(stored_HWC)
        case _:
            return stored_HWC
    return np.ascontiguousarray(turned)
