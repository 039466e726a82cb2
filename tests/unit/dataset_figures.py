"""A dataset's figures by hand, some of them from people who wish the page's reader ill."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from croplake import tables as t
from croplake.report.dataset import (
    ASPECT_RATIOS,
    SIDES_FRAC,
    SIDES_PX,
    Author,
    CategoryFigures,
    CreditFigures,
    DatasetFigures,
    DuplicateFigures,
    DuplicateGroup,
    FetchFigures,
)
from croplake.report.gallery import GalleryCrop

CC_BY = "https://creativecommons.org/licenses/by/2.0/"
SCRIPT = "<script>document.title = 'taken'</script>"
HANDLER = '"><img src=x onerror="document.title = \'taken\'">'
HOSTILE = {
    "title": SCRIPT,
    "author": HANDLER,
    "author_url": "javascript:document.title='taken'",
    "landing_url": "data:text/html,<script>alert(1)</script>",
    "license": "javascript://creativecommons.org/licenses/by/2.0/",
}


def crop(category: str, number: int, **changes: Any) -> GalleryCrop:  # noqa: ANN401
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (number * 40 % 256, 90, 160)).save(buffer, "JPEG")
    values: dict[str, Any] = {
        "category": category,
        "box_id": f"{category}{number}",
        "image_id": f"{number:016x}",
        "jpeg": buffer.getvalue(),
        "width_px": 40,
        "height_px": 30,
        "license": CC_BY,
        "author": "Ann",
        "author_url": "https://www.flickr.com/people/ann/",
        "title": f"Plain {number}",
        "landing_url": f"https://www.flickr.com/photos/ann/{number}",
    }
    return GalleryCrop(**values | changes)


def dataset_figures(**changes: Any) -> DatasetFigures:  # noqa: ANN401
    """Three categories, one of them hostile, one without a kept box; all parts have data."""
    pears = [crop("Pear", number) for number in range(24)]
    values: dict[str, Any] = {
        "dataset": "fruit",
        "made_at": datetime(2026, 11, 25, 3, 4, tzinfo=UTC),
        "versions": {"selected_boxes": 3, "crops": 1_234},
        "recipe": "recipe 0123456789ab",
        "categories": [
            CategoryFigures("Pear", {"train": 1_200, "test": 34}, 56, 1_100, 1_000),
            CategoryFigures(SCRIPT, {"train": 617}, 0, 600, 590),
            CategoryFigures("Quince", {}, 7),
        ],
        "num_photos": 1_500,
        "box_rejects": {"too_small": 60, "group_of": 3},
        "sides_frac": [100, 1_751, *[0] * (len(SIDES_FRAC.edges) - 1)],
        "flags": {(t.IS_OCCLUDED, 1): 185, (t.IS_OCCLUDED, 0): 1_600, (t.IS_OCCLUDED, -1): 66},
        "fetched": FetchFigures(
            num_crops=1_700,
            failures={("mirror", "not_found"): 100, ("none", "no_source"): 20},
            sides_px=[1_700, *[0] * len(SIDES_PX.edges)],
            aspect_ratios=[1_700, *[0] * len(ASPECT_RATIOS.edges)],
        ),
        "examples": {"train": 1_500, "test": 90, "rejected": 110},
        "example_rejects": {"too_small_px": 60, "near_duplicate": 50},
        "credit": CreditFigures(
            licences={CC_BY: 1_400, SCRIPT: 60, None: 30},
            num_other_licences=10,
            num_authors=321,
            authors=[
                Author("Ann", "https://www.flickr.com/people/ann/", 700),
                Author(HANDLER, HOSTILE["author_url"], 30),
            ],
        ),
        "duplicates": DuplicateFigures(
            4,
            11,
            [DuplicateGroup(5, pears[:4]), DuplicateGroup(2, pears[4:6])],
            {"buckets not compared": 1_006},
        ),
        "galleries": {"Pear": pears, SCRIPT: [crop(SCRIPT, 1, **HOSTILE)]},
    }
    return DatasetFigures(**values | changes)
