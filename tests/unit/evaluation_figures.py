"""Figures of a model by hand, of any number of categories, some with names that wish ill."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from croplake.evaluation.evaluated import Comparison, Evaluated
from croplake.evaluation.intervals import Interval
from croplake.evaluation.metrics import Metrics, measure_tally
from croplake.evaluation.mistakes import MistakeDistances
from croplake.evaluation.picture import confusion_png
from croplake.evaluation.tally import Tally
from croplake.report.evaluation import EvaluationFigures
from tests.unit.dataset_figures import HANDLER, HOSTILE, SCRIPT, crop

HISTORY = [
    {
        "epoch": float(epoch),
        "phase": 1.0 if epoch < 4 else 2.0,
        "loss": 2.0 / epoch,
        "accuracy": 1 - 0.6 / epoch,
        "validation_loss": 2.2 / epoch if epoch != 2 else float("nan"),
        "validation_accuracy": 1 - 0.7 / epoch,
        "learning_rate": 1e-3 / epoch,
    }
    for epoch in range(1, 7)
]


def evaluate(probabilities: Any, labels: Any, names: Sequence[str]) -> Metrics:  # noqa: ANN401
    """The figures of probabilities, shape (N, C), as the probe makes them."""
    return measure_tally(Tally.of(probabilities, labels), names)


def names_of(num_categories: int) -> list[str]:
    """One is a script, the others are plain."""
    return [SCRIPT, *(f"Kind {index}" for index in range(1, num_categories))][:num_categories]


def evaluated(num_categories: int = 6, *, seed: int = 1, **changes: Any) -> Evaluated:  # noqa: ANN401
    """A classifier that is right two times in three; the last category has no examples."""
    generator = np.random.default_rng(seed)
    num = 40 * num_categories
    labels = generator.integers(0, max(1, num_categories - 1), num)
    scores = generator.random((num, num_categories))
    is_right = generator.random(num) < 0.66
    scores[np.arange(num)[is_right], labels[is_right]] += generator.random(is_right.sum()) * 9
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    names = names_of(num_categories)
    metrics = evaluate(probabilities, labels, names)
    half = evaluate(probabilities[: num // 2], labels[: num // 2], names)
    values: dict[str, Any] = {
        "model_id": f"model-{seed}",
        "metrics": metrics,
        "interval": Interval(metrics.top1 - 0.03, metrics.top1 + 0.03),
        "slices": {"box_size=large": half, "box_size=small": metrics, f"box_source={SCRIPT}": half},
        "mistakes": MistakeDistances({2: 20, 4: 30}, 1),
    }
    return Evaluated(**values | changes)


def evaluation_figures(num_categories: int = 6, **changes: Any) -> EvaluationFigures:  # noqa: ANN401
    """A model beside another, all parts with data."""
    first, second = evaluated(num_categories), evaluated(num_categories, seed=2)
    mistakes = [crop("Kind 1", number, note="→ Kind 2, 97.1%") for number in range(14)]
    mistakes.append(crop(SCRIPT, 20, note=f"→ {HANDLER}, 50.0%", **HOSTILE))
    values: dict[str, Any] = {
        "dataset": "fruit",
        "split": "test",
        "made_at": datetime(2026, 11, 25, 3, 4, tzinfo=UTC),
        "versions": {"examples": 3, "crops": 1_234},
        "evaluated": first,
        "comparison": Comparison(first, second, 100, 30, 20, 90, Interval(-0.01, 0.09), 0.2026),
        "history": HISTORY,
        "mistakes": mistakes,
        "only_first": [crop("Kind 1", 30, note="→ Kind 3, 60.0%")],
        "only_second": [crop("Kind 1", 31, note="→ Kind 3, 60.0%")],
        "confusion_png": confusion_png(first.metrics, title="model-1"),
        "notes": [f"a note about {SCRIPT}"],
    }
    return EvaluationFigures(**values | changes)
