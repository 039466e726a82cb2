"""Counts of a classifier's answers that add up over batches, partitions and machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
AnyFloats: TypeAlias = NDArray[np.floating[Any]]
AnyInts: TypeAlias = NDArray[np.integer[Any]]

MIN_PROBABILITY: Final = 1e-7
"""Less counts as this much in the cross-entropy, as in Keras; a certain miss costs 16.1, not ∞."""
TOP: Final = 5

_LOSS_SUM: Final = "loss_sum"
_TOP1_HITS: Final = "top1_hits"
_TOP5_HITS: Final = "top5_hits"
_NUM_UNSCORED: Final = "num_unscored"
_CONFUSION: Final = "confusion"


class Cell(NamedTuple):
    """One number of a tally; the sum of cells of equal names is the cell of the whole.

    Attributes:
        name: what is counted.
        label_index: row of the confusion matrix, -1 for any other number.
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
        num_unscored: examples without probabilities; they are in no other number.
        confusion: int64, shape (C, C), row = true category, column = best guess.
    """

    loss_sum: float
    top1_hits: int
    top5_hits: int
    num_unscored: int
    confusion: Counts

    @staticmethod
    def of(probabilities_NC: AnyFloats, labels_N: AnyInts, *, num_unscored: int = 0) -> Tally:
        """Counts a batch.

        Among equal probabilities the category of the lower index counts as the better guess, for
        top-1, top-5 and the confusion matrix alike.

        Args:
            probabilities_NC: float, shape (N, C); N may be 0.
            labels_N: int, shape (N,), indices of the true categories.
            num_unscored: further examples that have no probabilities.

        Returns:
            The batch's tally.

        Raises:
            ValueError: the shapes do not fit, a label is no index of a category, or a probability
                is not a finite number.
        """
        _check(probabilities_NC, labels_N)
        probabilities = np.asarray(probabilities_NC, dtype=np.float64)
        labels = np.asarray(labels_N, dtype=np.int64)
        num_categories = probabilities.shape[1]
        of_label = probabilities[np.arange(len(labels)), labels]
        ranks = _ranks(probabilities, labels, of_label)
        cells = labels * num_categories + probabilities.argmax(axis=1)
        counts = np.bincount(cells, minlength=num_categories**2)
        return Tally(
            loss_sum=float(-np.log(of_label.clip(MIN_PROBABILITY, 1)).sum()),
            top1_hits=int((ranks < 1).sum()),
            top5_hits=int((ranks < TOP).sum()),
            num_unscored=num_unscored,
            confusion=counts.reshape(num_categories, num_categories).astype(np.int64),
        )

    @staticmethod
    def empty(num_categories: int) -> Tally:
        """The tally of no examples."""
        return Tally(0.0, 0, 0, 0, np.zeros((num_categories, num_categories), dtype=np.int64))

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.loss_sum + other.loss_sum,
            self.top1_hits + other.top1_hits,
            self.top5_hits + other.top5_hits,
            self.num_unscored + other.num_unscored,
            self.confusion + other.confusion,
        )

    @property
    def num_examples(self) -> int:
        """Examples that were scored."""
        return int(self.confusion.sum())

    def cells(self) -> Iterator[Cell]:
        """The tally as numbers to add up elsewhere; empty cells of the matrix are left out."""
        yield Cell(_LOSS_SUM, -1, -1, self.loss_sum)
        yield Cell(_TOP1_HITS, -1, -1, self.top1_hits)
        yield Cell(_TOP5_HITS, -1, -1, self.top5_hits)
        yield Cell(_NUM_UNSCORED, -1, -1, self.num_unscored)
        for row, column in np.argwhere(self.confusion):
            yield Cell(_CONFUSION, int(row), int(column), int(self.confusion[row, column]))

    @staticmethod
    def from_cells(cells: Iterable[Cell], num_categories: int) -> Tally:
        """Adds up cells of any number of tallies; the opposite of `cells`."""
        sums = {_LOSS_SUM: 0.0, _TOP1_HITS: 0.0, _TOP5_HITS: 0.0, _NUM_UNSCORED: 0.0}
        confusion = np.zeros((num_categories, num_categories), dtype=np.int64)
        for cell in cells:
            if cell.name == _CONFUSION:
                confusion[cell.label_index, cell.predicted_index] += int(cell.value)
            else:
                sums[cell.name] += cell.value
        return Tally(
            sums[_LOSS_SUM],
            int(sums[_TOP1_HITS]),
            int(sums[_TOP5_HITS]),
            int(sums[_NUM_UNSCORED]),
            confusion,
        )


def _check(probabilities_NC: AnyFloats, labels_N: AnyInts) -> None:
    if probabilities_NC.ndim != 2 or labels_N.shape != probabilities_NC.shape[:1]:
        raise ValueError(
            "expected probabilities (N, C) and labels (N,), "
            f"got {probabilities_NC.shape} and {labels_N.shape}"
        )
    num_categories = probabilities_NC.shape[1]
    if len(labels_N) and (labels_N.min() < 0 or labels_N.max() >= num_categories):
        raise ValueError(
            f"labels must be in 0..{num_categories - 1}, got {labels_N.min()}..{labels_N.max()}"
        )
    if not np.isfinite(probabilities_NC).all():
        raise ValueError("probabilities must be finite numbers, got NaN or infinity")


def _ranks(probabilities: Floats, labels: Counts, of_label: Floats) -> Counts:
    """How many categories are better guesses than each example's true one, shape (N,)."""
    better = probabilities > of_label[:, None]
    first = np.arange(probabilities.shape[1]) < labels[:, None]
    equal_and_first = (probabilities == of_label[:, None]) & first
    return np.asarray((better | equal_and_first).sum(axis=1))
