"""What a run of fetch_crops has to do, written down as files before anything is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage
from croplake import tables as t
from croplake.conf import FetchConf
from croplake.errors import InputDataError
from croplake.fetching.at_hand import check_place, list_photos
from croplake.fetching.crop import Recipe
from croplake.fetching.photo_task import AT_HAND_FIELD, AT_HAND_TYPE, BOXES_FIELD
from croplake.jobs.context import JobContext
from croplake.lake import spark_schema
from croplake.selection.todo import box_states, boxes_to_fetch, photo_tasks, photos_to_fetch

_INDEX_ROWS: Final = 4096
_ERROR: Final = "error"
_PRIORITY: Final = "priority"
_INDEX_SCHEMA: Final = pa.schema(
    [
        (t.IMAGE_ID, pa.string()),
        (AT_HAND_FIELD, AT_HAND_TYPE),
        (_PRIORITY, pa.int32()),
        (_ERROR, pa.string()),
    ]
)


@dataclass(frozen=True)
class FetchPlan:
    """The work of a run.

    Attributes:
        chunks: each the files of its tasks, one a slot, rows of `photo_task.TASK_SCHEMA`.
        num_photos: in all chunks.
        num_boxes: in all chunks.
    """

    chunks: tuple[tuple[str, ...], ...]
    num_photos: int
    num_boxes: int


def recipe_of(conf: FetchConf) -> Recipe:
    """The settings' recipe as executors know it."""
    return Recipe(**conf.recipe.model_dump())


def write_plan(context: JobContext, selected: DataFrame, staging: str) -> FetchPlan:
    """Writes what is to be done as one file a task, so that its work is decided once.

    Args:
        context: of the run.
        selected: rows of `selected_boxes` of the dataset.
        staging: address of a folder for the files.

    Raises:
        InputDataError: a place of photos at hand cannot be read.
    """
    conf = context.settings.fetch
    states = box_states(context.read_table(t.CROPS), recipe_of(conf).recipe_id)
    wanted = photos_to_fetch(
        boxes_to_fetch(selected, states, conf, context.forgotten_photos())
    ).cache()
    slots = context.spark.sparkContext.defaultParallelism
    try:
        counted = wanted.agg(F.count("*"), F.sum(F.size(BOXES_FIELD))).first()
        num_photos, num_boxes = (0, 0) if counted is None else (counted[0], counted[1] or 0)
        if num_photos:
            num_tasks = slots * math.ceil(num_photos / (conf.photos_per_task * slots))
            with photos_at_hand(context) as at_hand:
                tasks = photo_tasks(wanted, context.scan_table(t.PHOTOS), at_hand)
                # Not by a hash of the id: tasks of a chunk that differ in size keep slots waiting.
                tasks.repartition(num_tasks).write.parquet(storage.for_spark(staging))
    finally:
        wanted.unpersist()
    files = [file for file in storage.list_files(staging) if file.endswith(".parquet")]
    chunks = tuple(tuple(files[start : start + slots]) for start in range(0, len(files), slots))
    return FetchPlan(chunks, num_photos, num_boxes)


@contextmanager
def photos_at_hand(context: JobContext) -> Iterator[DataFrame | None]:
    """Where each photo at hand lies, found by one task a place; None where there is no place."""
    conf = context.settings.fetch
    if not conf.at_hand or "at_hand" not in conf.sources:
        yield None
        return
    for place in conf.at_hand:
        check_place(place)
    places = pa.table(
        {
            _PRIORITY: pa.array(range(len(conf.at_hand)), pa.int32()),
            "place": pa.array([storage.absolute(place) for place in conf.at_hand]),
        }
    )
    listed = (
        context.spark.createDataFrame(places)
        .repartition(len(conf.at_hand), _PRIORITY)
        .mapInArrow(_list_places, spark_schema(_INDEX_SCHEMA))
        .cache()
    )
    try:
        broken = listed.where(F.col(_ERROR).isNotNull()).select(_ERROR).first()
        if broken is not None:
            raise InputDataError(str(broken[0]))
        first = F.min_by(AT_HAND_FIELD, F.struct(_PRIORITY, f"{AT_HAND_FIELD}.uri"))
        yield listed.groupBy(t.IMAGE_ID).agg(first.alias(AT_HAND_FIELD))
    finally:
        listed.unpersist()


def _list_places(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Runs on executors: places in, their photos out; what is wrong with a place is a row too."""
    for batch in batches:
        for row in batch.to_pylist():
            rows = []
            try:
                for image_id, place in list_photos(row["place"]):
                    found = {t.IMAGE_ID: image_id, AT_HAND_FIELD: place._asdict()}
                    rows.append(found | {_PRIORITY: row[_PRIORITY]})
                    if len(rows) == _INDEX_ROWS:
                        yield pa.RecordBatch.from_pylist(rows, schema=_INDEX_SCHEMA)
                        rows = []
            except (InputDataError, OSError) as error:
                rows.append({_ERROR: str(error)})
            yield pa.RecordBatch.from_pylist(rows, schema=_INDEX_SCHEMA)
