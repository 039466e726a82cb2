"""Downloads each photo once and cuts all its kept boxes: selected_boxes → crops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage, summary
from croplake import tables as t
from croplake.conf import FetchConf
from croplake.errors import IncompleteError
from croplake.fetching.batches import PartitionFetcher
from croplake.fetching.crop import Recipe
from croplake.fetching.photo_task import FetchRules
from croplake.fetching.progress import progress_listener
from croplake.jobs.context import Job, JobContext, latest_runs
from croplake.jobs.display import fetch_display
from croplake.lake import spark_schema
from croplake.selection.todo import box_states, boxes_to_fetch, photo_tasks

_CHUNKS_IN_FLIGHT: Final = 2
"""While one chunk's last downloads and its commit take their time, the next uses the slots."""


def recipe_of(conf: FetchConf) -> Recipe:
    """The settings' recipe as executors know it."""
    return Recipe(**conf.recipe.model_dump())


def run(context: JobContext) -> None:
    """`selected_boxes` minus what `crops` has → `crops`."""
    context.lake.create(t.CROPS)
    before = context.lake.version(t.CROPS)
    selected = context.read_table(t.SELECTED_BOXES).where(
        F.col(t.DATASET) == context.settings.dataset.name
    )
    staging = storage.join(context.lake.root, "_staging", context.run_id)
    try:
        chunks, num_photos = _plan(context, selected, staging)
        if num_photos:
            context.console.print(
                f"fetch_crops: {num_photos:,} photos, commits: {len(chunks)}", highlight=False
            )
            _fetch(context, chunks, num_photos)
        _drop_superseded(context)
    finally:
        storage.remove(staging)
    _note_version(context, before)
    context.counts["photos fetched or tried"] = num_photos
    _print_landed(context, selected)


def _plan(context: JobContext, selected: DataFrame, staging: str) -> tuple[list[str], int]:
    """Writes what is to be done as one file a chunk, so that its work is decided once."""
    conf = context.settings.fetch
    states = box_states(context.read_table(t.CROPS), recipe_of(conf).recipe_id)
    boxes = boxes_to_fetch(selected, states, conf, context.forgotten_photos()).cache()
    try:
        num_photos = boxes.select(t.IMAGE_ID).distinct().count()
        slots = context.spark.sparkContext.defaultParallelism
        num_chunks = max(1, math.ceil(num_photos / (conf.photos_per_task * slots)))
        if num_photos:
            tasks = photo_tasks(boxes, context.read_table(t.PHOTOS), num_chunks)
            tasks.repartition(num_chunks, t.IMAGE_ID).write.parquet(storage.for_spark(staging))
    finally:
        boxes.unpersist()
    chunks = [file for file in storage.list_files(staging) if file.endswith(".parquet")]
    return chunks, num_photos


def _fetch(context: JobContext, chunks: list[str], num_photos: int) -> None:
    """Runs all chunks, at most two at once.

    Raises:
        IncompleteError: a chunk failed; those before it are in the lake.
    """
    host = context.spark.conf.get("spark.driver.host", "127.0.0.1") or "127.0.0.1"
    with (
        fetch_display(context.console, num_photos) as display,
        progress_listener(host, display.add) as address,
        ThreadPoolExecutor(_CHUNKS_IN_FLIGHT, thread_name_prefix="chunk") as pool,
    ):
        waiting = iter(chunks)
        under_way: set[Future[None]] = set()
        try:
            for _ in chunks:
                while len(under_way) < _CHUNKS_IN_FLIGHT and (file := next(waiting, None)):
                    under_way.add(pool.submit(_fetch_chunk, context, file, address))
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for chunk in done:
                    chunk.result()
            for chunk in under_way:
                chunk.result()
        except KeyboardInterrupt:
            context.spark.sparkContext.cancelAllJobs()
            raise
        except Exception as error:
            raise IncompleteError(
                f"fetch_crops: a chunk failed, finished ones are in the lake; run the same command "
                f"again to go on. {type(error).__name__}: {error}"
            ) from error


def _fetch_chunk(context: JobContext, file: str, address: tuple[str, int]) -> None:
    conf = context.settings.fetch
    fetcher = PartitionFetcher(
        rules=FetchRules(
            recipe=recipe_of(conf),
            sources=conf.sources,
            mirror_url=conf.mirror_url,
            max_photo_pixels=conf.max_photo_pixels,
            run_id=context.run_id,
        ),
        limits=context.http_limits(),
        transfers=conf.transfers_per_task,
        progress_address=address,
    )

    def fetch(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return fetcher(batches)

    tasks = context.spark.read.parquet(storage.for_spark(file))
    slots = context.spark.sparkContext.defaultParallelism
    crops = tasks.repartition(slots).mapInArrow(fetch, spark_schema(t.CROPS.schema))
    context.lake.append(crops, t.CROPS)


def _drop_superseded(context: JobContext) -> None:
    """Leaves of each box's failures the last one, and none where there is a crop by now."""
    recipe_id = recipe_of(context.settings.fetch).recipe_id
    crops = context.lake.read(t.CROPS).where(F.col(t.RECIPE_ID) == recipe_id)
    last = crops.groupBy(t.BOX_ID).agg(
        F.max(t.HAS_CROP).alias("has_any_crop"), F.max(t.ATTEMPT).alias("last_attempt")
    )
    failures = crops.where(~F.col(t.HAS_CROP)).join(last, on=t.BOX_ID, how="inner")
    is_current = ~F.col("has_any_crop") & (F.col(t.ATTEMPT) == F.col("last_attempt"))
    if failures.where(~is_current).isEmpty():
        return
    current = failures.where(is_current).select(*t.CROPS.columns)
    # Failures carry no bytes: rewriting their partition is cheap, and readers never see a gap.
    where = f"{t.RECIPE_ID} = '{recipe_id}' AND {t.HAS_CROP} = false"
    context.lake.replace(current, t.CROPS, where=where)


def _note_version(context: JobContext, before: int) -> None:
    """A run that changed nothing leaves its dataset where its last run put it."""
    version = context.lake.version(t.CROPS)
    if version == before:
        last = latest_runs(context.lake, context.settings, (JOB,)).get(JOB.name)
        version = last[t.TABLES_WRITTEN].get(t.CROPS.name, version) if last else version
    context.written[t.CROPS.name] = version


def _print_landed(context: JobContext, selected: DataFrame) -> None:
    recipe_id = recipe_of(context.settings.fetch).recipe_id
    crops = context.lake.read(t.CROPS).where(F.col(t.RECIPE_ID) == recipe_id)
    kept = selected.where(F.col(t.REJECT_REASON).isNull()).select(t.BOX_ID, t.CATEGORY)
    landed = crops.select(t.BOX_ID, t.STATUS).join(kept, on=t.BOX_ID, how="inner")
    rows = landed.groupBy(t.CATEGORY, t.STATUS).count().collect()
    cells = {(row[t.CATEGORY], row[t.STATUS]): int(row["count"]) for row in rows}
    for (_, status), count in cells.items():
        context.counts[status] = context.counts.get(status, 0) + count
    summary.print_crosstab(
        context.console, "fetch_crops: boxes", "category", cells, first=t.STATUS_OK
    )


JOB = Job(
    name="fetch_crops",
    run=run,
    writes=(t.CROPS,),
    reads=(t.SELECTED_BOXES, t.PHOTOS, t.CROPS, t.FORGOTTEN_PHOTOS),
    follows=("select_boxes",),
    conf_of=lambda settings: settings.fetch,
    always=True,
)
