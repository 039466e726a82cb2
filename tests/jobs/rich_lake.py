"""A small lake with something of all that a report tells, and the command that makes it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from croplake import tables as t
from croplake.cli import main
from tests.html_page import Page, parse_page
from tests.jobs.small_lake import (
    ATTRIBUTION,
    CORNERS,
    FETCHED_AT,
    FLAGS,
    PHOTO_A,
    PHOTO_C,
    PHOTO_D,
    SmallLake,
    copy_small_lake,
)

PHOTO_E = f"{14:016x}"

Row = dict[str, Any]


def selected(box_id: str, image_id: str, **changes: Any) -> Row:  # noqa: ANN401
    row = {
        t.DATASET: "fruit",
        t.BOX_ID: box_id,
        t.IMAGE_ID: image_id,
        t.SUBSET: "train",
        t.CATEGORY: "Apple",
        **CORNERS,
        **FLAGS,
    }
    return row | changes


def failure(small: SmallLake, box_id: str, status: str, attempt: int, **changes: Any) -> Row:  # noqa: ANN401
    gone = {t.HAS_CROP: False, t.STATUS: status, t.JPEG: None, t.WIDTH_PX: None, t.HEIGHT_PX: None}
    gone |= {t.SOURCE_BOX_WIDTH_PX: None, t.SOURCE_BOX_HEIGHT_PX: None}
    gone |= {t.BOX_ID: box_id, t.IMAGE_ID: PHOTO_E, t.ATTEMPT: attempt}
    return small.crop("a1") | gone | changes


def make_rich_lake(original: SmallLake, folder: Path) -> SmallLake:
    """The small lake with rejects, a box that was never tried, tries of all kinds, duplicates."""
    small = copy_small_lake(original, folder)
    other = {t.LICENSE: None, t.AUTHOR: "Bob", t.AUTHOR_URL: "javascript:alert(1)"}
    small.add(t.PHOTOS, {t.IMAGE_ID: PHOTO_E, t.SUBSET: "train", **ATTRIBUTION, **other})
    tiny = {t.X_MAX: 0.1 + 1 / 64, t.IS_OCCLUDED: 1, t.IS_TRUNCATED: -1}
    small.add(
        t.SELECTED_BOXES,
        selected("e1", PHOTO_E, **tiny, **{t.REJECT_REASON: "too_small"}),
        selected("e2", PHOTO_E, **{t.CATEGORY: "Quince", t.REJECT_REASON: "group_of"}),
        selected("e3", PHOTO_E, **tiny),
        selected("e4", PHOTO_E, **{t.X_MIN: 0.0, t.X_MAX: 1.0, t.Y_MIN: 0.0, t.Y_MAX: 1.0}),
        selected("e5", PHOTO_E, **{t.X_MIN: 0.0, t.X_MAX: 0.5}),
        selected("e6", PHOTO_E, **{t.CATEGORY: "Pear", t.SUBSET: "test"}),
        selected("e7", PHOTO_E, **{t.SUBSET: "validation"}),
        selected("p9", PHOTO_E, **{t.DATASET: "pears", t.REJECT_REASON: "inside"}),
    )
    later = FETCHED_AT + timedelta(days=1)
    wide = {t.BOX_ID: "e6", t.IMAGE_ID: PHOTO_E, t.WIDTH_PX: 256, t.HEIGHT_PX: 64}
    wide |= {t.SOURCE_BOX_WIDTH_PX: 1025, t.SOURCE_BOX_HEIGHT_PX: 256, t.FETCHED_AT: later}
    small.add(
        t.CROPS,
        failure(small, "e3", "busy", 1, **{t.SOURCE: "original"}),
        failure(small, "e3", "not_found", 2, **{t.SOURCE: "thumbnail"}),
        failure(small, "e4", "busy", 1),
        failure(small, "e4", "host_paused", 1, **{t.FETCHED_AT: later}),
        failure(small, "e5", "no_source", 1, **{t.SOURCE: None}),
        failure(small, "e6", "timed_out", 2),  # a crop it has, whatever came later
        small.crop("a1") | wide,
        small.crop("a1") | {t.BOX_ID: "e7", t.RECIPE_ID: "another"},
        small.crop("a1") | {t.BOX_ID: "not selected"},
    )
    small.add(
        t.EXAMPLES,
        small.example("a1", **{t.SPLIT: t.REJECTED_SPLIT, t.REJECT_REASON: "near_duplicate"}),
        small.example("a1", **{t.SPLIT: t.REJECTED_SPLIT, t.REJECT_REASON: "too_small_px"}),
    )
    # The small lake has photos A and B in a group of A's name.
    groups = {PHOTO_E: PHOTO_A, PHOTO_C: "g2", PHOTO_D: "g3"}
    near = [{t.DATASET: "fruit", t.IMAGE_ID: i, t.GROUP_ID: g} for i, g in groups.items()]
    other_near = {t.DATASET: "pears", t.IMAGE_ID: PHOTO_D, t.GROUP_ID: "g2"}
    small.add(t.NEAR_DUPLICATES, *near, other_near)
    return small


def report(small: SmallLake, *arguments: str) -> Page:
    """Runs the command; gives the page at its usual place."""
    assert main(["report-dataset", "--conf", small.conf, *arguments]) == 0
    return parse_page((small.folder / "reports" / "fruit.html").read_text(encoding="utf-8"))
