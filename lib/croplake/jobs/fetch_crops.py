"""Downloads each photo once and cuts all its kept boxes: selected_boxes → crops."""

from __future__ import annotations

import time

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage, summary
from croplake import tables as t
from croplake.errors import IncompleteError
from croplake.jobs.context import Job, JobContext, latest_runs
from croplake.jobs.fetch_chunks import check_disk, fetch_chunks
from croplake.jobs.fetch_plan import recipe_of, write_plan
from croplake.selection.todo import last_try


def run(context: JobContext) -> None:
    """`selected_boxes` minus what `crops` has → `crops`."""
    context.lake.create(t.CROPS)
    before = context.lake.version(t.CROPS)
    selected = context.read_table(t.SELECTED_BOXES).where(
        F.col(t.DATASET) == context.settings.dataset.name
    )
    staging = storage.join(context.lake.root, "_staging", context.run_id)
    try:
        plan = write_plan(context, selected, staging)
        if plan.num_photos:
            context.console.print(
                f"fetch_crops: {plan.num_photos:,} photos, commits: {len(plan.chunks)}",
                highlight=False,
            )
            check_disk(context, plan)
            started = time.monotonic()
            try:
                fetch_chunks(context, plan)
            except IncompleteError:
                _drop_superseded(context)
                raise
            seconds = time.monotonic() - started
            context.counts["milliseconds from first request to last commit"] = round(1000 * seconds)
            rate = plan.num_photos / seconds
            context.console.print(
                f"fetch_crops: {rate:,.0f} photos/s, commits included", highlight=False
            )
        _drop_superseded(context)
    finally:
        storage.remove(staging)
    _note_version(context, before)
    context.counts["photos fetched or tried"] = plan.num_photos
    _print_landed(context, selected)


def _drop_superseded(context: JobContext) -> None:
    """Leaves of each box's failures the last one, and none where there is a crop by now."""
    recipe_id = recipe_of(context.settings.fetch).recipe_id
    partition = {t.RECIPE_ID: recipe_id, t.HAS_CROP: "false"}
    if not context.lake.reader.files(t.CROPS.name, partition=partition):
        return
    crops = context.lake.read(t.CROPS).where(F.col(t.RECIPE_ID) == recipe_id)
    last = crops.groupBy(t.BOX_ID).agg(
        F.max(t.HAS_CROP).alias("has_any_crop"), F.max(last_try()).alias("last_try")
    )
    failures = crops.where(~F.col(t.HAS_CROP)).join(last, on=t.BOX_ID, how="inner")
    is_current = ~F.col("has_any_crop") & (last_try() == F.col("last_try"))
    if failures.where(~is_current).isEmpty():
        return
    current = failures.where(is_current).select(*t.CROPS.columns)
    # Failures carry no bytes: rewriting their partition is cheap, and readers never see a gap.
    where = f"{t.RECIPE_ID} = '{recipe_id}' AND {t.HAS_CROP} = false"
    context.lake.replace(current, t.CROPS, where=where)


def _note_version(context: JobContext, before: int) -> None:
    """A run that brought no crop leaves its dataset where its last run put it.

    What is made of crops is not made again then.
    """
    version = context.lake.version(t.CROPS)
    is_of_run = (F.col(t.RUN_ID) == context.run_id) & F.col(t.HAS_CROP)
    if version == before or context.lake.read(t.CROPS).where(is_of_run).isEmpty():
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
