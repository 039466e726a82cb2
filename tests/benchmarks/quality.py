"""How far crops are from a full decode scaled by LANCZOS."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
from PIL import Image

from croplake.conf import RecipeConf
from croplake.fetching.crop import Box, Recipe, crop_box, shrink
from croplake.fetching.photo import Halvings, decode_photo
from tests.benchmarks.workload import Workload

_EVERY: Final = 10


def mean_difference(photos: Path, workload: Workload) -> float:
    """The mean absolute difference of croplake's crops before they are encoded.

    Args:
        photos: folder of JPEGs; every tenth is looked at.
        workload: boxes and the crops' greatest side.

    Returns:
        Of 255, over all boxes, pixels and colours.
    """
    conf = RecipeConf(padding_frac=0.0, max_side_px=workload.max_side_px)
    recipe = Recipe(**conf.model_dump())
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
        cut_HWC, whole_HWC = (
            crop_box(photo, Box(*corners), padding_frac=0.0) for photo in (photo_HWC, reference_HWC)
        )
        ours_HWC = shrink(Halvings(cut_HWC), recipe)
        size = (ours_HWC.shape[1], ours_HWC.shape[0])
        lanczos = Image.fromarray(np.ascontiguousarray(whole_HWC)).resize(
            size, Image.Resampling.LANCZOS
        )
        yield float(np.abs(ours_HWC.astype(np.int16) - np.asarray(lanczos)).mean())
