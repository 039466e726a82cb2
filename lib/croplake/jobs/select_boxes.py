"""Judges every annotated box of a dataset's classes: boxes → selected_boxes."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pyarrow.dataset as pads
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import summary
from croplake import tables as t
from croplake.catalog.classes import read_classes
from croplake.catalog.picker import pick_classes
from croplake.conf import Settings
from croplake.errors import InputDataError
from croplake.jobs.context import Job, JobContext, latest_runs, settings_hash
from croplake.jobs.fetch_plan import recipe_of
from croplake.lake import Lake
from croplake.selection.rules import fits, judge_boxes, select_classes
from croplake.selection.todo import box_states, lost_photos, spent_boxes
from croplake.tables import Table

_SHOWN: Final = 5
"""Values of a column that a message lists, those of most rows first."""
_JUDGED_LATER: Final = {
    "min_crop_side_px",
    "min_aspect_ratio",
    "max_aspect_ratio",
    "balance",
    "near_duplicates",
    "split",
    "hash_shares",
    "on_missing_split",
}
"""Rules of build_examples, which needs the crops."""


def chosen_categories(context: JobContext) -> dict[str, str]:
    """The dataset's classes: MID to category, sorted by category.

    Raises:
        SettingsError: the spec names a class that is not there, or one twice.
        InputDataError: no catalog yet.
    """
    classes = read_classes(context.read_rows(t.CLASSES))
    return pick_classes(context.settings.dataset.choice, classes)


def dataset_labels(context: JobContext) -> list[str]:
    """The dataset's categories by label index; errors as `chosen_categories`."""
    return _sorted_labels(chosen_categories(context))


def labels_of(lake: Lake, settings: Settings) -> list[str] | None:
    """As `dataset_labels`, of the catalog as it is now; None where there is none."""
    if not lake.exists(t.CLASSES):
        return None
    classes = read_classes(lake.rows(t.CLASSES))
    return _sorted_labels(pick_classes(settings.dataset.choice, classes))


def _sorted_labels(categories: dict[str, str]) -> list[str]:
    return sorted(set(categories.values()))


def judged_boxes(context: JobContext, categories: dict[str, str]) -> DataFrame:
    """Every box of the dataset's classes as `selected_boxes` has it, kept or with its reason.

    Args:
        context: of the run.
        categories: from `chosen_categories`.
    """
    spec = context.settings.dataset
    states = known_states(context) if spec.is_capped else None
    fetch = context.settings.fetch
    return judge_boxes(
        select_classes(context.scan_table(t.BOXES), categories),
        spec,
        forgotten=context.forgotten_photos(),
        photos=None if spec.licenses is None else context.scan_table(t.PHOTOS),
        spent=None if states is None else spent_boxes(states, fetch),
        lost=None if states is None else lost_photos(states, fetch),
    )


def unmatched_rules(context: JobContext) -> Iterator[str]:
    """Tells of sources and licences that the spec lets through and the catalog does not have."""
    spec = context.settings.dataset
    rules: list[tuple[str, Sequence[str] | None, Table, str, Callable[[str, str], bool]]] = [
        ("box_sources", spec.box_sources, t.BOXES, t.SOURCE, operator.eq),
        ("licenses", spec.licenses, t.PHOTOS, t.LICENSE, fits),
    ]
    for rule, wanted, table, column, is_match in rules:
        if wanted is None:
            continue
        version = context.pinned.get(table.name)
        counted = context.lake.reader.count_by(table.name, [column], version=version)
        found = {values[0]: count for values, count in counted.most_common() if values[0]}
        there = ", ".join(f"{text} ({count:,})" for text, count in [*found.items()][:_SHOWN])
        for text in wanted:
            if not any(is_match(value, text) for value in found):
                yield f'dataset.{rule}: no row of {table.name} has "{text}"; they have {there}'


def run(context: JobContext) -> None:
    """`boxes` → `selected_boxes` of the dataset."""
    spec = context.settings.dataset
    categories = chosen_categories(context)
    judged = judged_boxes(context, categories)
    version = _version_of_the_same(context, judged)
    if version is None:
        version = context.lake.replace_partition(
            judged,
            t.SELECTED_BOXES,
            {t.DATASET: spec.name},
            {"dataset": spec.name, "spec_hash": settings_hash(JOB, context.settings, {})},
        )
    context.written[t.SELECTED_BOXES.name] = version
    counted = context.lake.reader.count_by(
        t.SELECTED_BOXES.name,
        [t.CATEGORY, t.REJECT_REASON],
        version=version,
        where=pads.field(t.DATASET) == spec.name,
    )
    cells = {(category, reason or "kept"): n for (category, reason), n in counted.items()}
    for (_, reason), count in cells.items():
        context.counts[reason] = context.counts.get(reason, 0) + count
    summary.print_crosstab(context.console, "select_boxes: boxes", "category", cells, first="kept")
    for miss in unmatched_rules(context):
        summary.warn(context.console, miss)
    if not context.counts.get("kept"):
        raise InputDataError(
            f"dataset {spec.name}: no box is left ({context.counts or 'the classes have none'}); "
            "loosen its rules"
        )
    _warn_of_bare_categories(context, set(categories.values()), cells)


def _warn_of_bare_categories(
    context: JobContext, categories: set[str], cells: dict[tuple[str, str], int]
) -> None:
    bare = sorted(categories - {category for category, reason in cells if reason == "kept"})
    if bare:
        summary.warn(context.console, f"no box is kept of: {', '.join(bare)}")


def known_states(context: JobContext) -> DataFrame | None:
    """What became of the boxes that were fetched; None before the first."""
    if not context.lake.exists(t.CROPS):
        return None
    recipe_id = recipe_of(context.settings.fetch).recipe_id
    return box_states(context.read_table(t.CROPS), recipe_id)


def _version_of_the_same(context: JobContext, judged: DataFrame) -> int | None:
    """The version of `selected_boxes` that has these very rows, if there is one.

    What follows is not done again then: boxes that failed may change nothing here. It is the
    version that the last run left, as long as the dataset's files are still the same ones; else the
    newest, be it that a run was killed after its commit or that files were compacted.
    """
    reader, partition = context.lake.reader, {t.DATASET: context.settings.dataset.name}
    if not context.lake.exists(t.SELECTED_BOXES):
        return None
    newest = context.lake.version(t.SELECTED_BOXES)
    files = reader.files(t.SELECTED_BOXES.name, version=newest, partition=partition)
    landed = context.lake.read(t.SELECTED_BOXES, version=newest)
    landed = landed.where(F.col(t.DATASET) == context.settings.dataset.name)
    if not files or _fingerprint(judged) != _fingerprint(landed):
        return None
    last = latest_runs(context.lake, context.settings, (JOB,)).get(JOB.name)
    if last is None or t.SELECTED_BOXES.name not in last[t.TABLES_WRITTEN]:
        return newest
    version = int(last[t.TABLES_WRITTEN][t.SELECTED_BOXES.name])
    try:
        found = reader.files(t.SELECTED_BOXES.name, version=version, partition=partition)
    except InputDataError:  # its entry of the log is gone
        return newest
    return version if found == files else newest


def _fingerprint(rows: DataFrame) -> tuple[object, ...]:
    hashed = F.xxhash64(*t.SELECTED_BOXES.columns).cast("decimal(38,0)")
    return tuple(rows.agg(F.count("*"), F.sum(hashed)).first() or ())


def _state_of(lake: Lake, settings: Settings) -> str | None:
    """What failed to be fetched so far, where a cap gives others its place."""
    if not settings.dataset.is_capped or not lake.exists(t.CROPS):
        return None
    recipe_id = recipe_of(settings.fetch).recipe_id
    failed = (pads.field(t.RECIPE_ID) == recipe_id) & (pads.field(t.HAS_CROP) == False)  # noqa: E712  # an Arrow expression
    columns = [t.BOX_ID, t.STATUS, t.ATTEMPT]
    tries = lake.reader.dataset(t.CROPS.name).to_batches(columns=columns, filter=failed)
    total = 0  # of the rows' hashes: they come in any order, and there may be millions
    for batch in tries:
        for row in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
            digest = hashlib.blake2b(repr(row).encode(), digest_size=16).digest()
            total = (total + int.from_bytes(digest)) % (1 << 128)
    return f"{total:032x}"


JOB = Job(
    name="select_boxes",
    run=run,
    writes=(t.SELECTED_BOXES,),
    reads=(t.CLASSES, t.BOXES, t.PHOTOS, t.FORGOTTEN_PHOTOS, t.CROPS),
    follows=("ingest_catalog",),
    conf_of=lambda settings: [
        settings.dataset.model_dump(mode="json", exclude=_JUDGED_LATER),
        *(
            [settings.fetch.retry, settings.fetch.max_attempts, settings.fetch.recipe]
            if settings.dataset.is_capped
            else []
        ),
    ],
    state_of=_state_of,
)
