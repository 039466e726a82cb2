"""How far crops are from a full decode scaled by LANCZOS."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from croplake.conf import RecipeConf
from croplake.fetching.crop import Box, Recipe, crop_box, encode_crop
from croplake.fetching.photo import decode_photo
from tests.benchmarks.workload import Workload

_EVERY: Final = 10
_LOSSLESS: Final = 100
"""At this quality the encoder adds less than 0.5 of 255: it stands for no encoding."""


def mean_difference(photos: Path, workload: Workload) -> float:
    """The mean absolute difference of croplake's crops, over every tenth photo and all boxes.

    Args:
        photos: folder of JPEGs.
        workload: boxes and the crops' greatest side.

    Returns:
        Of 255, over all pixels and colours.
    """
    shipped = RecipeConf()
    recipe = Recipe(
        padding_frac=0.0,
        max_side_px=workload.max_side_px,
        jpeg_quality=_LOSSLESS,
        resampler=shipped.resampler,
    )
    return mean(
        difference
        for file in sorted(photos.glob("*.jpg"))[::_EVERY]
        for difference in _differences(file.read_bytes(), workload, recipe)
    )


def _differences(data: bytes, workload: Workload, recipe: Recipe) -> Iterator[float]:
    photo_HWC = decode_photo(data, max_pixels=10**8)
    with Image.open(io.BytesIO(data)) as image:
        reference_HWC = np.asarray(image.convert("RGB"))
    for corners in workload.boxes:
        crop = encode_crop(
            crop_box(photo_HWC, Box(*corners), padding_frac=0.0), recipe, rotation_deg=0
        )
        ours = np.asarray(Image.open(io.BytesIO(crop.jpeg)).convert("RGB"), dtype=np.int16)
        size = (crop.width_px, crop.height_px)
        yield float(np.abs(ours - _by_lanczos(reference_HWC, corners, size)).mean())


def _by_lanczos(
    photo_HWC: NDArray[np.uint8], corners: tuple[float, ...], size: tuple[int, int]
) -> NDArray[np.int16]:
    cut_HWC = crop_box(photo_HWC, Box(*corners), padding_frac=0.0)
    image = Image.fromarray(np.ascontiguousarray(cut_HWC))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.int16)
