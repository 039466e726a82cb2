"""The figures of a classifier on a set of examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.tally import AnyFloats, AnyInts, Counts, Floats, Tally

LOSS: Final = "loss"
TOP1: Final = "top1"
TOP5: Final = "top5"
MACRO_F1: Final = "macro_f1"
NUM_EXAMPLES: Final = "num_examples"
NUM_UNSCORED: Final = "num_unscored"
PRECISION: Final = "precision"
RECALL: Final = "recall"
F1: Final = "f1"
SUPPORT: Final = "support"
CONFUSION: Final = "confusion"
"""The names in the column `metric` of the table `evaluations`."""


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
        num_unscored: examples whose picture could not be scored; they are in no other figure.
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
    num_unscored: int = 0

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
            NUM_EXAMPLES: self.num_examples,
            NUM_UNSCORED: self.num_unscored,
        }

    def rows(self, run_id: str, model_id: str, dataset: str, split: str) -> list[dict[str, Any]]:
        """The figures in the tidy form of the table `evaluations`.

        A figure of the whole has neither category; precision, recall, f1 and support have a
        `category`; a `confusion` cell has the true `category` and the `predicted_category`. Only
        cells that are not 0 have a row (600 categories have 360,000 cells, nearly all of them 0).

        Args:
            run_id: of the evaluation.
            model_id: of the model.
            dataset: whose examples these are.
            split: of the dataset.

        Returns:
            One dict per row, with all columns of `tables.EVALUATIONS`; `value` is None for NaN.
        """
        keys = {t.RUN_ID: run_id, t.MODEL_ID: model_id, t.DATASET: dataset, t.SPLIT: split}
        return [
            keys
            | {
                t.METRIC: metric,
                t.CATEGORY: category,
                t.PREDICTED_CATEGORY: predicted,
                t.VALUE: None if np.isnan(value) else float(value),
            }
            for metric, category, predicted, value in self._figures()
        ]

    def _figures(self) -> Iterator[tuple[str, str | None, str | None, float]]:
        for metric, value in self.overall.items():
            yield metric, None, None, value
        by_category = {
            PRECISION: self.precision,
            RECALL: self.recall,
            F1: self.f1,
            SUPPORT: self.support,
        }
        for metric, values in by_category.items():
            for category, value in zip(self.categories, values, strict=True):
                yield metric, category, None, value
        for row, column in np.argwhere(self.confusion):
            cell = self.confusion[row, column]
            yield CONFUSION, self.categories[row], self.categories[column], cell


def evaluate(probabilities_NC: AnyFloats, labels_N: AnyInts, categories: Sequence[str]) -> Metrics:
    """Measures a classifier whose answers are at hand.

    Args:
        probabilities_NC: float, shape (N, C).
        labels_N: int, shape (N,), indices of the true categories.
        categories: C names.

    Returns:
        The figures.

    Raises:
        InputDataError: there are no examples.
        ValueError: the shapes do not fit, a label is no index of a category, or a probability is
            not a finite number.
    """
    return measure_tally(Tally.of(probabilities_NC, labels_N), categories)


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
            f"no example to measure: {tally.num_unscored} could not be scored, 0 could"
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
        num_unscored=tally.num_unscored,
    )


def _divide(parts: Counts, wholes: Counts) -> Floats:
    """Quotients; 0 where the whole is 0."""
    return np.asarray(parts / np.maximum(wholes, 1), dtype=np.float64)
