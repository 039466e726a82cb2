"""Says what fetching a dataset will take, before anything is fetched; writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from rich.table import Table

from croplake import summary
from croplake import tables as t
from croplake.examples.transforms import split_of
from croplake.fetching.addresses import host_key
from croplake.fetching.forecast import (
    MIRROR_PHOTO_BYTES,
    THUMBNAIL_BYTES,
    Forecast,
    forecast,
)
from croplake.fetching.photo_task import BOXES_FIELD
from croplake.jobs.context import JobContext
from croplake.jobs.fetch_chunks import crop_bytes, free_bytes
from croplake.jobs.fetch_plan import photos_at_hand
from croplake.jobs.select_boxes import (
    chosen_categories,
    judged_boxes,
    known_states,
    unmatched_rules,
)
from croplake.selection.rules import mark_rows
from croplake.selection.todo import boxes_to_fetch, photos_to_fetch, spent_boxes

_KEPT: Final = "kept"
_GIVEN_UP: Final = "given_up"
"""Of a kept box that could not be had and is not tried again."""
_IS_SPENT: Final = "is_spent"
_FLICKR: Final = "staticflickr.com"

Cells = dict[tuple[str, str], int]


@dataclass(frozen=True)
class _Work:
    """What is left to fetch.

    Attributes:
        num_photos: to download or to read.
        num_boxes: to cut out of them.
        num_at_hand: of the photos, those that need no download.
        num_in_lake: photos of which every kept box has been cut.
        num_given_up: photos with nothing left to do, of which a box could not be had.
        original_bytes: of the Flickr originals of those to download, where the catalog has them.
    """

    num_photos: int
    num_boxes: int
    num_at_hand: int
    num_in_lake: int
    num_given_up: int
    original_bytes: int

    @property
    def num_online(self) -> int:
        """Of the photos, those to download."""
        return self.num_photos - self.num_at_hand


def run(context: JobContext) -> None:
    """Catalog + dataset spec → boxes, categories, photos, bytes, hours and warnings, printed."""
    categories = chosen_categories(context)
    states = known_states(context)
    judged = _mark_spent(context, judged_boxes(context, categories), states).cache()
    try:
        reason = F.when(F.col(_IS_SPENT), _GIVEN_UP).otherwise(
            F.coalesce(t.REJECT_REASON, F.lit(_KEPT))
        )
        in_splits = judged.select(
            t.CATEGORY,
            t.SUBSET,
            split_of(context.settings.dataset).alias(t.SPLIT),
            reason.alias(t.REJECT_REASON),
        )
        rows = in_splits.groupBy(*in_splits.columns).count().collect()
        by_reason: Cells = {}
        by_subset: Cells = {}
        by_split: Cells = {}
        for row in rows:
            count = int(row["count"])
            _add(by_reason, (row[t.CATEGORY], row[t.REJECT_REASON]), count)
            if row[t.REJECT_REASON] == _KEPT:
                _add(by_subset, (row[t.CATEGORY], row[t.SUBSET]), count)
                _add(by_split, (row[t.CATEGORY], row[t.SPLIT]), count)
        work = _work(context, judged, states)
    finally:
        judged.unpersist()
    console = context.console
    summary.print_crosstab(console, "plan-fetch: boxes", "category", by_reason, first=_KEPT)
    summary.print_crosstab(
        console, "plan-fetch: kept boxes by subset", "category", by_subset, first="train"
    )
    console.print(summary.titled("plan-fetch: fetching", _table(context, work)))
    warnings = _warnings(context, set(categories.values()), by_split)
    for warning in (*unmatched_rules(context), *warnings):
        summary.warn(console, warning)


def _add(cells: Cells, cell: tuple[str, str], count: int) -> None:
    cells[cell] = cells.get(cell, 0) + count


def _mark_spent(context: JobContext, judged: DataFrame, states: DataFrame | None) -> DataFrame:
    """Adds whether a kept box could not be had and is not tried again."""
    spent = None if states is None else spent_boxes(states, context.settings.fetch)
    is_kept = F.col(t.REJECT_REASON).isNull()
    marked = mark_rows(judged, spent, t.BOX_ID, _IS_SPENT)
    return marked.withColumn(_IS_SPENT, F.col(_IS_SPENT) & is_kept)


def _work(context: JobContext, judged: DataFrame, states: DataFrame | None) -> _Work:
    kept = judged.where(F.col(t.REJECT_REASON).isNull())
    num_given_up = 0
    if states is None:
        due = kept.withColumn(t.ATTEMPT, F.lit(1))
    else:
        due = boxes_to_fetch(judged, states, context.settings.fetch)
        of_spent = kept.where(_IS_SPENT).select(t.IMAGE_ID).distinct()
        num_given_up = of_spent.join(due, on=t.IMAGE_ID, how="left_anti").count()
    photos = context.scan_table(t.PHOTOS).select(t.IMAGE_ID, t.SUBSET, t.ORIGINAL_SIZE_BYTES)
    wanted = photos_to_fetch(due).join(photos, on=[t.IMAGE_ID, t.SUBSET], how="left")
    with photos_at_hand(context) as at_hand:
        if at_hand is None:
            marked = wanted.withColumn("is_at_hand", F.lit(False))
        else:
            marks = at_hand.select(t.IMAGE_ID, F.lit(True).alias("marked"))
            joined = wanted.join(marks, on=t.IMAGE_ID, how="left")
            marked = joined.withColumn("is_at_hand", F.coalesce("marked", F.lit(False)))
        online_bytes = F.when(~F.col("is_at_hand"), F.col(t.ORIGINAL_SIZE_BYTES))
        counted = marked.agg(
            F.count("*"),
            F.sum(F.size(BOXES_FIELD)),
            F.count_if("is_at_hand"),
            F.sum(online_bytes),
        ).first()
    num_photos, num_boxes, num_at_hand, original_bytes = counted or (0, 0, 0, 0)
    all_photos = kept.select(t.IMAGE_ID).distinct().count()
    return _Work(
        num_photos=num_photos,
        num_boxes=num_boxes or 0,
        num_at_hand=num_at_hand,
        num_in_lake=all_photos - num_photos - num_given_up,
        num_given_up=num_given_up,
        original_bytes=original_bytes or 0,
    )


def _forecast(context: JobContext, work: _Work) -> tuple[Forecast, str]:
    """The model's answer, and the host that has the photos: the first online source's.

    How many photos a host lacks shows only when it is asked; each then costs the next one a
    request.
    """
    fetch, plan = context.settings.fetch, context.settings.plan
    source = next((name for name in fetch.sources if name != "at_hand"), None)
    host = {
        "mirror": host_key(urlsplit(fetch.mirror_url).hostname or ""),
        "original": _FLICKR,
        "thumbnail": _FLICKR,
        None: "",
    }[source]
    bytes_on_wire = {
        "mirror": work.num_online * MIRROR_PHOTO_BYTES,
        "original": work.original_bytes,
        "thumbnail": work.num_online * THUMBNAIL_BYTES,
        None: 0,
    }[source]
    slots = context.spark.sparkContext.defaultParallelism
    answer = forecast(
        num_photos=work.num_photos,
        num_online=0 if source is None else work.num_online,
        num_boxes=work.num_boxes,
        bytes_on_wire=bytes_on_wire,
        bytes_decoded=bytes_on_wire + work.num_at_hand * MIRROR_PHOTO_BYTES,
        num_cores=slots,
        core_speed=plan.core_speed,
        budget=context.host_budgets().of(host),
        answer_s=plan.answer_s,
        bandwidth_bytes_per_s=plan.bandwidth_mbit_per_s * 1e6 / 8,
        max_transfers=slots * fetch.transfers_per_task,
    )
    return answer, host


def _table(context: JobContext, work: _Work) -> Table:
    answer, host = _forecast(context, work)
    slots = context.spark.sparkContext.defaultParallelism
    bounds = {
        "cores": f"by {slots} cores (plan.core_speed)",
        "host": f"by what {host} may be asked (fetch.hosts, plan.answer_s)",
        "transfers": f"by the transfers of {slots} tasks (fetch.transfers_per_task, plan.answer_s)",
        "bandwidth": f"by {context.settings.plan.bandwidth_mbit_per_s:g} Mbit/s "
        "(plan.bandwidth_mbit_per_s)",
    }
    rows = {
        "photos to fetch": f"{work.num_photos:,}",
        "of them at hand": f"{work.num_at_hand:,}",
        "boxes to cut": f"{work.num_boxes:,}",
        "photos in the lake": f"{work.num_in_lake:,}",
        "photos given up": f"{work.num_given_up:,}",
        "bytes to download": _size(answer.num_bytes),
        "bytes of crops": _size(crop_bytes(context, work.num_boxes)),
    }
    free = free_bytes(context.lake.root)
    if free is not None:
        rows["free on the lake's disk"] = _size(free)
    if work.num_photos:
        rows["time"] = f"{_duration(answer.seconds)}, bounded {bounds[answer.bound]}"
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right", overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _warnings(context: JobContext, categories: set[str], by_split: Cells) -> Iterator[str]:
    spec, plan = context.settings.dataset, context.settings.plan
    if spec.split == "hash" and "test" in spec.subsets:
        yield (
            "split: hash deals Open Images' own test photos out anew, into train too; "
            "dataset.subsets: [train, validation] leaves them out"
        )
    kept = {
        category: sum(by_split.get((category, split), 0) for split in t.SPLITS)
        for category in sorted(categories)
    }
    for category, count in kept.items():
        if not count:
            yield f"{category}: no box is kept"
        elif count < plan.min_boxes:
            yield f"{category}: {count} boxes are kept, fewer than {plan.min_boxes}"
    way_out = {
        "open_images": "split: hash would give some",
        "hash": "dataset.hash_shares, or more boxes, would give some",
    }[spec.split]
    for split in t.SPLITS:
        bare = [name for name in kept if kept[name] and not by_split.get((name, split))]
        if bare:
            yield f"no {split} box: {', '.join(bare)} ({way_out})"
    by_number = sorted((name for name in kept if kept[name]), key=lambda name: kept[name])
    if not by_number:
        return
    least, most = by_number[0], by_number[-1]
    if kept[most] > plan.max_imbalance * kept[least]:
        yield (
            f"{most} has {kept[most] / kept[least]:,.0f} times the boxes of {least} "
            f"({kept[most]:,} to {kept[least]:,}): see dataset.max_boxes_per_category and "
            "dataset.balance"
        )


def _size(num_bytes: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
