"""Which boxes still have to be fetched, photo by photo."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.types import from_arrow_type

from croplake import tables as t
from croplake.conf import FetchConf
from croplake.fetching.outcome import TRANSIENT, Status
from croplake.fetching.photo_task import (
    AT_HAND_FIELD,
    AT_HAND_TYPE,
    BOXES_FIELD,
    LISTED_FIELD,
    TASK_SCHEMA,
)

_HAS = "has_any_crop"
_LOST = "is_lost"
_AT_HAND_TYPE = from_arrow_type(AT_HAND_TYPE)


def last_try() -> Column:
    """What orders the rows of a box: where its host was left alone, the number stays as it was."""
    return F.struct(t.ATTEMPT, t.FETCHED_AT)


def box_states(crops: DataFrame, recipe_id: str) -> DataFrame:
    """What the lake knows of each box under one recipe.

    Args:
        crops: rows of `crops`.
        recipe_id: the recipe.

    Returns:
        One row a box: `box_id`, `image_id`, `has_any_crop`, `attempt` (the greatest), `status` (of
        the last).
    """
    return (
        crops.where(F.col(t.RECIPE_ID) == recipe_id)
        .groupBy(t.BOX_ID, t.IMAGE_ID)
        .agg(
            F.max(t.HAS_CROP).alias(_HAS),
            F.max(t.ATTEMPT).alias(t.ATTEMPT),
            F.max_by(t.STATUS, last_try()).alias(t.STATUS),
        )
    )


def boxes_to_fetch(
    selected: DataFrame,
    states: DataFrame,
    conf: FetchConf,
    forgotten: DataFrame | None = None,
) -> DataFrame:
    """The kept boxes without a crop that are due a try.

    Args:
        selected: rows of `selected_boxes` of one dataset.
        states: from `box_states`.
        conf: which failures are tried again, and how often.
        forgotten: the `image_id` of photos that are never asked for, whatever was selected; None
            is none.

    Returns:
        The boxes, with `attempt`: the number of the coming try.
    """
    is_due = F.col(t.STATUS).isNull() | (_has_failed() & _is_tried_again(conf))
    kept = selected.where(F.col(t.REJECT_REASON).isNull())
    if forgotten is not None:
        kept = kept.join(F.broadcast(forgotten), on=t.IMAGE_ID, how="left_anti")
    joined = kept.join(states, on=[t.BOX_ID, t.IMAGE_ID], how="left").where(is_due)
    return joined.withColumn(t.ATTEMPT, F.coalesce(t.ATTEMPT, F.lit(0)) + 1)


def spent_boxes(states: DataFrame, conf: FetchConf) -> DataFrame:
    """The `box_id` of boxes that could not be had and are not tried again.

    Args:
        states: from `box_states`.
        conf: which failures are tried again, and how often.
    """
    return states.where(_is_spent(conf)).select(t.BOX_ID)


def lost_photos(states: DataFrame, conf: FetchConf) -> DataFrame:
    """The `image_id` of photos that could not be had and are not tried again.

    Where a crop of a photo is in the lake, its other boxes are not counted out for it.

    Args:
        states: from `box_states`.
        conf: which failures are tried again, and how often.
    """
    of_photo = ~F.col(t.STATUS).isin(Status.EMPTY_CROP.value, Status.UNEXPECTED.value)
    return (
        states.groupBy(t.IMAGE_ID)
        .agg(F.max(_is_spent(conf) & of_photo).alias(_LOST), F.max(_HAS).alias(_HAS))
        .where(F.col(_LOST) & ~F.col(_HAS))
        .select(t.IMAGE_ID)
    )


def _is_spent(conf: FetchConf) -> Column:
    return _has_failed() & ~_is_tried_again(conf)


def _has_failed() -> Column:
    return F.col(t.STATUS).isNotNull() & ~F.col(_HAS)


def _is_tried_again(conf: FetchConf) -> Column:
    may_pass = {
        "transient": F.col(t.STATUS).isin(*(status.value for status in TRANSIENT)),
        "all": F.lit(True),
        "none": F.lit(False),
    }[conf.retry]
    was_asked = F.col(t.STATUS) != Status.HOST_PAUSED.value
    return may_pass & ((F.col(t.ATTEMPT) < conf.max_attempts) | ~was_asked)


def photos_to_fetch(boxes: DataFrame) -> DataFrame:
    """Gathers the boxes of each photo, so that it is downloaded once.

    Args:
        boxes: from `boxes_to_fetch`.

    Returns:
        One row a photo: `image_id`, `subset` and its boxes in a fixed order.
    """
    of_box = F.struct(t.BOX_ID, t.LABEL_MID, *t.CORNERS, t.ATTEMPT)
    return boxes.groupBy(t.IMAGE_ID, t.SUBSET).agg(
        F.sort_array(F.collect_list(of_box)).alias(BOXES_FIELD)
    )


def photo_tasks(wanted: DataFrame, photos: DataFrame, at_hand: DataFrame | None) -> DataFrame:
    """Adds where each photo may be had, and whose it is.

    Args:
        wanted: from `photos_to_fetch`.
        photos: rows of `photos`.
        at_hand: `image_id` and `at_hand` of the photos that need not be downloaded, if any.

    Returns:
        One row a photo, in `photo_task.TASK_SCHEMA`. A photo the catalog does not list is there
        too, marked, so that its boxes get their reason.
    """
    known = photos.withColumn(LISTED_FIELD, F.lit(True))
    joined = wanted.join(known, on=[t.IMAGE_ID, t.SUBSET], how="left")
    if at_hand is None:
        joined = joined.withColumn(AT_HAND_FIELD, F.lit(None).cast(_AT_HAND_TYPE))
    else:
        joined = joined.join(at_hand, on=t.IMAGE_ID, how="left")
    listed = F.coalesce(LISTED_FIELD, F.lit(False)).alias(LISTED_FIELD)
    columns = [listed if name == LISTED_FIELD else F.col(name) for name in TASK_SCHEMA.names]
    return joined.select(*columns)
