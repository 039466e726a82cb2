"""All that is known of a classifier on a split, and of two of them on the same examples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from croplake import tables as t
from croplake.evaluation.answers import Floats
from croplake.evaluation.intervals import Interval
from croplake.evaluation.metrics import Figure, Metrics
from croplake.evaluation.mistakes import MistakeDistances

CI_LOW: Final = "top1_ci_low"
CI_HIGH: Final = "top1_ci_high"
HIERARCHY_DISTANCE: Final = "hierarchy_distance"
NUM_MISTAKES: Final = "num_mistakes"
NUM_WITHOUT_PATH: Final = "num_mistakes_without_path"
DIFFERENCE: Final = "top1_difference"
DIFFERENCE_LOW: Final = "top1_difference_ci_low"
DIFFERENCE_HIGH: Final = "top1_difference_ci_high"
MCNEMAR_P: Final = "mcnemar_p"
NUM_BOTH: Final = "num_both_right"
NUM_ONLY_FIRST: Final = "num_only_this_right"
NUM_ONLY_SECOND: Final = "num_only_other_right"
NUM_NEITHER: Final = "num_neither_right"
"""Further names in the column `metric` of the table `evaluations`."""


@dataclass(frozen=True)
class Evaluated:
    """Figures of a model, or of an ensemble, on a split.

    Attributes:
        model_id: of the model; of an ensemble its members', joined by `+`.
        metrics: of the whole split.
        interval: of top-1.
        slices: `kind=value` to the figures of the examples that are so.
        mistakes: by their distance in the class hierarchy; None where the lake has none.
        members: ids of an ensemble's models; none of a single model.
    """

    model_id: str
    metrics: Metrics
    interval: Interval
    slices: Mapping[str, Metrics] = field(default_factory=dict)
    mistakes: MistakeDistances | None = None
    members: tuple[str, ...] = ()

    def figures(self) -> Iterator[Figure]:
        """In the tidy form of the table `evaluations`; a slice has its overall figures."""
        yield from self.metrics.figures()
        yield Figure(CI_LOW, self.interval.low)
        yield Figure(CI_HIGH, self.interval.high)
        mistakes = self.mistakes
        yield Figure(HIERARCHY_DISTANCE, mistakes.mean if mistakes else math.nan)
        if mistakes is not None:
            yield Figure(NUM_WITHOUT_PATH, mistakes.num_without_path)
            for steps, num in mistakes.counts.items():
                yield Figure(NUM_MISTAKES, num, slice=f"distance={steps}")
        for name, part in self.slices.items():
            for metric, value in part.overall.items():
                yield Figure(metric, value, slice=name)


class Baseline(NamedTuple):
    """What a training must beat: a linear classifier on another network's vectors.

    Attributes:
        network: its name.
        top1: of the classifier, on the same split of the same examples.
    """

    network: str
    top1: float


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the examples that both have answered.

    Attributes:
        first: the one that is measured.
        second: what it is compared with.
        num_both: examples that both have right.
        num_only_first: examples that only the first has right.
        num_only_second: examples that only the second has right.
        num_neither: examples that neither has right.
        interval: of the difference of top-1, first minus second.
        p_value: of the exact McNemar test.
    """

    first: Evaluated
    second: Evaluated
    num_both: int
    num_only_first: int
    num_only_second: int
    num_neither: int
    interval: Interval
    p_value: float

    @property
    def num_examples(self) -> int:
        """Examples that both have answered."""
        return self.num_both + self.num_only_first + self.num_only_second + self.num_neither

    @property
    def difference(self) -> float:
        """Of top-1, first minus second; NaN without common examples."""
        if not self.num_examples:
            return math.nan
        return (self.num_only_first - self.num_only_second) / self.num_examples

    @property
    def f1_differences(self) -> Floats:
        """First minus second, float64, shape (C,); NaN for a category without examples."""
        return np.asarray(self.first.metrics.f1 - self.second.metrics.f1)

    def figures(self) -> Iterator[Figure]:
        """In the tidy form of the table, beside `other_model_id`."""
        values = {
            DIFFERENCE: self.difference,
            DIFFERENCE_LOW: self.interval.low,
            DIFFERENCE_HIGH: self.interval.high,
            MCNEMAR_P: self.p_value,
            NUM_BOTH: self.num_both,
            NUM_ONLY_FIRST: self.num_only_first,
            NUM_ONLY_SECOND: self.num_only_second,
            NUM_NEITHER: self.num_neither,
        }
        for metric, value in values.items():
            yield Figure(metric, value, other_model_id=self.second.model_id)


def evaluation_rows(
    figures: Iterable[Figure], run_id: str, model_id: str, dataset: str, split: str
) -> list[dict[str, Any]]:
    """Figures as rows of the table `evaluations`.

    Args:
        figures: of the model.
        run_id: of the evaluation.
        model_id: of the model.
        dataset: whose examples these are.
        split: of the dataset.

    Returns:
        One dict a figure, with all columns of the table; `value` is None for NaN.
    """
    keys = {t.RUN_ID: run_id, t.MODEL_ID: model_id, t.DATASET: dataset, t.SPLIT: split}
    return [
        keys
        | {
            t.SLICE: figure.slice,
            t.METRIC: figure.metric,
            t.CATEGORY: figure.category,
            t.PREDICTED_CATEGORY: figure.predicted_category,
            t.OTHER_MODEL_ID: figure.other_model_id,
            t.VALUE: float(figure.value) if math.isfinite(figure.value) else None,
        }
        for figure in figures
    ]
