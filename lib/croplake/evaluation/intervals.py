"""How sure a figure is: resampled photos, and the paired test of two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from croplake.evaluation.answers import Counts, Floats

LEVEL: Final = 0.95
"""Share of the resamples that an interval holds."""
_MAX_DRAWN: Final = 4_000_000
"""Numbers that are held at once."""


class Interval(NamedTuple):
    """From the 2.5 % to the 97.5 % percentile of the resamples."""

    low: float
    high: float


@dataclass(frozen=True)
class PhotoSums:
    """Photos by what their examples are worth: G kinds of photos, S classifiers.

    Boxes of a photo are not independent of each other, so photos are what is drawn anew. Photos
    with equally many examples and hits are alike to any resample, so a few hundred kinds stand for
    any number of photos.

    Attributes:
        num_examples: int64, shape (G,), examples of a photo of the kind.
        hits: int64, shape (G, S), how many of them each classifier has right.
        num_photos: int64, shape (G,), photos of the kind.
    """

    num_examples: Counts
    hits: Counts
    num_photos: Counts

    @staticmethod
    def of(rows: Sequence[tuple[int, ...]]) -> PhotoSums:
        """Takes rows of examples, hits of each classifier, photos; their order does not count."""
        table = np.array(sorted(rows), dtype=np.int64)
        return PhotoSums(table[:, 0], table[:, 1:-1], table[:, -1])


def resample_top1(sums: PhotoSums, *, resamples: int, seed: int) -> Floats:
    """Draws as many photos as there are, with replacement, again and again.

    Args:
        sums: of at least one photo.
        resamples: R, how often.
        seed: of the draws.

    Returns:
        float64, shape (R, S), top-1 of each classifier on each resample.
    """
    total = int(sums.num_photos.sum())
    shares = sums.num_photos / total
    generator = np.random.default_rng(seed)
    step = max(1, _MAX_DRAWN // len(shares))
    parts = []
    for start in range(0, resamples, step):
        drawn = generator.multinomial(total, shares, size=min(step, resamples - start))
        parts.append((drawn @ sums.hits) / (drawn @ sums.num_examples)[:, None])
    return np.concatenate(parts)


def percentile_interval(values: Floats) -> Interval:
    """The interval that holds `LEVEL` of the resampled values, as many below as above it."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))


def wilson_interval(num_right: int, num: int) -> Interval:
    """Wilson's 95 % interval of a share, for parts too small to be drawn anew.

    Args:
        num_right: how many are right.
        num: of how many, which are taken as independent of each other.

    Returns:
        The interval; NaN to NaN where there are none.
    """
    if not num:
        return Interval(math.nan, math.nan)
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, spread = num_right / num, z * z / num
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread * spread / 4) / (1 + spread)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """The exact McNemar test, two-sided: are two classifiers right equally often?

    Under that hypothesis an example that only one of them has right is a fair coin.

    Args:
        only_first: examples that only the first has right.
        only_second: examples that only the second has right.

    Returns:
        The probability of a difference as great as this one or greater; 1 where they never differ.
    """
    num, fewer = only_first + only_second, min(only_first, only_second)
    if 2 * fewer == num:
        return 1.0
    of_all = math.lgamma(num + 1) - num * math.log(2)
    tail = math.fsum(
        math.exp(of_all - math.lgamma(k + 1) - math.lgamma(num - k + 1)) for k in range(fewer + 1)
    )
    return min(1.0, 2 * tail)
