"""Counts of a classifier's answers that add up over batches, partitions and machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from croplake.evaluation.answers import Answers, AnyFloats, AnyInts, Counts, Floats

MIN_PROBABILITY: Final = 1e-7
"""Less counts as this much in the cross-entropy, as in Keras; a certain miss costs 16.1, not ∞."""
TOP: Final = 5
NUM_BINS: Final = 15
"""Equally wide intervals of the best guess's probability, for calibration."""

_NUM_SUMS: Final = 5
_NUM_ROWS: Final = 3
"""Of the bins."""


class Cells(NamedTuple):
    """The numbers of a tally that are not 0, M of them; those of equal places add up.

    Attributes:
        places: int64, shape (M,): the five sums in the order of `Tally`, then the confusion matrix
            and the bins, row by row.
        values: float64, shape (M,).
    """

    places: Counts
    values: Floats


@dataclass(frozen=True)
class Tally:
    """What the figures of a set of examples are made of.

    Attributes:
        loss_sum: cross-entropies added up, in nats.
        top1_hits: examples whose category is the best guess.
        top5_hits: examples whose category is among the five best (all, where there are fewer).
        num_unscored: examples whose picture could not be shown to the model.
        num_not_finite: examples whose answer is no number; neither these nor the unscored are in
            any other number.
        confusion: int64, shape (C, C), row = true category, column = best guess.
        bins: float64, shape (3, NUM_BINS): examples, their confidences added up, and hits, by the
            probability of the best guess; a bin holds its lower edge, the last one both.
    """

    loss_sum: float
    top1_hits: int
    top5_hits: int
    num_unscored: int
    num_not_finite: int
    confusion: Counts
    bins: Floats

    @staticmethod
    def of(probabilities_NC: AnyFloats, labels_N: AnyInts) -> Tally:
        """Counts a batch of probabilities; see `Answers.of`, whose errors it raises."""
        return Tally.of_answers(Answers.of(probabilities_NC, labels_N), probabilities_NC.shape[1])

    @staticmethod
    def of_answers(
        answers: Answers, num_categories: int, *, num_unscored: int = 0, num_not_finite: int = 0
    ) -> Tally:
        """Counts answers.

        Args:
            answers: of N examples; N may be 0.
            num_categories: C.
            num_unscored: further examples whose picture could not be shown to the model.
            num_not_finite: further examples whose answer is no number.
        """
        cells = answers.labels * num_categories + answers.predicted
        counts = np.bincount(cells, minlength=num_categories**2)
        is_hit = answers.ranks < 1
        places = np.clip((answers.confidences * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
        weights = (np.ones(len(answers)), answers.confidences, is_hit.astype(np.float64))
        return Tally(
            loss_sum=float(-np.log(answers.label_probabilities.clip(MIN_PROBABILITY, 1)).sum()),
            top1_hits=int(is_hit.sum()),
            top5_hits=int((answers.ranks < TOP).sum()),
            num_unscored=num_unscored,
            num_not_finite=num_not_finite,
            confusion=counts.reshape(num_categories, num_categories).astype(np.int64),
            bins=np.stack([np.bincount(places, each, minlength=NUM_BINS) for each in weights]),
        )

    @staticmethod
    def empty(num_categories: int) -> Tally:
        """The tally of no examples."""
        confusion = np.zeros((num_categories, num_categories), dtype=np.int64)
        return Tally(0.0, 0, 0, 0, 0, confusion, np.zeros((_NUM_ROWS, NUM_BINS)))

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.loss_sum + other.loss_sum,
            self.top1_hits + other.top1_hits,
            self.top5_hits + other.top5_hits,
            self.num_unscored + other.num_unscored,
            self.num_not_finite + other.num_not_finite,
            self.confusion + other.confusion,
            self.bins + other.bins,
        )

    @property
    def num_examples(self) -> int:
        """Examples that were scored."""
        return int(self.confusion.sum())

    def cells(self) -> Cells:
        """The tally as numbers to add up elsewhere."""
        sums = (
            self.loss_sum,
            self.top1_hits,
            self.top5_hits,
            self.num_unscored,
            self.num_not_finite,
        )
        numbers = np.concatenate([sums, self.confusion.ravel(), self.bins.ravel()])
        places = np.flatnonzero(numbers)
        return Cells(places, numbers[places])

    @staticmethod
    def from_cells(cells: Cells, num_categories: int) -> Tally:
        """Adds up cells of any number of tallies; the opposite of `cells`."""
        bins_from = _NUM_SUMS + num_categories**2
        num_numbers = bins_from + _NUM_ROWS * NUM_BINS
        counted = np.bincount(cells.places, cells.values, minlength=num_numbers)
        numbers: Floats = counted.astype(np.float64)
        sums, confusion, bins = np.split(numbers, [_NUM_SUMS, bins_from])
        loss_sum, *counts = sums.tolist()
        top1_hits, top5_hits, num_unscored, num_not_finite = map(int, counts)
        return Tally(
            loss_sum,
            top1_hits,
            top5_hits,
            num_unscored,
            num_not_finite,
            confusion.reshape(num_categories, num_categories).astype(np.int64),
            bins.reshape(_NUM_ROWS, NUM_BINS),
        )
