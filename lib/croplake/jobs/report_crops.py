"""The crops that a page shows: read and made small by executors, laid out by category and group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa
from pyspark.sql import DataFrame, Row

from croplake import tables as t
from croplake.jobs.context import JobContext
from croplake.jobs.fetch_plan import recipe_of
from croplake.lake import spark_schema
from croplake.report import measures as m
from croplake.report.dataset import DuplicateFigures, DuplicateGroup
from croplake.report.gallery import GalleryCrop, address_bytes, fit_galleries
from croplake.report.thumbnails import (
    FILES_SCHEMA,
    THUMBNAILS_SCHEMA,
    expected_bytes,
    read_thumbnails,
)

_TASKS_PER_SLOT: Final = 4

Crops = Mapping[str, GalleryCrop]


def gallery_crops(context: JobContext, fates: DataFrame) -> list[Row]:
    """The crops that the galleries may have room for, of each category as many.

    That is told by the sides of the crops before one is read: of photos, what is read may take
    twice the room that the settings give, however many categories and crops there are.

    Args:
        context: of the look.
        fates: from `measures.box_fates`.

    Returns:
        Rows of `measures.choose_crops`, in its order.
    """
    conf, chosen = context.settings.report, []
    most = conf.gallery_bytes // address_bytes(expected_bytes(1, 1, conf.thumbnail_side_px)) + 1
    left = conf.gallery_bytes
    for row in m.choose_crops(fates, conf.crops_per_category, most).collect():
        if left <= 0:
            break
        expected = expected_bytes(row[t.WIDTH_PX], row[t.HEIGHT_PX], conf.thumbnail_side_px)
        left -= address_bytes(expected)
        chosen.append(row)
    return chosen


def read_crops(
    context: JobContext, chosen: Iterable[Row], recipe_id: str | None = None
) -> dict[str, GalleryCrop]:
    """Reads chosen crops, of the version of `crops` that the look is of.

    Args:
        context: of the look.
        chosen: rows with the `box_id`, the `category` and the `file_key` of each.
        recipe_id: of the crops; None is the settings'.

    Returns:
        The crops by `box_id`.
    """
    rows = list(chosen)
    if not rows:
        return {}
    categories: dict[str, str] = {row[t.BOX_ID]: row[t.CATEGORY] for row in rows}
    box_ids, side_px = frozenset(categories), context.settings.report.thumbnail_side_px

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return read_thumbnails(batches, box_ids=box_ids, side_px=side_px)

    recipe_id = recipe_id or recipe_of(context.settings.fetch).recipe_id
    files = crop_files(context, {row[m.FILE_KEY] for row in rows}, recipe_id)
    slots = context.spark.sparkContext.defaultParallelism
    found: list[dict[str, Any]] = (
        context.spark.createDataFrame(pa.table([pa.array(files)], schema=FILES_SCHEMA))
        .repartition(min(len(files), slots * _TASKS_PER_SLOT))
        .mapInArrow(read, spark_schema(THUMBNAILS_SCHEMA))
        .toArrow()
        .to_pylist()
    )
    return {row[t.BOX_ID]: GalleryCrop(category=categories[row[t.BOX_ID]], **row) for row in found}


def crop_files(context: JobContext, keys: set[int], recipe_id: str) -> list[str]:
    """The files with crops of a recipe that have these keys.

    Args:
        context: of the look.
        keys: from `measures.box_fates`.
        recipe_id: the recipe.
    """
    files = context.lake.reader.files(
        t.CROPS.name,
        version=context.pinned[t.CROPS.name],
        partition={t.RECIPE_ID: recipe_id, t.HAS_CROP: "true"},
    )
    return [file for file in files if m.file_key(PurePosixPath(file).name) in keys]


def galleries_of(
    chosen: Iterable[Row], crops: Crops, max_bytes: int
) -> dict[str, list[GalleryCrop]]:
    """Each category's crops, as many as fit, in the order in which they were chosen.

    Args:
        chosen: from `gallery_crops`.
        crops: from `read_crops`.
        max_bytes: of all pictures in the page.
    """
    galleries: dict[str, list[GalleryCrop]] = {}
    for row in sorted(chosen, key=lambda row: (row[t.CATEGORY], row[m.PLACE])):
        galleries.setdefault(row[t.CATEGORY], []).append(crops[row[t.BOX_ID]])
    return fit_galleries(galleries, max_bytes)


def duplicates_of(
    near_duplicates: DataFrame,
    chosen: Sequence[Row],
    crops: Crops,
    uncompared: Mapping[str, int],
) -> DuplicateFigures:
    """The groups of near-duplicates in figures, the largest with crops.

    Args:
        near_duplicates: the dataset's.
        chosen: from `measures.choose_duplicates`.
        crops: from `read_crops`.
        uncompared: what the last build left out.
    """
    num_groups, num_photos = m.count_groups(near_duplicates).first() or (0, None)
    groups: dict[tuple[int, str], list[GalleryCrop]] = {}
    for row in sorted(chosen, key=lambda row: (-row[m.NUM], row[t.GROUP_ID], row[t.IMAGE_ID])):
        groups.setdefault((row[m.NUM], row[t.GROUP_ID]), []).append(crops[row[t.BOX_ID]])
    largest = [DuplicateGroup(num, shown) for (num, _), shown in groups.items()]
    return DuplicateFigures(num_groups, num_photos or 0, largest, uncompared)
