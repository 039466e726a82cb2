"""The crops that a page shows: read and made small by executors, laid out by category and group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from pyspark.sql import DataFrame, Row

from croplake import tables as t
from croplake.jobs.context import JobContext
from croplake.jobs.fetch_plan import recipe_of
from croplake.lake import spark_schema
from croplake.report import measures as m
from croplake.report.dataset import DuplicateFigures, DuplicateGroup
from croplake.report.gallery import GalleryCrop, fit_galleries
from croplake.report.thumbnails import FILES_SCHEMA, THUMBNAILS_SCHEMA, read_thumbnails

_TASKS_PER_SLOT: Final = 4

Crops = Mapping[str, GalleryCrop]


def read_crops(context: JobContext, chosen: Iterable[Row]) -> dict[str, GalleryCrop]:
    """Reads chosen crops, of the version of `crops` that the look is of.

    Args:
        context: of the look.
        chosen: rows with the `box_id` and the `category` of each.

    Returns:
        The crops by `box_id`.
    """
    categories: dict[str, str] = {row[t.BOX_ID]: row[t.CATEGORY] for row in chosen}
    if not categories:
        return {}
    box_ids, side_px = frozenset(categories), context.settings.report.thumbnail_side_px

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return read_thumbnails(batches, box_ids=box_ids, side_px=side_px)

    recipe_id = recipe_of(context.settings.fetch).recipe_id
    files = context.lake.reader.files(
        t.CROPS.name,
        version=context.pinned[t.CROPS.name],
        partition={t.RECIPE_ID: recipe_id, t.HAS_CROP: "true"},
    )
    slots = context.spark.sparkContext.defaultParallelism
    rows: list[dict[str, Any]] = (
        context.spark.createDataFrame(pa.table([pa.array(files)], schema=FILES_SCHEMA))
        .repartition(min(len(files), slots * _TASKS_PER_SLOT))
        .mapInArrow(read, spark_schema(THUMBNAILS_SCHEMA))
        .toArrow()
        .to_pylist()
    )
    return {row[t.BOX_ID]: GalleryCrop(category=categories[row[t.BOX_ID]], **row) for row in rows}


def galleries_of(
    chosen: Iterable[Row], crops: Crops, max_bytes: int
) -> dict[str, list[GalleryCrop]]:
    """Each category's crops, as many as fit, in the order of their boxes' ids.

    Args:
        chosen: from `measures.choose_crops`.
        crops: from `read_crops`.
        max_bytes: of all pictures in the page.
    """
    galleries: dict[str, list[GalleryCrop]] = {}
    for row in sorted(chosen, key=lambda row: (row[t.CATEGORY], row[t.BOX_ID])):
        galleries.setdefault(row[t.CATEGORY], []).append(crops[row[t.BOX_ID]])
    return fit_galleries(galleries, max_bytes)


def duplicates_of(
    near_duplicates: DataFrame, chosen: Sequence[Row], crops: Crops
) -> DuplicateFigures:
    """The groups of near-duplicates in figures, the largest with crops.

    Args:
        near_duplicates: the dataset's.
        chosen: from `measures.choose_duplicates`.
        crops: from `read_crops`.
    """
    num_groups, num_photos = m.count_groups(near_duplicates).first() or (0, None)
    groups: dict[tuple[int, str], list[GalleryCrop]] = {}
    for row in sorted(chosen, key=lambda row: (-row[m.NUM], row[t.GROUP_ID], row[t.IMAGE_ID])):
        groups.setdefault((row[m.NUM], row[t.GROUP_ID]), []).append(crops[row[t.BOX_ID]])
    largest = [DuplicateGroup(num, shown) for (num, _), shown in groups.items()]
    return DuplicateFigures(num_groups, num_photos or 0, largest)
