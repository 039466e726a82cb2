"""Every box of the chosen classes, kept or with the reason why not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.conf import DatasetSpec, FlagsSpec

FORGOTTEN: Final = "forgotten"
SUBSET_EXCLUDED: Final = "subset_excluded"
TOO_SMALL: Final = "too_small"
SOURCE_EXCLUDED: Final = "source_excluded"
LOW_CONFIDENCE: Final = "low_confidence"
LICENSE_EXCLUDED: Final = "license_excluded"
OVER_PHOTO_CAP: Final = "over_photo_cap"
OVER_CAP: Final = "over_cap"

_IS_FORGOTTEN: Final = "is_forgotten"
_IS_SPENT: Final = "is_spent"
_IS_LOST: Final = "is_lost"
_CORNER_DIGITS: Final = 6
"""The published corners' own; a difference of two has noise behind them."""
_FLAG_FIELDS: Final = {
    t.IS_OCCLUDED: "occluded",
    t.IS_TRUNCATED: "truncated",
    t.IS_GROUP_OF: "group_of",
    t.IS_DEPICTION: "depiction",
    t.IS_INSIDE: "inside",
}


def select_classes(boxes: DataFrame, categories: dict[str, str]) -> DataFrame:
    """The boxes of chosen classes, with their category.

    Args:
        boxes: rows of `boxes`.
        categories: MID to category.
    """
    # The condition reaches the Parquet reader, the join does not; a map of 600 would be searched
    # from its start for every row.
    chosen = boxes.where(F.col(t.LABEL_MID).isin(*categories))
    columns = {t.LABEL_MID: [*categories], t.CATEGORY: [*categories.values()]}
    named = boxes.sparkSession.createDataFrame(pa.table(columns))
    return chosen.join(F.broadcast(named), on=t.LABEL_MID)


def judge_boxes(
    boxes: DataFrame,
    spec: DatasetSpec,
    *,
    forgotten: DataFrame | None = None,
    photos: DataFrame | None = None,
    spent: DataFrame | None = None,
    lost: DataFrame | None = None,
) -> DataFrame:
    """Marks each box with the first rule it breaks, then caps what is left.

    Args:
        boxes: from `select_classes`.
        spec: the dataset's rules.
        forgotten: the `image_id` of photos that no dataset takes; None is none.
        photos: rows of `photos`; only a rule for licences looks at them.
        spent: the `box_id` of boxes that could not be fetched and are not tried again: they take no
            place under a cap; None is none.
        lost: the `image_id` of photos that could not be fetched and are not tried again: none of
            their boxes takes a place under a cap; None is none.

    Returns:
        The columns of `selected_boxes`; `reject_reason` is null where the box is kept.
    """
    marked = mark_rows(boxes, forgotten, t.IMAGE_ID, _IS_FORGOTTEN)
    reasons = [
        F.when(F.col(_IS_FORGOTTEN), F.lit(FORGOTTEN)),
        F.when(~F.col(t.SUBSET).isin(*spec.subsets), F.lit(SUBSET_EXCLUDED)),
        *_flag_reasons(spec.flags),
        F.when(shorter_side_frac() < spec.min_box_side_frac, F.lit(TOO_SMALL)),
        F.when(F.col(t.CONFIDENCE) < spec.min_confidence, F.lit(LOW_CONFIDENCE)),
    ]
    if spec.box_sources is not None:
        is_other = ~F.coalesce(F.col(t.SOURCE).isin(*spec.box_sources), F.lit(False))
        reasons.append(F.when(is_other, F.lit(SOURCE_EXCLUDED)))
    if spec.licenses is not None and photos is not None:
        licences = photos.select(t.IMAGE_ID, t.SUBSET, t.LICENSE)
        marked = marked.join(licences, on=[t.IMAGE_ID, t.SUBSET], how="left")
        reasons.append(F.when(~_fits_any(t.LICENSE, spec.licenses), F.lit(LICENSE_EXCLUDED)))
    judged = marked.withColumn(t.REJECT_REASON, F.coalesce(*reasons))
    caps = (
        (t.IMAGE_ID, spec.max_boxes_per_photo, OVER_PHOTO_CAP),
        (t.CATEGORY, spec.max_boxes_per_category, OVER_CAP),
    )
    if spec.is_capped:
        judged = mark_rows(judged, spent, t.BOX_ID, _IS_SPENT)
        judged = mark_rows(judged, lost, t.IMAGE_ID, _IS_LOST)
    for unit, max_boxes, reason in caps:
        if max_boxes is not None:
            judged = _cap(judged, unit, max_boxes, reason)
    return judged.withColumn(t.DATASET, F.lit(spec.name)).select(*t.SELECTED_BOXES.columns)


def mark_rows(rows: DataFrame, keys: DataFrame | None, key: str, mark: str) -> DataFrame:
    """Adds a column that says whether a row's key is among others.

    Args:
        rows: with the column `key`.
        keys: with the column `key`, each value once; None is none.
        key: the column's name.
        mark: name of the column of booleans that is added.
    """
    if keys is None:
        return rows.withColumn(mark, F.lit(False))
    marks = keys.select(key, F.lit(True).alias("marked"))
    joined = rows.join(marks, on=key, how="left")
    return joined.withColumn(mark, F.coalesce("marked", F.lit(False))).drop("marked")


def _fits_any(column: str, globs: Sequence[str]) -> Column:
    """Whether a text fits one of some globs, in any capitalisation; null fits none."""
    patterns = [_pattern_of(glob) for glob in globs]
    fits = F.lower(column).rlike("^(?:" + "|".join(patterns) + ")$")
    return F.coalesce(fits, F.lit(False))


def fits(text: str, glob: str) -> bool:
    """Whether a text fits a glob, as `judge_boxes` sees it."""
    return re.fullmatch(_pattern_of(glob), text.lower()) is not None


def _pattern_of(glob: str) -> str:
    signs = {"*": ".*", "?": "."}
    return "".join(signs.get(letter) or re.escape(letter) for letter in glob.lower())


def shorter_side_frac() -> Column:
    """Of a box, as a fraction of the photo's side."""
    width = F.col(t.X_MAX) - F.col(t.X_MIN)
    height = F.col(t.Y_MAX) - F.col(t.Y_MIN)
    return F.round(F.least(width, height), _CORNER_DIGITS)


def _flag_reasons(flags: FlagsSpec) -> list[Column]:
    reasons = []
    for column, name in _FLAG_FIELDS.items():
        rule = getattr(flags, name)
        if getattr(flags.unknown, name) == "reject":
            reasons.append(F.when(F.col(column) == -1, F.lit(f"{name}_unknown")))
        if rule == "exclude":
            reasons.append(F.when(F.col(column) == 1, F.lit(name)))
        elif rule == "only":
            reasons.append(F.when(F.col(column) == 0, F.lit(f"not_{name}")))
    return reasons


def _cap(judged: DataFrame, unit: str, max_boxes: int, reason: str) -> DataFrame:
    """Turns down what comes after the first boxes of a unit that have a crop, or may have one yet.

    Box ids are hashes, so their order is a fixed random one that no other box changes. A spent box,
    or one of a lost photo, keeps its place in line but does not count: the next one moves up. Under
    a photo's own cap nothing moves up where the photo is lost: it has no box to give.
    """
    is_kept = F.col(t.REJECT_REASON).isNull()
    before = (
        Window.partitionBy(unit, is_kept)
        .orderBy(t.BOX_ID)
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    may_have_crop = ~F.col(_IS_SPENT) & ~F.col(_IS_LOST)
    takes_place = may_have_crop | F.col(_IS_LOST) if unit == t.IMAGE_ID else may_have_crop
    counts = F.when(is_kept & takes_place, 1).otherwise(0)
    num_before = F.coalesce(F.sum(counts).over(before), F.lit(0))
    over = F.when(is_kept & (num_before >= max_boxes), F.lit(reason))
    return judged.withColumn(t.REJECT_REASON, F.coalesce(t.REJECT_REASON, over))
