"""What a dataset's page says, as small frames that Spark has added up."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.report.dataset import ASPECT_RATIOS, SIDES_FRAC, SIDES_PX
from croplake.selection.rules import shorter_side_frac
from croplake.selection.todo import last_try

NUM: Final = "num"
WHAT: Final = "what"
SIDE_FRAC: Final = "side_frac"
SIDE_PX: Final = "side_px"
ASPECT_RATIO: Final = "aspect_ratio"
FILE_KEY: Final = "file_key"
PLACE: Final = "place"

_LAST: Final = "last"
_CROP: Final = "crop"
_MAX_GROUPS: Final = 12
_MAX_PHOTOS_OF_GROUP: Final = 6


def file_key(name: str) -> int:
    """What orders files at random, but always alike: a number of the name, as `key_of_file`'s."""
    return zlib.crc32(name.encode())


def key_of_file(name: Column) -> Column:
    """`file_key` of a column; eight bytes a row, where the name would be eighty."""
    return F.crc32(name.cast("binary"))


def count_by(rows: DataFrame, *columns: str) -> DataFrame:
    """Rows that are equal in some columns: these, and `num`."""
    return rows.groupBy(*columns).agg(F.count("*").alias(NUM))


def bin_of(value: Column, edges: Sequence[float]) -> Column:
    """The place of a value's bin: how many edges are at it or below it."""
    return reduce(add, [(value >= edge).cast("int") for edge in edges])


def tally_boxes(kept: DataFrame) -> DataFrame:
    """How often each value is found among boxes: `what`, `value`, `num`.

    Args:
        kept: rows of `selected_boxes` of one dataset.

    Returns:
        For each flag its values (1, 0, -1), for `SIDE_FRAC` the bins of the shorter side.
    """
    flags = {name: F.col(name) for name in t.FLAGS}
    return _tally(kept, {SIDE_FRAC: bin_of(shorter_side_frac(), SIDES_FRAC.edges), **flags})


def _tally(rows: DataFrame, values: Mapping[str, Column]) -> DataFrame:
    pairs = [
        F.struct(F.lit(what).alias(WHAT), value.cast("int").alias(t.VALUE))
        for what, value in values.items()
    ]
    return count_by(rows.select(F.inline(F.array(*pairs))), WHAT, t.VALUE)


def box_fates(kept: DataFrame, crops: DataFrame, recipe_id: str) -> DataFrame:
    """What became of each kept box.

    Args:
        kept: rows of `selected_boxes` of one dataset.
        crops: rows of `crops`, with the `file_key` of the file that each lies in; no bytes are
            looked at.
        recipe_id: the recipe.

    Returns:
        One row a box: `box_id`, `image_id`, `category`, and of its crop, or else of its last try,
        `has_crop`, `status`, `source`, `side_px` (of the box before resizing), `width_px`,
        `height_px`, `file_key`; these are null where it was never tried.
    """
    told = F.struct(
        t.HAS_CROP,
        t.STATUS,
        t.SOURCE,
        F.least(t.SOURCE_BOX_WIDTH_PX, t.SOURCE_BOX_HEIGHT_PX).alias(SIDE_PX),
        t.WIDTH_PX,
        t.HEIGHT_PX,
        FILE_KEY,
    )
    tries = (
        crops.where(F.col(t.RECIPE_ID) == recipe_id)
        .groupBy(t.BOX_ID)
        .agg(F.max_by(told, F.struct(t.HAS_CROP, last_try())).alias(_LAST))
    )
    boxes = kept.select(t.BOX_ID, t.IMAGE_ID, t.CATEGORY)
    return boxes.join(tries, on=t.BOX_ID, how="left").select(*boxes.columns, f"{_LAST}.*")


def tally_crops(fates: DataFrame) -> DataFrame:
    """How often each bin is found among crops: `what`, `value`, `num`.

    Args:
        fates: from `box_fates`.

    Returns:
        For `SIDE_PX` the bins of the box's shorter side before resizing, for `ASPECT_RATIO` those
        of width ÷ height, as the crop is seen.
    """
    bins = {
        SIDE_PX: bin_of(F.col(SIDE_PX), SIDES_PX.edges),
        ASPECT_RATIO: bin_of(F.col(t.WIDTH_PX) / F.col(t.HEIGHT_PX), ASPECT_RATIOS.edges),
    }
    return _tally(fates.where(F.col(t.HAS_CROP)), bins)


def choose_crops(fates: DataFrame, per_category: int, at_most: int) -> DataFrame:
    """Some crops of each category, out of few files.

    All categories take theirs from file after file in one order, in a file by `box_id`: both are as
    good as random. Most categories have enough crops in the first files; for a rare one more are
    read.

    Args:
        fates: from `box_fates`.
        per_category: of each category, at most.
        at_most: of all; each category has as many, to within one.

    Returns:
        `category`, `box_id`, `file_key`, `width_px`, `height_px` and `place`, from 1 on, in its
        category: all first ones, then all second ones, and so on.
    """
    in_order = Window.partitionBy(t.CATEGORY).orderBy(FILE_KEY, t.BOX_ID)
    crops = fates.where(F.col(t.HAS_CROP)).withColumn(PLACE, F.row_number().over(in_order))
    columns = (t.CATEGORY, t.BOX_ID, FILE_KEY, t.WIDTH_PX, t.HEIGHT_PX, PLACE)
    chosen = crops.where(F.col(PLACE) <= min(per_category, at_most)).select(*columns)
    return chosen.orderBy(PLACE, t.CATEGORY).limit(at_most)


def credits_of(kept: DataFrame, photos: DataFrame) -> DataFrame:
    """Licence and author of each photo with a kept box, once.

    Args:
        kept: rows of `selected_boxes` of one dataset.
        photos: rows of `photos`.

    Returns:
        One row a photo: `license`, `author`, `author_url`; null where the catalog does not know.
    """
    mine = kept.select(t.IMAGE_ID).distinct()
    # Two subsets may list the same photo.
    told = F.min(F.struct(t.LICENSE, t.AUTHOR, t.AUTHOR_URL)).alias("told")
    known = photos.join(mine, on=t.IMAGE_ID, how="left_semi").groupBy(t.IMAGE_ID).agg(told)
    return mine.join(known, on=t.IMAGE_ID, how="left").select(t.IMAGE_ID, "told.*")


def count_authors(credit: DataFrame) -> DataFrame:
    """`author`, `author_url`, `num` of photos; the address tells who it is, else the name does."""
    who = F.coalesce(t.AUTHOR_URL, t.AUTHOR)
    named = credit.where(who.isNotNull())
    return named.groupBy(who.alias("who")).agg(
        F.min(t.AUTHOR).alias(t.AUTHOR),
        F.min(t.AUTHOR_URL).alias(t.AUTHOR_URL),
        F.count("*").alias(NUM),
    )


def size_groups(near_duplicates: DataFrame) -> DataFrame:
    """`group_id` and `num` of photos of each group of near-duplicates."""
    return count_by(near_duplicates, t.GROUP_ID).where(F.col(NUM) > 1)


def count_groups(near_duplicates: DataFrame) -> DataFrame:
    """One row: how many groups there are, and how many photos in them."""
    return size_groups(near_duplicates).agg(F.count("*"), F.sum(NUM))


def choose_duplicates(near_duplicates: DataFrame, fates: DataFrame) -> DataFrame:
    """The twelve largest groups of near-duplicates, by the first crop of up to six photos of each.

    Args:
        near_duplicates: of one dataset.
        fates: from `box_fates`.

    Returns:
        `group_id`, `num` of photos in it, `image_id`, `box_id`, `category`, `file_key`.
    """
    largest = size_groups(near_duplicates).orderBy(F.desc(NUM), t.GROUP_ID).limit(_MAX_GROUPS)
    first = F.min(F.struct(t.BOX_ID, t.CATEGORY, FILE_KEY)).alias(_CROP)
    crops = fates.where(F.col(t.HAS_CROP)).groupBy(t.IMAGE_ID).agg(first)
    place = F.row_number().over(Window.partitionBy(t.GROUP_ID).orderBy(t.IMAGE_ID))
    shown = (
        near_duplicates.join(F.broadcast(largest), on=t.GROUP_ID, how="inner")
        .join(crops, on=t.IMAGE_ID, how="inner")
        .withColumn(PLACE, place)
        .where(F.col(PLACE) <= _MAX_PHOTOS_OF_GROUP)
    )
    return shown.select(t.GROUP_ID, NUM, t.IMAGE_ID, f"{_CROP}.*")
