"""The page about a model on a split, and beside another one."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from croplake.evaluation.evaluated import Baseline, Comparison, Evaluated
from croplake.evaluation.metrics import Metrics
from croplake.evaluation.slices import KINDS
from croplake.evaluation.summary import percent, signed_points
from croplake.report.charts import Bar, Chart, draw_bars
from croplake.report.evaluation import EvaluationFigures
from croplake.report.lines import draw_lines, draw_reliability
from croplake.report.page import render

MAX_IN_TABLE: Final = 25
"""Categories up to which the confusion matrix is a table."""
MAX_PAIRS: Final = 40
_PAIRS_BESIDE_TABLE: Final = 12
MAX_WORST: Final = 15
_SHADES: Final = 5
_CURVES: Final = {
    "loss": ("Loss by epoch", {"training": "loss", "validation": "validation_loss"}),
    "accuracy": (
        "Accuracy by epoch",
        {"training": "accuracy", "validation": "validation_accuracy"},
    ),
    "rate": ("Learning rate by epoch", {"learning rate": "learning_rate"}),
}


@dataclass(frozen=True)
class CategoryRow:
    """A row of the table of categories, as text but for its names."""

    name: str
    precision: str
    recall: str
    f1: str
    support: str
    taken_for: str | None
    difference: str


@dataclass(frozen=True)
class PairRow:
    """A true category and what it was taken for."""

    category: str
    predicted: str
    num: str
    share: str


@dataclass(frozen=True)
class SliceRow:
    """A slice's figures as text."""

    value: str
    num: str
    top1: str
    loss: str
    macro_f1: str
    other_top1: str


def evaluation_page(figures: EvaluationFigures) -> str:
    """Lays out all figures of a model as one HTML page."""
    evaluated, comparison = figures.evaluated, figures.comparison
    metrics = evaluated.metrics
    return render(
        "evaluation.html",
        figures=figures,
        evaluated=evaluated,
        metrics=metrics,
        comparison=comparison,
        numbers=_numbers(evaluated) | _beside(figures.baseline, metrics.top1),
        compared=_compared(comparison) if comparison else {},
        p_value=f"{comparison.p_value:.3g}" if comparison else "",
        categories=_categories(metrics, comparison),
        changes=_changes(comparison) if comparison else [],
        pairs=_pairs(metrics),
        matrix=_matrix(metrics) if len(metrics.categories) <= MAX_IN_TABLE else None,
        png=_png_address(figures.confusion_png),
        slices=_slices(evaluated, comparison),
        charts=_charts(figures),
        percent=percent,
        signed=signed_points,
        max_worst=MAX_WORST,
    )


def _numbers(evaluated: Evaluated) -> dict[str, str]:
    metrics, interval = evaluated.metrics, evaluated.interval
    found = {
        "top-1": percent(metrics.top1),
        "its 95 % interval": f"{100 * interval.low:.1f}–{100 * interval.high:.1f}%",
        f"top-{min(5, len(metrics.categories))}": percent(metrics.top5),
        "macro F1": _number(metrics.macro_f1),
        "loss": _number(metrics.loss),
        "calibration error (ECE)": _number(metrics.calibration.ece),
        "examples": f"{metrics.num_examples:,}",
    }
    if evaluated.mistakes is not None and not math.isnan(evaluated.mistakes.mean):
        found["steps to a mistake, mean"] = f"{evaluated.mistakes.mean:.2f}"
    if metrics.num_unscored:
        found["pictures that could not be decoded"] = f"{metrics.num_unscored:,}"
    if metrics.num_not_finite:
        found["answers that are no number"] = f"{metrics.num_not_finite:,}"
    return found


def _beside(baseline: Baseline | None, top1: float) -> dict[str, str]:
    """The baseline's figures by name; a training that gains nothing over it was not worth it."""
    if baseline is None:
        return {}
    return {
        f"baseline's top-1: linear on {baseline.network}": percent(baseline.top1),
        "top-1 over the baseline, in points": signed_points(top1 - baseline.top1),
    }


def _compared(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Figures of both, by name."""
    first, second = _numbers(comparison.first), _numbers(comparison.second)
    return {name: (first.get(name, "–"), second.get(name, "–")) for name in {**first, **second}}


def _categories(metrics: Metrics, comparison: Comparison | None) -> list[CategoryRow]:
    """All of them, the lowest F1 first, those without examples last."""
    differences = comparison.f1_differences if comparison else np.full(len(metrics.f1), np.nan)
    rows = []
    for index in np.argsort(metrics.f1, kind="stable"):
        mistakes = metrics.confusion[index].copy()
        mistakes[index] = 0
        worst = int(mistakes.argmax())
        rows.append(
            CategoryRow(
                name=metrics.categories[index],
                precision=_number(metrics.precision[index]),
                recall=_number(metrics.recall[index]),
                f1=_number(metrics.f1[index]),
                support=f"{metrics.support[index]:,}",
                taken_for=metrics.categories[worst] if mistakes[worst] else None,
                difference=_signed(float(differences[index])),
            )
        )
    return rows


def _changes(comparison: Comparison) -> list[tuple[str, str]]:
    """The categories whose F1 differs most, the first's gains before its losses."""
    differences = comparison.f1_differences
    known = np.flatnonzero(np.nan_to_num(differences))
    order = known[np.argsort(-differences[known], kind="stable")]
    if len(order) > 2 * MAX_WORST:
        order = np.concatenate([order[:MAX_WORST], order[-MAX_WORST:]])
    names = comparison.first.metrics.categories
    return [(names[index], _signed(float(differences[index]))) for index in order]


def _pairs(metrics: Metrics) -> list[PairRow]:
    """What was most often taken for what."""
    mistakes = metrics.confusion.copy()
    np.fill_diagonal(mistakes, 0)
    at_most = _PAIRS_BESIDE_TABLE if len(mistakes) <= MAX_IN_TABLE else MAX_PAIRS
    flat = np.argsort(-mistakes, axis=None, kind="stable")[:at_most]
    rows = []
    for row, column in zip(*np.unravel_index(flat, mistakes.shape), strict=True):
        num = int(mistakes[row, column])
        if num:
            share = percent(num / int(metrics.support[row]))
            names = metrics.categories[row], metrics.categories[column]
            rows.append(PairRow(*names, f"{num:,}", share))
    return rows


def _matrix(metrics: Metrics) -> list[tuple[str, list[tuple[str, int]]]]:
    """Of each true category the counts, each with its shade, 0 for none."""
    shares = metrics.confusion / np.maximum(metrics.support, 1)[:, None]
    shades = np.ceil(shares * _SHADES).astype(int)
    return [
        (
            name,
            [
                (f"{num:,}", int(shade))
                for num, shade in zip(metrics.confusion[row], shades[row], strict=True)
            ],
        )
        for row, name in enumerate(metrics.categories)
    ]


def _png_address(png: bytes | None) -> str | None:
    return None if png is None else "data:image/png;base64," + base64.b64encode(png).decode()


def _slices(evaluated: Evaluated, comparison: Comparison | None) -> dict[str, list[SliceRow]]:
    """Rows by kind, in words."""
    found: dict[str, list[SliceRow]] = {}
    for name, part in evaluated.slices.items():
        kind, _, value = name.partition("=")
        other = comparison.second.slices.get(name) if comparison else None
        row = SliceRow(
            value=value,
            num=f"{part.num_examples:,}",
            top1=percent(part.top1),
            loss=_number(part.loss),
            macro_f1=_number(part.macro_f1),
            other_top1=percent(other.top1) if other else "–",
        )
        found.setdefault(KINDS.get(kind, kind), []).append(row)
    return found


def _charts(figures: EvaluationFigures) -> dict[str, Chart]:
    evaluated = figures.evaluated
    calibration = evaluated.metrics.calibration
    title = "How often guesses are right, by their probability"
    charts = {"reliability": draw_reliability("reliability", title, calibration)}
    mistakes = evaluated.mistakes
    if mistakes is not None and mistakes.counts:
        bars = [Bar(_steps(n), (num,), f"{num:,}") for n, num in mistakes.counts.items()]
        title = "Mistakes by distance in the class hierarchy"
        charts["distances"] = draw_bars(
            "distances", title, bars, what="distance", series=("mistakes",)
        )
    return charts | _curves(figures.history or ())


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, Chart]:
    """What training has recorded; a series, or a chart, that it has not is left out."""
    marks = [
        round(now["epoch"])
        for before, now in pairwise(history)
        if "epoch" in now and now.get("phase", 1) != before.get("phase", 1)
    ]
    charts: dict[str, Chart] = {}
    for key, (title, names) in _CURVES.items():
        series: dict[str, dict[int, float]] = {}
        for name, field in names.items():
            points = {
                round(record.get("epoch", place)): float(record[field])
                for place, record in enumerate(history, start=1)
                if _is_number(record.get(field))
            }
            if points:
                series[name] = points
        if series:
            charts[key] = draw_lines(
                key,
                title,
                series,
                what="epoch",
                in_words=(lambda value: f"{value:.0%}") if key == "accuracy" else _short,
                top=1.0 if key == "accuracy" else None,
                marks=marks,
            )
    return charts


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _steps(number: int) -> str:
    return f"{number} {'step' if number == 1 else 'steps'}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "−")
