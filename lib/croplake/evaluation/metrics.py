"""The figures of a classifier on a set of examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from croplake.errors import InputDataError
from croplake.evaluation.answers import Counts, Floats
from croplake.evaluation.tally import Tally

LOSS: Final = "loss"
TOP1: Final = "top1"
TOP5: Final = "top5"
MACRO_F1: Final = "macro_f1"
ECE: Final = "ece"
NUM_EXAMPLES: Final = "num_examples"
NUM_UNSCORED: Final = "num_unscored"
NUM_NOT_FINITE: Final = "num_not_finite"
PRECISION: Final = "precision"
RECALL: Final = "recall"
F1: Final = "f1"
SUPPORT: Final = "support"
CONFUSION: Final = "confusion"
CONFIDENCE: Final = "confidence"
"""The names in the column `metric` of the table `evaluations`; `evaluated` has more."""


class Figure(NamedTuple):
    """A row of the table `evaluations` but for its keys; None where the column is null."""

    metric: str
    value: float
    category: str | None = None
    predicted_category: str | None = None
    slice: str | None = None
    other_model_id: str | None = None


@dataclass(frozen=True)
class Calibration:
    """How far the best guess's probability can be trusted; B equally wide bins of it.

    Attributes:
        counts: int64, shape (B,), examples whose best guess has a probability in the bin.
        confidence: float64, shape (B,), their mean probability; NaN in an empty bin.
        accuracy: float64, shape (B,), the share of them that is right; NaN in an empty bin.
        ece: expected calibration error, the mean over the examples of how far confidence and
            accuracy of their bin are apart.
    """

    counts: Counts
    confidence: Floats
    accuracy: Floats
    ece: float

    @property
    def bin_names(self) -> list[str]:
        """The bins in words, such as `0.93 to 1.00`."""
        edges = np.linspace(0, 1, len(self.counts) + 1)
        return [f"{edges[i]:.2f} to {edges[i + 1]:.2f}" for i in range(len(self.counts))]


@dataclass(frozen=True)
class Metrics:
    """Figures of one model on one split; C categories, in the order of the model's outputs.

    Two rules decide where a division by zero stands:

    - The precision of a category that is never predicted is 0: no guess of it was right.
    - Recall and F1 of a category without examples are NaN (null in the table): nothing can be
      said of them. Such a category is left out of `macro_f1`.

    Attributes:
        categories: C names.
        loss: mean cross-entropy in nats; see `tally.MIN_PROBABILITY`.
        top1: fraction of examples whose category is the best guess.
        top5: fraction whose category is among the min(5, C) best guesses.
        macro_f1: mean F1 of the categories that have examples.
        precision: float64, shape (C,).
        recall: float64, shape (C,).
        f1: float64, shape (C,).
        support: int64, shape (C,), number of examples.
        confusion: int64, shape (C, C), row = true category, column = best guess.
        calibration: of the best guess's probability.
        num_unscored: examples whose picture could not be shown to the model.
        num_not_finite: examples whose answer is no number (NaN): the model's training has diverged.
            Neither these nor the unscored are in any other figure.
    """

    categories: tuple[str, ...]
    loss: float
    top1: float
    top5: float
    macro_f1: float
    precision: Floats
    recall: Floats
    f1: Floats
    support: Counts
    confusion: Counts
    calibration: Calibration
    num_unscored: int = 0
    num_not_finite: int = 0

    @property
    def num_examples(self) -> int:
        """Examples that the figures are made of."""
        return int(self.support.sum())

    @property
    def overall(self) -> dict[str, float]:
        """The figures of the whole, by their names in the table."""
        return {
            LOSS: self.loss,
            TOP1: self.top1,
            TOP5: self.top5,
            MACRO_F1: self.macro_f1,
            ECE: self.calibration.ece,
            NUM_EXAMPLES: self.num_examples,
            NUM_UNSCORED: self.num_unscored,
            NUM_NOT_FINITE: self.num_not_finite,
        }

    def figures(self) -> Iterator[Figure]:
        """All of them in the tidy form of the table `evaluations`.

        A figure of the whole has neither category; precision, recall, f1 and support have a
        `category`; a `confusion` cell has the true `category` and the `predicted_category`. Only
        cells that are not 0 have a row (600 categories have 360,000 cells, nearly all of them 0),
        and so it is with the bins of the calibration, whose `slice` is `confidence=0.93 to 1.00`.
        """
        for metric, value in self.overall.items():
            yield Figure(metric, value)
        by_category = {
            PRECISION: self.precision,
            RECALL: self.recall,
            F1: self.f1,
            SUPPORT: self.support,
        }
        for metric, values in by_category.items():
            for category, value in zip(self.categories, values, strict=True):
                yield Figure(metric, float(value), category)
        for row, column in np.argwhere(self.confusion):
            cell = float(self.confusion[row, column])
            yield Figure(CONFUSION, cell, self.categories[row], self.categories[column])
        bins = self.calibration
        for place in np.flatnonzero(bins.counts):
            name = f"{CONFIDENCE}={bins.bin_names[place]}"
            yield Figure(NUM_EXAMPLES, float(bins.counts[place]), slice=name)
            yield Figure(CONFIDENCE, float(bins.confidence[place]), slice=name)
            yield Figure(TOP1, float(bins.accuracy[place]), slice=name)


def measure_tally(tally: Tally, categories: Sequence[str]) -> Metrics:
    """Makes the figures out of a tally.

    Args:
        tally: of all examples, of C categories.
        categories: C names.

    Returns:
        The figures.

    Raises:
        InputDataError: no example was scored.
        ValueError: the tally is of another number of categories.
    """
    confusion = tally.confusion
    if len(confusion) != len(categories):
        raise ValueError(f"{len(confusion)} categories were counted, {len(categories)} are named")
    if tally.num_examples == 0:
        raise InputDataError(
            f"no example to measure: {tally.num_unscored:,} pictures could not be decoded, the "
            f"answer to {tally.num_not_finite:,} is not a number (NaN, as of a model whose "
            "training has diverged)"
        )
    support, predicted, hits = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    has_examples = support > 0
    f1 = np.where(has_examples, _divide(2 * hits, support + predicted), np.nan)
    return Metrics(
        categories=tuple(categories),
        loss=tally.loss_sum / tally.num_examples,
        top1=tally.top1_hits / tally.num_examples,
        top5=tally.top5_hits / tally.num_examples,
        macro_f1=float(f1[has_examples].mean()),
        precision=_divide(hits, predicted),
        recall=np.where(has_examples, _divide(hits, support), np.nan),
        f1=f1,
        support=support,
        confusion=confusion,
        calibration=_calibrate(tally.bins),
        num_unscored=tally.num_unscored,
        num_not_finite=tally.num_not_finite,
    )


def _calibrate(bins: Floats) -> Calibration:
    counts, confidence_sums, hits = bins
    is_empty = counts == 0
    wholes = np.maximum(counts, 1)
    return Calibration(
        counts=counts.astype(np.int64),
        confidence=np.where(is_empty, np.nan, confidence_sums / wholes),
        accuracy=np.where(is_empty, np.nan, hits / wholes),
        ece=float(np.abs(confidence_sums - hits).sum() / counts.sum()),
    )


def _divide(parts: Counts, wholes: Counts) -> Floats:
    """Quotients; 0 where the whole is 0."""
    return np.asarray(parts / np.maximum(wholes, 1), dtype=np.float64)
