"""Every box of the chosen classes, kept or with the reason why not."""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.conf import DatasetSpec, FlagsSpec

FORGOTTEN: Final = "forgotten"
SUBSET_EXCLUDED: Final = "subset_excluded"
TOO_SMALL: Final = "too_small"
OVER_CAP: Final = "over_cap"

_IS_FORGOTTEN: Final = "is_forgotten"
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
    pairs = [F.lit(text) for pair in categories.items() for text in pair]
    chosen = boxes.where(F.col(t.LABEL_MID).isin(*categories))
    return chosen.withColumn(t.CATEGORY, F.create_map(*pairs)[F.col(t.LABEL_MID)])


def judge_boxes(
    boxes: DataFrame, spec: DatasetSpec, forgotten: DataFrame | None = None
) -> DataFrame:
    """Marks each box with the first rule it breaks, then caps what is left of each category.

    Args:
        boxes: from `select_classes`.
        spec: the dataset's rules.
        forgotten: the `image_id` of photos that no dataset takes; None is none.

    Returns:
        The columns of `selected_boxes`; `reject_reason` is null where the box is kept.
    """
    if forgotten is None:
        marked = boxes.withColumn(_IS_FORGOTTEN, F.lit(False))
    else:
        marks = forgotten.select(t.IMAGE_ID, F.lit(True).alias(_IS_FORGOTTEN))
        marked = boxes.join(F.broadcast(marks), on=t.IMAGE_ID, how="left")
    reasons = [
        F.when(F.col(_IS_FORGOTTEN), F.lit(FORGOTTEN)),
        F.when(~F.col(t.SUBSET).isin(*spec.subsets), F.lit(SUBSET_EXCLUDED)),
        *_flag_reasons(spec.flags),
        F.when(_shorter_side_frac() < spec.min_box_side_frac, F.lit(TOO_SMALL)),
    ]
    judged = marked.withColumn(t.REJECT_REASON, F.coalesce(*reasons))
    if spec.max_boxes_per_class is not None:
        judged = _cap(judged, spec.max_boxes_per_class)
    return judged.withColumn(t.DATASET, F.lit(spec.name)).select(*t.SELECTED_BOXES.columns)


def _shorter_side_frac() -> Column:
    width = F.col(t.X_MAX) - F.col(t.X_MIN)
    height = F.col(t.Y_MAX) - F.col(t.Y_MIN)
    return F.least(width, height)


def _flag_reasons(flags: FlagsSpec) -> list[Column]:
    reasons = []
    for column, name in _FLAG_FIELDS.items():
        rule = getattr(flags, name)
        if rule == "any":
            continue
        if flags.unknown == "reject":
            reasons.append(F.when(F.col(column) == -1, F.lit(f"{name}_unknown")))
        if rule == "exclude":
            reasons.append(F.when(F.col(column) == 1, F.lit(name)))
        else:
            reasons.append(F.when(F.col(column) == 0, F.lit(f"not_{name}")))
    return reasons


def _cap(judged: DataFrame, max_boxes: int) -> DataFrame:
    """Box ids are hashes, so their order is a fixed random one that no other box changes."""
    in_order = Window.partitionBy(t.CATEGORY, F.col(t.REJECT_REASON).isNull()).orderBy(t.BOX_ID)
    is_over = F.col(t.REJECT_REASON).isNull() & (F.row_number().over(in_order) > max_boxes)
    return judged.withColumn(
        t.REJECT_REASON, F.when(is_over, F.lit(OVER_CAP)).otherwise(F.col(t.REJECT_REASON))
    )
