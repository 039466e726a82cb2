"""The figures of a classifier as text for a terminal."""

from __future__ import annotations

import math

import numpy as np
from rich.console import Group
from rich.table import Table

from croplake.evaluation.metrics import Metrics
from croplake.summary import titled


def summarize(metrics: Metrics, *, title: str, max_categories: int = 40) -> Group:
    """Lays out the overall figures and those of each category.

    Args:
        metrics: to show.
        title: what was measured, such as model and split.
        max_categories: of more categories only this many are shown, the lowest F1 first; the
            table `evaluations` has them all.

    Returns:
        What `rich.print` prints; nothing is printed here.
    """
    return Group(titled(title, _overall(metrics)), _by_category(metrics, max_categories))


def _overall(metrics: Metrics) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("examples", f"{metrics.num_examples:,}")
    if metrics.num_unscored:
        table.add_row("examples that could not be scored", f"{metrics.num_unscored:,}")
    table.add_row("loss", f"{metrics.loss:.4f}")
    table.add_row("top-1", f"{metrics.top1:.2%}")
    table.add_row(f"top-{min(5, len(metrics.categories))}", f"{metrics.top5:.2%}")
    table.add_row("macro F1", f"{metrics.macro_f1:.4f}")
    return table


def _by_category(metrics: Metrics, max_categories: int) -> Table:
    num_categories = len(metrics.categories)
    order = np.arange(num_categories)
    caption = None
    if num_categories > max_categories:
        # NaN sorts last: a category without examples is not among the worst.
        order = np.argsort(metrics.f1, kind="stable")[:max_categories]
        caption = f"the {max_categories} lowest F1 of {num_categories} categories"
    table = Table(caption=caption, caption_justify="left")
    table.add_column("category")
    for header in ("precision", "recall", "F1", "examples"):
        table.add_column(header, justify="right")
    for index in order:
        table.add_row(
            metrics.categories[index],
            _share(metrics.precision[index]),
            _share(metrics.recall[index]),
            _share(metrics.f1[index]),
            f"{metrics.support[index]:,}",
        )
    return table


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
