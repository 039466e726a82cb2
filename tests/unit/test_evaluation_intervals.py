"""Intervals and the paired test, against the same things done the long way."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from croplake.evaluation.intervals import (
    PhotoSums,
    mcnemar_p,
    percentile_interval,
    resample_top1,
    wilson_interval,
)


def by_photos(photos: list[tuple[int, int]], resamples: int, seed: int) -> Any:  # noqa: ANN401
    """Top-1 of each resample, one drawn photo after the other."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = [photos[place] for place in generator.integers(0, len(photos), len(photos))]
        found.append(sum(hits for _, hits in drawn) / sum(num for num, _ in drawn))
    return np.array(found)


def test_kinds_of_photos_stand_for_their_photos() -> None:
    photos = [(1, 1)] * 40 + [(1, 0)] * 10 + [(6, 0)] * 5 + [(3, 2)] * 20
    sums = PhotoSums.of([(1, 1, 40), (1, 0, 10), (6, 0, 5), (3, 2, 20)])
    found = resample_top1(sums, resamples=4000, seed=3)[:, 0]
    long_way = by_photos(photos, 4000, 5)
    assert found.mean() == pytest.approx(long_way.mean(), abs=0.005)
    assert found.std() == pytest.approx(long_way.std(), rel=0.06)
    assert percentile_interval(found).low == pytest.approx(
        percentile_interval(long_way).low, abs=0.01
    )


def test_boxes_of_a_photo_stand_or_fall_together() -> None:
    apart = resample_top1(PhotoSums.of([(1, 1, 50), (1, 0, 50)]), resamples=2000, seed=1)
    together = resample_top1(PhotoSums.of([(10, 10, 5), (10, 0, 5)]), resamples=2000, seed=1)
    assert together.std() > 2.5 * apart.std()


def test_the_same_seed_gives_the_same_interval_whatever_the_order_of_the_rows() -> None:
    rows = [(2, 1, 30), (1, 1, 20), (1, 0, 9)]
    found = [
        percentile_interval(resample_top1(PhotoSums.of(order), resamples=500, seed=7)[:, 0])
        for order in (rows, rows[::-1])
    ]
    assert found[0] == found[1]
    assert found[0].low < 55 / 89 < found[0].high


def test_two_classifiers_are_measured_on_the_same_drawn_photos() -> None:
    # Wherever the first is right, so is the second, but for one photo in a hundred.
    sums = PhotoSums.of([(1, 1, 1, 60), (1, 0, 0, 39), (1, 1, 0, 1)])
    top1 = resample_top1(sums, resamples=2000, seed=1)
    difference = percentile_interval(top1[:, 0] - top1[:, 1])
    assert difference.low == 0
    assert 0 < difference.high <= 0.05
    alone = percentile_interval(top1[:, 0])
    assert alone.high - alone.low > 0.15


def test_a_single_photo_has_an_interval_of_one_value() -> None:
    top1 = resample_top1(PhotoSums.of([(4, 3, 1)]), resamples=100, seed=1)
    assert percentile_interval(top1[:, 0]) == (0.75, 0.75)


def test_many_kinds_of_photos_are_drawn_in_parts() -> None:
    rows = [(num, num // 2, 1) for num in range(1, 3001)]
    top1 = resample_top1(PhotoSums.of(rows), resamples=2000, seed=1)
    assert top1.shape == (2000, 1)
    assert 0.49 < top1.min() <= top1.max() <= 0.5
    assert len(np.unique(top1)) > 1000


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test_in_exact_numbers(one: int, other: int) -> None:
    num = one + other
    tail = sum(math.comb(num, k) for k in range(min(one, other) + 1))
    exact = min(Fraction(1), 2 * Fraction(tail, 2**num))
    assert mcnemar_p(one, other) == pytest.approx(float(exact), rel=1e-9)
    assert mcnemar_p(one, other) == mcnemar_p(other, one)


def test_mcnemar_of_known_cases() -> None:
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(5, 15) == pytest.approx(0.04139, abs=1e-5)  # as SciPy's binomtest has it
    assert mcnemar_p(0, 2000) == 0.0
    assert mcnemar_p(100_000, 100_001) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("num_right", "num", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_newcombes(num_right: int, num: int, low: float, high: float) -> None:
    """Source: Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson_interval(num_right, num) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(num - num_right, num)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_of_no_example_there_is_no_interval() -> None:
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
