"""Each change of a training picture against NumPy's own."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from croplake.conf import AugmentConf

tf = pytest.importorskip("tensorflow")

from croplake.training.augmentation import augment_batch, draw_transforms  # noqa: E402

Floats: TypeAlias = NDArray[np.float64]

SIDE = 16
CENTRE = (SIDE - 1) / 2
SEED = (3, 4)
STILL = AugmentConf(rotation_deg=0, shift_frac=0, shear_frac=0, zoom_frac=0, horizontal_flip=False)
EVERYTHING = AugmentConf()


@pytest.fixture(scope="module")
def pictures() -> Floats:
    return np.random.default_rng(5).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.float64)


def drawn(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """Has every draw come out as this, in -1 … 1."""

    def draw(shape: Any, seed: object, low: float, high: float) -> Any:  # noqa: ANN401
        assert (low, high) == (-1.0, 1.0)
        return tf.fill(shape, float(value))

    monkeypatch.setattr(tf.random, "stateless_uniform", draw)


def augmented(pictures: Floats, conf: AugmentConf, seed: tuple[int, int] = SEED) -> Floats:
    images = tf.constant(pictures, tf.float32)
    return np.asarray(augment_batch(images, conf, tf.constant(seed)), np.float64)


def sampled(picture: Floats, x: Floats, y: Floats) -> Floats:
    """The picture at places (x, y), between pixels linearly, outside as its reflection."""

    def pixel(x: NDArray[np.int64], y: NDArray[np.int64]) -> Floats:
        x, y = (np.where(v % (2 * SIDE) < SIDE, v % SIDE, SIDE - 1 - v % SIDE) for v in (x, y))
        return picture[y, x]

    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (x - left)[..., None], (y - top)[..., None]
    above = pixel(left, top) * (1 - across) + pixel(left + 1, top) * across
    below = pixel(left, top + 1) * (1 - across) + pixel(left + 1, top + 1) * across
    return np.asarray(above * (1 - down) + below * down)


Y, X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_all_settings_off_leave_pictures_untouched(pictures: Floats, dtype: str) -> None:
    images = tf.constant(pictures, dtype)
    result = augment_batch(images, STILL, tf.constant(SEED))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, pictures)


@pytest.mark.parametrize(
    ("degrees", "draw", "quarters"), [(90, 1, 1), (90, -1, -1), (180, 1, 2), (180, 0.5, 1)]
)
def test_rotation_turns_about_the_centre(
    pictures: Floats, monkeypatch: pytest.MonkeyPatch, degrees: float, draw: float, quarters: int
) -> None:
    drawn(monkeypatch, draw)
    result = augmented(pictures, STILL.model_copy(update={"rotation_deg": degrees}))
    np.testing.assert_allclose(result, np.rot90(pictures, quarters, axes=(1, 2)), atol=0.01)


def test_shift_moves_by_a_fraction_of_the_side(
    pictures: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = STILL.model_copy(update={"shift_frac": 0.25})
    for draw, before, after in ((1, 4, 0), (-1, 0, 4), (0.5, 2, 0)):
        drawn(monkeypatch, draw)
        margins = ((0, 0), (before, after), (before, after), (0, 0))
        padded = np.pad(pictures, margins, mode="symmetric")
        expected = padded[:, after : after + SIDE, after : after + SIDE]
        np.testing.assert_allclose(augmented(pictures, conf), expected, atol=0.01)


@pytest.mark.parametrize(("draw", "factor"), [(1, 1.5), (-1, 0.5), (0.5, 1.25)])
def test_zoom_scales_about_the_centre(
    pictures: Floats, monkeypatch: pytest.MonkeyPatch, draw: float, factor: float
) -> None:
    drawn(monkeypatch, draw)
    result = augmented(pictures, STILL.model_copy(update={"zoom_frac": 0.5}))
    for picture, scaled in zip(pictures, result, strict=True):
        expected = sampled(picture, CENTRE + (X - CENTRE) / factor, CENTRE + (Y - CENTRE) / factor)
        np.testing.assert_allclose(scaled, expected, atol=0.01)


@pytest.mark.parametrize("draw", [1.0, -0.5])
def test_shear_moves_each_line_by_its_distance_from_the_middle(
    pictures: Floats, monkeypatch: pytest.MonkeyPatch, draw: float
) -> None:
    drawn(monkeypatch, draw)
    result = augmented(pictures, STILL.model_copy(update={"shear_frac": 0.4}))
    for picture, sheared in zip(pictures, result, strict=True):
        expected = sampled(picture, X + draw * 0.4 * (Y - CENTRE), Y)
        np.testing.assert_allclose(sheared, expected, atol=0.01)


def test_flip_mirrors_left_to_right(pictures: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = STILL.model_copy(update={"horizontal_flip": True})
    drawn(monkeypatch, -0.5)
    np.testing.assert_allclose(augmented(pictures, conf), pictures[:, :, ::-1], atol=0.01)
    drawn(monkeypatch, 0.5)
    np.testing.assert_allclose(augmented(pictures, conf), pictures, atol=0.01)


def test_all_together_are_one_map_of_places(pictures: Floats) -> None:
    maps = np.asarray(draw_transforms(EVERYTHING, 3, SIDE, tf.constant(SEED)), np.float64)
    result = augmented(pictures, EVERYTHING)
    for picture, changed, (a0, a1, a2, b0, b1, b2, *rest) in zip(
        pictures, result, maps, strict=True
    ):
        assert rest == [0, 0]
        expected = sampled(picture, a0 * X + a1 * Y + a2, b0 * X + b1 * Y + b2)
        np.testing.assert_allclose(changed, expected, atol=0.1)
        assert np.abs(changed - picture).mean() > 1


def maps_of(**changes: float | bool) -> Floats:
    conf = STILL.model_copy(update=changes)
    return np.asarray(draw_transforms(conf, 4000, SIDE, tf.constant(SEED)), np.float64)


def assert_spread(values: Floats, low: float, high: float) -> None:
    """All between the two, near both, and as many below the middle as above."""
    margin = (high - low) / 50
    assert low - 1e-6 <= values.min() <= low + margin
    assert high - margin <= values.max() <= high + 1e-6
    assert 0.45 < (values < (low + high) / 2).mean() < 0.55


def test_amounts_reach_their_settings_both_ways_and_no_further() -> None:
    turned = maps_of(rotation_deg=30.0)
    assert_spread(np.degrees(np.arctan2(turned[:, 3], turned[:, 0])), -30, 30)
    moved = maps_of(shift_frac=0.2)
    assert_spread(-moved[:, 2] / SIDE, -0.2, 0.2)
    assert_spread(-moved[:, 5] / SIDE, -0.2, 0.2)
    assert abs(np.corrcoef(moved[:, 2], moved[:, 5])[0, 1]) < 0.1
    assert_spread(maps_of(shear_frac=0.2)[:, 1], -0.2, 0.2)
    scaled = maps_of(zoom_frac=0.5)
    assert_spread(1 / scaled[:, 0], 0.5, 1.5)
    np.testing.assert_array_equal(scaled[:, 0], scaled[:, 4])
    mirrored = maps_of(horizontal_flip=True)[:, 0]
    assert set(mirrored) == {-1.0, 1.0}
    assert math.isclose(mirrored.mean(), 0, abs_tol=0.1)


def test_the_same_seed_gives_the_same_changes_and_another_others(pictures: Floats) -> None:
    first = augmented(pictures, EVERYTHING)
    np.testing.assert_array_equal(first, augmented(pictures, EVERYTHING))
    for seed in ((3, 5), (4, 4)):
        assert np.abs(first - augmented(pictures, EVERYTHING, seed)).mean() > 1


def test_each_picture_is_changed_in_its_own_way(pictures: Floats) -> None:
    result = augmented(np.repeat(pictures[:1], 4, axis=0), EVERYTHING)
    for one in range(4):
        for other in range(one):
            assert np.abs(result[one] - result[other]).mean() > 1


def test_bytes_stay_bytes(pictures: Floats) -> None:
    images = tf.constant(pictures, tf.uint8)
    result = augment_batch(images, EVERYTHING, tf.constant(SEED))
    assert result.dtype == tf.uint8
    assert result.shape == images.shape
    difference = np.asarray(result, np.float64) - augmented(pictures, EVERYTHING)
    assert np.abs(difference).max() <= 1
