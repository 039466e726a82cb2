"""A classifier's answers, cut down to what figures are made of: a few numbers an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
AnyFloats: TypeAlias = NDArray[np.floating[Any]]
AnyInts: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Answers:
    """What a classifier says of N examples.

    Among equal probabilities the category of the lower index counts as the better guess.

    Attributes:
        labels: int64, shape (N,), indices of the true categories.
        predicted: int64, shape (N,), indices of the best guesses.
        confidences: float64, shape (N,), probabilities of the best guesses.
        label_probabilities: float64, shape (N,), probabilities of the true categories.
        ranks: int64, shape (N,), how many categories are better guesses than the true one.
    """

    labels: Counts
    predicted: Counts
    confidences: Floats
    label_probabilities: Floats
    ranks: Counts

    @staticmethod
    def of(probabilities_NC: AnyFloats, labels_N: AnyInts) -> Answers:
        """Cuts probabilities down.

        Args:
            probabilities_NC: float, shape (N, C); N may be 0.
            labels_N: int, shape (N,), indices of the true categories.

        Raises:
            ValueError: the shapes do not fit, a label is no index of a category, or a probability
                is not a finite number.
        """
        _check(probabilities_NC, labels_N)
        probabilities = np.asarray(probabilities_NC, dtype=np.float64)
        labels = np.asarray(labels_N, dtype=np.int64)
        of_label = probabilities[np.arange(len(labels)), labels]
        return Answers(
            labels=labels,
            predicted=probabilities.argmax(axis=1).astype(np.int64),
            confidences=probabilities.max(axis=1),
            label_probabilities=of_label,
            ranks=_ranks(probabilities, labels, of_label),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: NDArray[Any]) -> Answers:
        """Some of them, by a mask or by indices."""
        return Answers(
            self.labels[which],
            self.predicted[which],
            self.confidences[which],
            self.label_probabilities[which],
            self.ranks[which],
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
    return np.asarray((better | equal_and_first).sum(axis=1), dtype=np.int64)
