"""The page about a classification."""

from __future__ import annotations

from collections.abc import Mapping

from croplake import tables as t
from croplake.inference.photos import STATUS_UNSURE
from croplake.report.charts import Chart, draw_counts
from croplake.report.page import render
from croplake.report.predictions import PredictionFigures


def predictions_page(figures: PredictionFigures) -> str:
    """Lays out what became of all photos of a run as one HTML page."""
    failed = {
        status: count
        for status, count in figures.statuses.items()
        if status not in (t.STATUS_OK, STATUS_UNSURE)
    }
    return render(
        "predictions.html",
        figures=figures,
        num_photos=sum(figures.statuses.values()),
        num_decided=figures.statuses.get(t.STATUS_OK, 0),
        num_unsure=figures.statuses.get(STATUS_UNSURE, 0),
        num_failed=sum(failed.values()),
        failed=dict(sorted(failed.items(), key=lambda item: (-item[1], item[0]))),
        anchors={name: f"photos-{place}" for place, name in enumerate(figures.galleries)},
        charts=_charts(figures, failed),
    )


def _charts(figures: PredictionFigures, failed: Mapping[str, int]) -> dict[str, Chart]:
    counted = {
        "categories": ("Photos by category", "category", figures.categories),
        "failures": ("Photos without a category by status", "status", failed),
    }
    return {
        key: draw_counts(key, title, counts, what=what, unit="photos")
        for key, (title, what, counts) in counted.items()
        if counts
    }
