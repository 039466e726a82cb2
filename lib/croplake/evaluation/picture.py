"""The confusion matrix as a picture."""

from __future__ import annotations

import io
import math
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, PowerNorm
from matplotlib.figure import Figure

from croplake.evaluation.answers import Counts, Floats
from croplake.evaluation.metrics import Metrics

_DPI: Final = 120
_MAX_WITH_COUNTS: Final = 25
"""Categories up to which every cell says its count."""
_MAX_TICKS: Final = 60
"""Category names along a side; of more categories every second, third, … is named."""
_MAX_NAME_CHARS: Final = 24


def confusion_png(metrics: Metrics, *, title: str) -> bytes:
    """Draws the confusion matrix: true categories down, guesses across.

    A cell's colour is its share of its row, so the diagonal shows each category's recall; a row
    without examples is grey. Up to 25 categories the cells say their counts; beyond, the colours
    follow the share's square root; beyond 60, not every category is named.

    Args:
        metrics: of C categories; C may be 1 to 601 and more.
        title: what was measured, such as model and split; top-1 is added.

    Returns:
        A PNG, 804 to 1992 px wide.
    """
    num_categories = len(metrics.categories)
    has_counts = num_categories <= _MAX_WITH_COUNTS
    side_in = min(max(4.2 + 0.33 * num_categories, 6.7), 16.6)
    figure = Figure(figsize=(side_in, 0.95 * side_in), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(
        _row_shares(metrics.confusion),
        cmap=_colours(),
        # Among many categories a confusion is a small share: the root makes it visible.
        norm=PowerNorm(1.0 if has_counts else 0.5, vmin=0, vmax=1),
        interpolation="nearest",
    )
    figure.colorbar(picture, ax=axes, shrink=0.7, label="share of the true category's examples")
    axes.set_title(
        f"{title}\ntop-1 {metrics.top1:.1%} of {metrics.num_examples:,} examples",
        fontsize=12,
        parse_math=False,
    )
    axes.set_xlabel("predicted category")
    axes.set_ylabel("true category")
    _name_ticks(axes, metrics.categories)
    if has_counts:
        _write_counts(axes, metrics.confusion)
    return _to_png(figure)


def _row_shares(confusion: Counts) -> Floats:
    """Each row divided by its sum; NaN, which is drawn grey, where that is 0."""
    support = confusion.sum(axis=1, keepdims=True)
    return np.where(support > 0, confusion / np.maximum(support, 1), np.nan)


def _colours() -> Colormap:
    return colormaps["Blues"].with_extremes(bad="0.85")


def _name_ticks(axes: Axes, categories: tuple[str, ...]) -> None:
    step = math.ceil(len(categories) / _MAX_TICKS)
    places = range(0, len(categories), step)
    names = [_shortened(categories[place]) for place in places]
    size = 9 if len(names) <= 30 else 7
    axes.set_xticks(places, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(places, names, fontsize=size, parse_math=False)


def _shortened(name: str) -> str:
    return name if len(name) <= _MAX_NAME_CHARS else name[: _MAX_NAME_CHARS - 1] + "…"


def _write_counts(axes: Axes, confusion: Counts) -> None:
    shares = _row_shares(confusion)
    size = 9 if len(confusion) <= 12 else 7
    for row, column in np.argwhere(confusion):
        axes.text(
            column,
            row,
            f"{confusion[row, column]:,}",
            ha="center",
            va="center",
            fontsize=size,
            color="white" if shares[row, column] > 0.55 else "black",
        )


def _to_png(figure: Figure) -> bytes:
    target = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(target, format="png")
    return target.getvalue()
