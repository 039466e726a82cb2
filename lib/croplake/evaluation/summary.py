"""The figures of a classifier as text for a terminal."""

from __future__ import annotations

import math

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from croplake.evaluation.evaluated import Comparison, Evaluated
from croplake.evaluation.metrics import Metrics
from croplake.summary import titled


def summarize(evaluated: Evaluated, *, title: str, max_categories: int = 40) -> Group:
    """Lays out the overall figures and those of each category.

    Args:
        evaluated: to show.
        title: what was measured, such as model and split.
        max_categories: of more categories only this many are shown, the lowest F1 first; the
            table `evaluations` has them all.

    Returns:
        What `rich.print` prints; nothing is printed here.
    """
    by_category = _by_category(evaluated.metrics, max_categories)
    return Group(titled(title, _overall(evaluated)), by_category)


def summarize_comparison(comparison: Comparison) -> Group:
    """Lays out two models beside each other; see `summarize`."""
    first, second = comparison.first, comparison.second
    table = Table()
    table.add_column("figure")
    for one in (first, second):
        table.add_column(one.model_id, justify="right", overflow="fold")
    table.add_row("top-1", percent(first.metrics.top1), percent(second.metrics.top1))
    table.add_row("macro F1", f"{first.metrics.macro_f1:.4f}", f"{second.metrics.macro_f1:.4f}")
    table.add_row("loss", f"{first.metrics.loss:.4f}", f"{second.metrics.loss:.4f}")
    eces = [f"{one.metrics.calibration.ece:.4f}" for one in (first, second)]
    table.add_row("calibration error (ECE)", *eces)
    nums = comparison.num_only_first, comparison.num_only_second
    table.add_row("examples that only it has right", *(f"{num:,}" for num in nums))
    low, high = comparison.interval
    said = (
        f"top-1 differs by {signed_points(comparison.difference)} points (95 % interval "
        f"{signed_points(low)} to {signed_points(high)}), McNemar p = {comparison.p_value:.3g}"
    )
    return Group(titled("beside each other", table), Text(said))


def percent(value: float) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.2%}"


def signed_points(value: float) -> str:
    """A difference of shares in percentage points, always with its sign."""
    return "–" if math.isnan(value) else f"{100 * value:+.2f}".replace("-", "−")


def _overall(evaluated: Evaluated) -> Table:
    metrics = evaluated.metrics
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    for member in evaluated.members:
        table.add_row("member", member)
    table.add_row("examples", f"{metrics.num_examples:,}")
    if metrics.num_unscored:
        table.add_row("examples that could not be scored", f"{metrics.num_unscored:,}")
    if metrics.num_not_finite:
        table.add_row("answers that are no number", f"{metrics.num_not_finite:,}")
    table.add_row("loss", f"{metrics.loss:.4f}")
    table.add_row("top-1", f"{metrics.top1:.2%}")
    low, high = evaluated.interval
    table.add_row("top-1, 95 % interval", f"{percent(low)} to {percent(high)}")
    table.add_row(f"top-{min(5, len(metrics.categories))}", f"{metrics.top5:.2%}")
    table.add_row("macro F1", f"{metrics.macro_f1:.4f}")
    table.add_row("calibration error (ECE)", f"{metrics.calibration.ece:.4f}")
    if evaluated.mistakes is not None and not math.isnan(evaluated.mistakes.mean):
        table.add_row("steps to a mistake, mean", f"{evaluated.mistakes.mean:.2f}")
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
