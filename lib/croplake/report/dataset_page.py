"""The page about a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from croplake import tables as t
from croplake.catalog.formats import SUBSETS
from croplake.report.charts import Bar, Chart, draw_bars, draw_counts, draw_histogram, share
from croplake.report.credit import licence_name
from croplake.report.dataset import (
    ASPECT_RATIOS,
    SIDES_FRAC,
    SIDES_PX,
    CategoryFigures,
    CreditFigures,
    DatasetFigures,
)
from croplake.report.page import render

_FLAG_VALUES: Final = {"yes": 1, "unknown": -1, "no": 0}


def dataset_page(figures: DatasetFigures) -> str:
    """Lays out all figures of a dataset as one HTML page."""
    ordered = sorted(figures.categories, key=lambda one: (-one.num_all_kept, one.name))
    filled = [category for category in ordered if category.num_all_kept]
    return render(
        "dataset.html",
        figures=figures,
        subsets=SUBSETS,
        splits=t.SPLITS,
        categories=ordered,
        filled=filled,
        anchors={name: f"crops-{place}" for place, name in enumerate(figures.galleries)},
        charts=_charts(figures, filled),
    )


def _charts(figures: DatasetFigures, filled: list[CategoryFigures]) -> dict[str, Chart]:
    """Every chart there is data for, by its key."""
    charts: dict[str, Chart] = {}
    if filled:
        charts["categories"] = draw_bars(
            "categories",
            "Kept boxes by category and subset",
            [_category_bar(category) for category in filled],
            what="category",
            series=SUBSETS,
        )
        charts["sides-frac"] = draw_histogram(
            "sides-frac",
            "Kept boxes by shorter side, as a fraction of the photo's",
            SIDES_FRAC,
            figures.sides_frac,
            what="shorter side",
            unit="boxes",
        )
        charts["flags"] = _flags(figures)
    fetched = figures.fetched
    if fetched is not None and fetched.num_crops:
        charts["sides-px"] = draw_histogram(
            "sides-px",
            "Crops by shorter side of the box in px, before resizing",
            SIDES_PX,
            fetched.sides_px,
            what="px",
            unit="crops",
        )
        charts["aspect-ratios"] = draw_histogram(
            "aspect-ratios",
            "Crops by width to height, as they are seen",
            ASPECT_RATIOS,
            fetched.aspect_ratios,
            what="width to height",
            unit="crops",
        )
    counted: dict[str, tuple[str, str, str, Mapping[str, int]]] = {
        "box-rejects": ("Rejected boxes by reason", "reason", "boxes", figures.box_rejects),
        "example-rejects": (
            "Rejected examples by reason",
            "reason",
            "examples",
            figures.example_rejects,
        ),
        "failures": (
            "Boxes without a crop by source and status",
            "source: status",
            "boxes",
            {f"{pair[0]}: {pair[1]}": n for pair, n in fetched.failures.items()} if fetched else {},
        ),
    }
    if figures.credit is not None:
        by_licence = _licences(figures.credit)
        counted["licences"] = ("Photos by licence", "licence", "photos", by_licence)
    for key, (title, what, unit, counts) in counted.items():
        if counts:
            charts[key] = draw_counts(key, title, counts, what=what, unit=unit)
    return charts


def _category_bar(category: CategoryFigures) -> Bar:
    values = tuple(category.num_kept.get(subset, 0) for subset in SUBSETS)
    return Bar(category.name, values, f"{category.num_all_kept:,}")


def _flags(figures: DatasetFigures) -> Chart:
    bars = []
    for flag in t.FLAGS:
        values = tuple(figures.flags.get((flag, value), 0) for value in _FLAG_VALUES.values())
        bars.append(Bar(flag, values, share(values[0], sum(values))))
    title = "Kept boxes by flag; the share is of those that have it"
    return draw_bars("flags", title, bars, what="flag", series=tuple(_FLAG_VALUES))


def _licences(credit: CreditFigures) -> dict[str, int]:
    """Photos by the licence's name; addresses of the same name are one."""
    counts: dict[str, int] = {}
    for address, num_photos in credit.licences.items():
        name = licence_name(address)
        counts[name] = counts.get(name, 0) + num_photos
    if credit.num_other_licences:
        counts["other licences"] = credit.num_other_licences
    return counts
