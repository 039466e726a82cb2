"""What kind of box an example is: parts of a split that are measured by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.inference.examples import SLICES

BOX_SIZE: Final = "box_size"
OCCLUDED: Final = "occluded"
TRUNCATED: Final = "truncated"
PHOTO_SOURCE: Final = "photo_source"
BOX_SOURCE: Final = "box_source"
KINDS: Final = {
    BOX_SIZE: "Box size (small: below 5 % of the photo's area, medium: below 25 %)",
    OCCLUDED: "Partly hidden by another object",
    TRUNCATED: "Extends beyond the photo's edge",
    PHOTO_SOURCE: "Where the photo came from",
    BOX_SOURCE: "How the box was made",
}
"""Every kind of slice, in words."""
_SMALL_FRAC: Final = 0.05
_MEDIUM_FRAC: Final = 0.25
_UNKNOWN: Final = "unknown"


def with_slices(
    answers: DataFrame, crops: DataFrame | None = None, boxes: DataFrame | None = None
) -> DataFrame:
    """Names the slices of every example, `kind=value` each.

    Args:
        answers: with the columns `box_id`, `box_area_frac`, `is_occluded`, `is_truncated`.
        crops: rows of `crops` of the recipe; None leaves out `photo_source`.
        boxes: rows of `boxes`; None leaves out `box_source`.

    Returns:
        The same rows with the column `slices`, a list of strings.
    """
    values: dict[str, Column] = {
        BOX_SIZE: _size(),
        OCCLUDED: _flag(t.IS_OCCLUDED),
        TRUNCATED: _flag(t.IS_TRUNCATED),
    }
    found = answers
    if crops is not None:
        found = _join_source(found, crops.where(F.col(t.HAS_CROP)), PHOTO_SOURCE)
        values[PHOTO_SOURCE] = F.coalesce(PHOTO_SOURCE, F.lit(_UNKNOWN))
    if boxes is not None:
        found = _join_source(found, boxes, BOX_SOURCE)
        values[BOX_SOURCE] = F.coalesce(BOX_SOURCE, F.lit(_UNKNOWN))
    return found.withColumn(SLICES, _names(values)).select(*answers.columns, SLICES)


def _join_source(answers: DataFrame, rows: DataFrame, name: str) -> DataFrame:
    """The `source` of each example's row; no example is lost or doubled."""
    sources = rows.groupBy(t.BOX_ID).agg(F.min(t.SOURCE).alias(name))
    return answers.join(sources, on=t.BOX_ID, how="left")


def _size() -> Column:
    area = F.col(t.BOX_AREA_FRAC)
    return (
        F.when(area.isNull(), _UNKNOWN)
        .when(area < _SMALL_FRAC, "small")
        .when(area < _MEDIUM_FRAC, "medium")
        .otherwise("large")
    )


def _flag(name: str) -> Column:
    flag = F.col(name)
    return F.when(flag == 1, "yes").when(flag == 0, "no").otherwise(_UNKNOWN)


def _names(values: Mapping[str, Column]) -> Column:
    return F.array(*(F.concat(F.lit(f"{kind}="), value) for kind, value in values.items()))
