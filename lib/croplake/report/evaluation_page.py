"""The page about a model on a split, and beside another one."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Final

import numpy as np

from croplake.evaluation.evaluated import Baseline, Comparison, Evaluated
from croplake.evaluation.intervals import Interval, wilson_interval
from croplake.evaluation.metrics import Metrics
from croplake.evaluation.slices import KINDS
from croplake.evaluation.summary import percent, signed_points
from croplake.report.charts import Bar, Bins, Chart, draw_bars, draw_histogram, share
from croplake.report.evaluation import EvaluationFigures
from croplake.report.lines import draw_lines, draw_reliability
from croplake.report.page import render

MAX_IN_TABLE: Final = 25
"""Categories up to which the confusion matrix is a table."""
MAX_CONFUSED: Final = 20
"""Of more categories, those that the table has: the most often confused, beside all others."""
MAX_PAIRS: Final = 40
_PAIRS_BESIDE_TABLE: Final = 12
MAX_WORST: Final = 15
MIN_EXAMPLES: Final = 10
"""Of fewer a category's F1 is little but chance: the worst are looked for among the others."""
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
    support: int
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
class MatrixRow:
    """A true category, its cells with their shades, and its guesses that no column has."""

    name: str
    cells: list[tuple[str, int]]
    num_other: int


@dataclass(frozen=True)
class SliceRow:
    """A slice's figures as text."""

    value: str
    num: str
    top1: str
    interval: str
    loss: str
    macro_f1: str
    other_top1: str


def evaluation_page(figures: EvaluationFigures) -> str:
    """Lays out all figures of a model as one HTML page."""
    evaluated, comparison = figures.evaluated, figures.comparison
    metrics = evaluated.metrics
    categories = _categories(metrics, comparison)
    return render(
        "evaluation.html",
        figures=figures,
        evaluated=evaluated,
        metrics=metrics,
        comparison=comparison,
        numbers=_numbers(evaluated) | _beside(figures.baseline, metrics.top1),
        compared=_compared(comparison) if comparison else {},
        p_value=f"{comparison.p_value:.3g}" if comparison else "",
        categories=categories,
        worst=_worst(categories),
        min_examples=MIN_EXAMPLES,
        changes=_changes(comparison) if comparison else [],
        pairs=_pairs(metrics),
        matrix=_matrix(metrics, _in_matrix(metrics)),
        png=_png_address(figures.confusion_png),
        slices=_slices(evaluated, comparison),
        charts=_charts(figures),
        has_phases=bool(_phase_starts(figures.history or ())),
        signed=signed_points,
    )


def _numbers(evaluated: Evaluated) -> dict[str, str]:
    metrics, interval = evaluated.metrics, evaluated.interval
    found = {
        "top-1": percent(metrics.top1),
        "top-1, 95 % interval": _interval(interval),
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
                support=int(metrics.support[index]),
                taken_for=metrics.categories[worst] if mistakes[worst] else None,
                difference=_signed(float(differences[index])),
            )
        )
    return rows


def _worst(categories: Sequence[CategoryRow]) -> list[CategoryRow]:
    """The categories to look at first; none where the table of all is short."""
    if len(categories) <= MAX_WORST:
        return []
    return [row for row in categories if row.support >= MIN_EXAMPLES][:MAX_WORST]


def _changes(comparison: Comparison) -> list[tuple[str, str, int]]:
    """The categories whose F1 differs most, the first's gains before its losses."""
    differences = comparison.f1_differences
    known = np.flatnonzero(np.nan_to_num(differences))
    order = known[np.argsort(-differences[known], kind="stable")]
    if len(order) > 2 * MAX_WORST:
        order = np.concatenate([order[:MAX_WORST], order[-MAX_WORST:]])
    metrics = comparison.first.metrics
    return [
        (metrics.categories[i], _signed(float(differences[i])), int(metrics.support[i]))
        for i in order
    ]


def _confused(metrics: Metrics) -> Iterator[tuple[int, int]]:
    """True category and guess of every kind of mistake, the most frequent first."""
    mistakes = metrics.confusion.copy()
    np.fill_diagonal(mistakes, 0)
    flat = np.argsort(-mistakes, axis=None, kind="stable")[: np.count_nonzero(mistakes)]
    for row, column in zip(*np.unravel_index(flat, mistakes.shape), strict=True):
        yield int(row), int(column)


def _pairs(metrics: Metrics) -> list[PairRow]:
    """What was most often taken for what."""
    at_most = _PAIRS_BESIDE_TABLE if len(metrics.categories) <= MAX_IN_TABLE else MAX_PAIRS
    rows = []
    for row, column in islice(_confused(metrics), at_most):
        num = int(metrics.confusion[row, column])
        of_all = percent(num / int(metrics.support[row]))
        names = metrics.categories[row], metrics.categories[column]
        rows.append(PairRow(*names, f"{num:,}", of_all))
    return rows


def _in_matrix(metrics: Metrics) -> list[int]:
    """The categories that the matrix has room for: all, or those most taken for each other."""
    if len(metrics.categories) <= MAX_IN_TABLE:
        return [*range(len(metrics.categories))]
    chosen: dict[int, None] = {}
    for pair in _confused(metrics):
        if len(chosen.keys() | pair) <= MAX_CONFUSED:
            chosen |= dict.fromkeys(pair)
        if len(chosen) == MAX_CONFUSED:
            break
    return [*chosen]


def _matrix(metrics: Metrics, chosen: Sequence[int]) -> list[MatrixRow]:
    """Of each chosen category the counts, each with its shade, 0 for none."""
    rows = []
    for row in chosen:
        counts = metrics.confusion[row, chosen]
        support = int(metrics.support[row])
        shades = np.ceil(counts / max(support, 1) * _SHADES).astype(int)
        cells = [
            (f"{num:,}" if num else "", int(shade))
            for num, shade in zip(counts, shades, strict=True)
        ]
        rows.append(MatrixRow(metrics.categories[row], cells, support - int(counts.sum())))
    return rows


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
            interval=_interval(wilson_interval(int(part.confusion.trace()), part.num_examples)),
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
    charts = {
        "reliability": draw_reliability("reliability", title, calibration),
        "confidences": draw_histogram(
            "confidences",
            "Examples by the probability of the best guess",
            _probability_bins(len(calibration.counts)),
            calibration.counts.tolist(),
            what="probability",
            unit="examples",
        ),
    }
    mistakes = evaluated.mistakes
    if mistakes is not None and mistakes.counts:
        total = sum(mistakes.counts.values())
        bars = [
            Bar(_steps(n), (num,), f"{num:,} ({share(num, total)})")
            for n, num in mistakes.counts.items()
        ]
        title = "Mistakes by distance in the class hierarchy"
        charts["distances"] = draw_bars(
            "distances", title, bars, what="distance", series=("mistakes",)
        )
    return charts | _curves(figures.history or ())


def _probability_bins(num: int) -> Bins:
    """Equally wide bins of a probability, a few of whose edges are named."""
    edges = tuple(place / num for place in range(1, num))
    return Bins(edges, tuple(f"{edge:.0%}" for edge in edges), tuple(range(2, num - 1, 3)))


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, Chart]:
    """What training has recorded; a series, or a chart, that it has not is left out."""
    marks = _phase_starts(history)
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


def _phase_starts(history: Sequence[Mapping[str, float]]) -> list[int]:
    """The epochs that begin a phase, but for the first."""
    return [
        round(now["epoch"])
        for before, now in pairwise(history)
        if "epoch" in now and now.get("phase", 1) != before.get("phase", 1)
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _steps(number: int) -> str:
    return f"{number} {'step' if number == 1 else 'steps'}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _interval(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "–"
    return f"{100 * interval.low:.1f}–{100 * interval.high:.1f}%"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "−")
