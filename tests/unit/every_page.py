"""One of each kind of page, with all parts, and one with names that are too long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Final

from croplake.report.dataset_page import dataset_page
from croplake.report.evaluation_page import evaluation_page
from croplake.report.predictions_page import predictions_page
from croplake.report.similar_page import FoundCrop, similar_page
from tests.unit.dataset_figures import crop, dataset_figures
from tests.unit.evaluation_figures import evaluation_figures
from tests.unit.prediction_figures import prediction_figures, shown
from tests.unit.similar_figures import similar_figures

_LONG: Final = "W" * 100
_PAGES: Final[dict[str, Callable[[], str]]] = {
    "dataset": lambda: dataset_page(dataset_figures()),
    "evaluation": lambda: evaluation_page(evaluation_figures()),
    "many categories": lambda: evaluation_page(evaluation_figures(600, comparison=None)),
    "predictions": lambda: predictions_page(prediction_figures()),
    "similar": lambda: similar_page(similar_figures()),
}
KINDS: Final = tuple(_PAGES)
GALLERIES: Final = {
    "dataset": ("Pear", 24),
    "evaluation": ("Mistakes", 15),
    "many categories": ("Mistakes", 15),
    "predictions": ("Pear", 24),
    "similar": ("Similar crops", 30),
}
"""A gallery of each page, and the pictures in it."""


@cache
def page_of(kind: str) -> str:
    return _PAGES[kind]()


def long_page_of(kind: str) -> str:
    """Names, titles and authors are one long word each."""
    crops = [
        crop(_LONG, number, author=_LONG, title=_LONG, note=f"→ {_LONG}") for number in range(30)
    ]
    if kind == "dataset":
        return dataset_page(dataset_figures(galleries={_LONG: crops}, dataset=_LONG))
    if kind == "predictions":
        photos = {_LONG: [shown(_LONG, number, path=_LONG) for number in range(30)]}
        return predictions_page(prediction_figures(galleries=photos, csv=_LONG, model_id=_LONG))
    if kind == "similar":
        asked = replace(similar_figures().asked, name=_LONG)
        found = [FoundCrop(one, 0.5) for one in crops]
        return similar_page(similar_figures(asked=asked, found=found, network=_LONG))
    num_categories = 25 if kind == "evaluation" else 600
    figures = evaluation_figures(num_categories, mistakes=crops, dataset=_LONG, notes=[_LONG])
    return evaluation_page(figures)
