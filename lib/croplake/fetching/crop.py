"""Cutting annotated boxes out of a decoded photo."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from croplake.fetching.photo import Halvings, Pixels, halve

CROP_CODE_VERSION: Final = 2
"""Part of every recipe: goes up when the same box would give other pixels."""

_FILTERS: Final = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
}
"""Resamplers that are Pillow's; `area` is not among them."""

_LEAST_HALVED_SCALE: Final = 1.5

cv2.setNumThreads(1)  # a task has one core; its neighbours have theirs


class EmptyCropError(Exception):
    """A box without area inside its photo."""


class Box(NamedTuple):
    """Corners as fractions of the photo's sides, origin top left."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float


class PixelBox(NamedTuple):
    """A box on the pixel grid; right and bottom are the first column and row outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns inside."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows inside."""
        return self.bottom - self.top


@dataclass(frozen=True)
class Recipe:
    """How crops are cut and encoded; see `croplake.conf.RecipeConf`."""

    padding_frac: float
    max_side_px: int
    jpeg_quality: int
    resampler: str

    @cached_property
    def recipe_id(self) -> str:
        """A 12-digit hash of the recipe and of the version of this code."""
        parts = [
            CROP_CODE_VERSION,
            self.padding_frac,
            self.max_side_px,
            self.jpeg_quality,
            self.resampler,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


class Crop(NamedTuple):
    """An encoded crop; sides in px after resizing and turning."""

    jpeg: bytes
    width_px: int
    height_px: int


def to_pixels(
    box: Box, photo_width_px: int, photo_height_px: int, *, padding_frac: float = 0.0
) -> PixelBox:
    """Puts a box on the photo's pixel grid.

    Args:
        box: corners in [0, 1].
        photo_width_px: columns of the photo.
        photo_height_px: rows of the photo.
        padding_frac: margin added on every side, as a fraction of the box's longer side in px.

    Returns:
        The box with its corners rounded outwards and clamped to the photo.

    Raises:
        EmptyCropError: the box has no area inside the photo.
    """
    x0, x1 = box.x_min * photo_width_px, box.x_max * photo_width_px
    y0, y1 = box.y_min * photo_height_px, box.y_max * photo_height_px
    margin = padding_frac * max(x1 - x0, y1 - y0)
    # 0.07 × 100 is 7.000000000000001 in binary: such noise must not pull in another pixel.
    pixels = PixelBox(
        left=max(0, math.floor(round(x0 - margin, 6))),
        top=max(0, math.floor(round(y0 - margin, 6))),
        right=min(photo_width_px, math.ceil(round(x1 + margin, 6))),
        bottom=min(photo_height_px, math.ceil(round(y1 + margin, 6))),
    )
    if not (x1 > x0 and y1 > y0 and pixels.width > 0 and pixels.height > 0):
        raise EmptyCropError(
            f"box x {box.x_min:g}…{box.x_max:g}, y {box.y_min:g}…{box.y_max:g} has no area "
            f"inside a photo of {photo_width_px}×{photo_height_px} px"
        )
    return pixels


def crop_box(image_HWC: Pixels, box: Box, *, padding_frac: float) -> Pixels:
    """Cuts one annotated box out of a decoded photo.

    Args:
        image_HWC: uint8 RGB, shape (height, width, 3).
        box: corners as fractions of the image's sides in [0, 1], origin top left.
        padding_frac: margin added on every side, as a fraction of the box's longer side.

    Returns:
        uint8 view, shape (crop_height, crop_width, 3), corners rounded outwards and clamped to
        the photo.

    Raises:
        EmptyCropError: the box has no area inside the photo.

    Source: Open Images V7 download page, "Data formats".
    """
    height_px, width_px = image_HWC.shape[:2]
    at = to_pixels(box, width_px, height_px, padding_frac=padding_frac)
    return image_HWC[at.top : at.bottom, at.left : at.right]


def encode_crop(crop: Halvings, recipe: Recipe, *, rotation_deg: int | None) -> Crop:
    """Resizes, turns upright and encodes what `crop_box` cut.

    Args:
        crop: uint8 RGB, shape (height, width, 3), in the photo's stored frame.
        recipe: greatest side, resampler and JPEG quality.
        rotation_deg: degrees counter-clockwise to turn; None (unknown) turns nothing.

    Returns:
        The JPEG with its sides as a viewer sees them.
    """
    crop_HWC = shrink(crop, recipe)
    if rotation_deg:
        crop_HWC = np.rot90(crop_HWC, rotation_deg // 90)
    jpeg = simplejpeg.encode_jpeg(
        np.ascontiguousarray(crop_HWC),
        quality=recipe.jpeg_quality,
        # 4:4:4, because small crops lose their edges to halved chroma first.
        colorsubsampling="444",
        fastdct=False,
    )
    return Crop(jpeg, crop_HWC.shape[1], crop_HWC.shape[0])


def shrink(crop: Halvings, recipe: Recipe) -> Pixels:
    """Scales a crop down to the recipe's greatest side; a smaller one stays as it is.

    `area` halves as long as more than twice the size is left, interpolates to exactly twice the
    size, and halves once more; what is scaled by less than 1.5 is interpolated alone. It costs a
    tenth of Lanczos and stays within 1.5 of 255 of it on photos.

    Args:
        crop: uint8 RGB, shape (height, width, 3).
        recipe: greatest side and resampler.

    Returns:
        uint8 RGB, shape (height_px, width_px, 3).
    """
    whole_HWC = crop.whole_HWC
    height_px, width_px = whole_HWC.shape[:2]
    scale = recipe.max_side_px / max(width_px, height_px)
    if scale >= 1:
        return whole_HWC
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    if recipe.resampler != "area":
        image = Image.fromarray(np.ascontiguousarray(whole_HWC))
        return np.asarray(image.resize(size, _FILTERS[recipe.resampler]))
    if max(width_px, height_px) < _LEAST_HALVED_SCALE * recipe.max_side_px:
        return _interpolate(whole_HWC, size)
    twice = (2 * size[0], 2 * size[1])
    halved_HWC = crop.down_to(*twice)
    if halved_HWC.shape[1::-1] == twice:
        return crop.down_to(*size)
    return halve(_interpolate(halved_HWC, twice))


def _interpolate(image_HWC: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(image_HWC, size, interpolation=cv2.INTER_LINEAR))
