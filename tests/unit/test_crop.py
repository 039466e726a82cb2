from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from croplake.fetching.crop import (
    Box,
    EmptyCropError,
    Recipe,
    crop_box,
    encode_crop,
    shrink,
    to_pixels,
)
from croplake.fetching.photo import Halvings, Pixels

RECIPE = Recipe(padding_frac=0.0, max_side_px=64, jpeg_quality=95, resampler="lanczos")


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    rows = np.linspace(0, 255, height)[:, None]
    columns = np.linspace(0, 255, width)[None, :]
    channels = [rows + 0 * columns, columns + 0 * rows, (rows + columns) / 2]
    return np.asarray(np.stack(channels, axis=-1), dtype=np.uint8)


def decoded(jpeg: bytes) -> NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"), dtype=np.int64)


def test_corners_round_outwards() -> None:
    assert to_pixels(Box(0.105, 0.205, 0.55, 0.65), 100, 20) == (10, 11, 21, 13)


def test_a_corner_on_a_pixel_edge_does_not_pull_in_the_next_pixel() -> None:
    assert to_pixels(Box(0.07, 0.29, 0, 1), 100, 10) == (7, 0, 29, 10)


def test_padding_is_a_fraction_of_the_longer_side_and_is_clamped_to_the_photo() -> None:
    assert to_pixels(Box(0.2, 0.6, 0.1, 0.3), 100, 100, padding_frac=0.25) == (10, 0, 70, 40)


@pytest.mark.parametrize(
    "box", [Box(0.5, 0.5, 0.1, 0.9), Box(1.0, 1.0, 0, 1), Box(0.6, 0.4, 0.1, 0.9)]
)
def test_a_box_without_area_has_no_crop(box: Box) -> None:
    with pytest.raises(EmptyCropError, match="has no area inside a photo of 100×100 px"):
        to_pixels(box, 100, 100)


sides = st.integers(1, 400)
fractions = st.floats(0, 1)


@given(sides, sides, fractions, fractions, fractions, fractions, st.floats(0, 2))
def test_a_crop_lies_inside_its_photo_and_holds_its_box(
    width: int, height: int, x0: float, x1: float, y0: float, y1: float, padding: float
) -> None:
    box = Box(min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1))
    try:
        pixels = to_pixels(box, width, height, padding_frac=padding)
    except EmptyCropError:
        assert (box.x_max - box.x_min) * width < 1 or (box.y_max - box.y_min) * height < 1
        return
    assert 0 <= pixels.left < pixels.right <= width
    assert 0 <= pixels.top < pixels.bottom <= height
    assert pixels.left <= box.x_min * width + 1e-5
    assert pixels.right >= box.x_max * width - 1e-5


def test_a_crop_is_a_view_of_the_photo() -> None:
    image_HWC = gradient(50, 100)
    cut_HWC = crop_box(image_HWC, Box(0.1, 0.3, 0.2, 0.6), padding_frac=0)
    assert cut_HWC.shape == (20, 20, 3)
    assert np.shares_memory(cut_HWC, image_HWC)


@pytest.mark.parametrize(("rotation", "turns"), [(None, 0), (0, 0), (90, 1), (180, 2), (270, 3)])
def test_a_crop_is_turned_counter_clockwise_after_it_is_cut(
    rotation: int | None, turns: int
) -> None:
    image_HWC = gradient(32, 48)
    crop = encode_crop(Halvings(image_HWC), RECIPE, rotation_deg=rotation)
    expected_HWC = np.rot90(image_HWC, turns).astype(int)
    assert (crop.height_px, crop.width_px) == expected_HWC.shape[:2]
    assert np.abs(decoded(crop.jpeg) - expected_HWC).mean() < 2


def test_a_large_crop_is_scaled_down_to_the_greatest_side_and_a_small_one_is_left() -> None:
    large = encode_crop(Halvings(gradient(200, 100)), RECIPE, rotation_deg=0)
    assert (large.width_px, large.height_px) == (32, 64)
    small = encode_crop(Halvings(gradient(20, 10)), RECIPE, rotation_deg=0)
    assert (small.width_px, small.height_px) == (10, 20)


def test_an_extreme_aspect_keeps_at_least_a_pixel() -> None:
    crop = encode_crop(Halvings(gradient(2, 1000)), RECIPE, rotation_deg=0)
    assert (crop.width_px, crop.height_px) == (64, 1)


def test_every_part_of_a_recipe_changes_its_id() -> None:
    ids = {
        RECIPE.recipe_id,
        Recipe(0.1, 64, 95, "lanczos").recipe_id,
        Recipe(0.0, 65, 95, "lanczos").recipe_id,
        Recipe(0.0, 64, 94, "lanczos").recipe_id,
        Recipe(0.0, 64, 95, "box").recipe_id,
    }
    assert len(ids) == 5


def natural(seed: int, width: int = 640, height: int = 480) -> Pixels:
    """A picture with the spectrum of photos (amplitude falls with frequency) and hard edges."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    waves = rng.normal(size=(3, *frequency.shape)) + 1j * rng.normal(size=(3, *frequency.shape))
    planes = np.fft.irfft2(waves / frequency**1.5, (height, width))
    planes /= planes.std(axis=(1, 2), keepdims=True)
    image = 128 + 50 * (1.2 * planes.mean(axis=0) + 0.3 * planes).transpose(1, 2, 0)
    for _ in range(15):
        x, y, side = rng.integers(0, width), rng.integers(0, height), rng.integers(10, 120)
        image[y : y + side, x : x + side] += rng.uniform(-80, 80, 3)
    pixels: Pixels = image.clip(0, 255).astype(np.uint8)
    return pixels


def test_the_fast_resampler_stays_close_to_lanczos_over_boxes_of_all_sizes() -> None:
    rng = np.random.default_rng(3)
    recipe = Recipe(padding_frac=0.0, max_side_px=128, jpeg_quality=92, resampler="area")
    lanczos = replace(recipe, resampler="lanczos")
    differences = []
    for seed in range(3):
        image_HWC = natural(seed)
        for _ in range(20):
            x, y = rng.integers(0, 300), rng.integers(0, 200)
            crop = Halvings(image_HWC[y : y + rng.integers(90, 480), x : x + rng.integers(90, 640)])
            fast, best = (shrink(crop, one).astype(int) for one in (recipe, lanczos))
            assert fast.shape == best.shape
            differences.append(np.abs(fast - best).mean())
    assert np.mean(differences) <= 2.2


def test_a_box_over_the_whole_photo_gives_the_pixels_of_a_copy_of_it() -> None:
    recipe = Recipe(padding_frac=0.0, max_side_px=100, jpeg_quality=92, resampler="area")
    photo = Halvings(natural(1))
    photo.down_to(20, 20)  # has halved it already
    alone = encode_crop(Halvings(photo.whole_HWC.copy()), recipe, rotation_deg=90)
    assert encode_crop(photo, recipe, rotation_deg=90) == alone
