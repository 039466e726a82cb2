"""Counts of a classifier's answers that add up over batches, partitions and machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from croplake.evaluation.answers import Answers, AnyFloats, AnyInts, Counts, Floats

MIN_PROBABILITY: Final = 1e-7
"""Less counts as this much in the cross-entropy, as in Keras; a certain miss costs 16.1, not ∞."""
TOP: Final = 5
NUM_BINS: Final = 15
"""Equally wide intervals of the best guess's probability, for calibration."""

_LOSS_SUM: Final = "loss_sum"
_TOP1_HITS: Final = "top1_hits"
_TOP5_HITS: Final = "top5_hits"
_NUM_UNSCORED: Final = "num_unscored"
_NUM_NOT_FINITE: Final = "num_not_finite"
_SUMS: Final = (_LOSS_SUM, _TOP1_HITS, _TOP5_HITS, _NUM_UNSCORED, _NUM_NOT_FINITE)
_CONFUSION: Final = "confusion"
_BINS: Final = ("bin_examples", "bin_confidence", "bin_hits")
"""Cells of the bins, in the order of the rows of `Tally.bins`; the bin stands in `label_index`."""


class Cell(NamedTuple):
    """One number of a tally; the sum of cells of equal names is the cell of the whole.

    Attributes:
        name: what is counted.
        label_index: row of the confusion matrix, or the bin; -1 for any other number.
        predicted_index: its column, -1 for any other number.
        value: the count, or the sum.
    """

    name: str
    label_index: int
    predicted_index: int
    value: float


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
    def of(probabilities_NC: AnyFloats, labels_N: AnyInts, *, num_unscored: int = 0) -> Tally:
        """Counts a batch of probabilities; see `Answers.of`, whose errors it raises."""
        answers = Answers.of(probabilities_NC, labels_N)
        return Tally.of_answers(answers, probabilities_NC.shape[1], num_unscored=num_unscored)

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
        return Tally(0.0, 0, 0, 0, 0, confusion, np.zeros((len(_BINS), NUM_BINS)))

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

    def cells(self) -> Iterator[Cell]:
        """The tally as numbers to add up elsewhere; those of a matrix that are 0 are left out."""
        yield Cell(_LOSS_SUM, -1, -1, self.loss_sum)
        yield Cell(_TOP1_HITS, -1, -1, self.top1_hits)
        yield Cell(_TOP5_HITS, -1, -1, self.top5_hits)
        yield Cell(_NUM_UNSCORED, -1, -1, self.num_unscored)
        yield Cell(_NUM_NOT_FINITE, -1, -1, self.num_not_finite)
        for row, column in np.argwhere(self.confusion):
            yield Cell(_CONFUSION, int(row), int(column), int(self.confusion[row, column]))
        for row, place in np.argwhere(self.bins):
            yield Cell(_BINS[row], int(place), -1, float(self.bins[row, place]))

    @staticmethod
    def from_cells(cells: Iterable[Cell], num_categories: int) -> Tally:
        """Adds up cells of any number of tallies; the opposite of `cells`."""
        sums = dict.fromkeys(_SUMS, 0.0)
        total = Tally.empty(num_categories)
        for cell in cells:
            if cell.name == _CONFUSION:
                total.confusion[cell.label_index, cell.predicted_index] += int(cell.value)
            elif cell.name in _BINS:
                total.bins[_BINS.index(cell.name), cell.label_index] += cell.value
            else:
                sums[cell.name] += cell.value
        return Tally(
            sums[_LOSS_SUM],
            int(sums[_TOP1_HITS]),
            int(sums[_TOP5_HITS]),
            int(sums[_NUM_UNSCORED]),
            int(sums[_NUM_NOT_FINITE]),
            total.confusion,
            total.bins,
        )
