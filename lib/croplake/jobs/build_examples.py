"""Makes a dataset's training shards: crops → examples, near_duplicates."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import summary
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.examples.layout import ShardLayout, plan_layout, read_layout, writer_properties
from croplake.examples.transforms import (
    balance,
    balance_cuts,
    make_examples,
    shuffle_examples,
)
from croplake.jobs.context import Job, JobContext, settings_hash
from croplake.jobs.fetch_plan import recipe_of
from croplake.jobs.near_duplicates import settle_near_duplicates
from croplake.jobs.select_boxes import dataset_labels, labels_of
from croplake.session import session_properties

Cells = dict[tuple[str, str], int]


def run(context: JobContext) -> None:
    """`crops` of the dataset's kept boxes → `examples`."""
    spec = context.settings.dataset
    categories = dataset_labels(context)
    recipe_id = recipe_of(context.settings.fetch).recipe_id
    crops = context.read_table(t.CROPS).where(F.col(t.RECIPE_ID) == recipe_id)
    selected = context.read_table(t.SELECTED_BOXES).where(F.col(t.DATASET) == spec.name)
    examples = make_examples(crops, selected, categories, spec)
    examples = settle_near_duplicates(context, examples, crops)
    if spec.balance.rule != "none":
        cuts = balance_cuts(examples, spec).collect()
        examples = balance(examples, {row[t.CATEGORY]: row[t.EXAMPLE_ID] for row in cuts})
    cells = _count(examples)
    _check_splits(context, categories, cells)
    layout = _plan(context, cells, recipe_id)
    _write(
        context,
        shuffle_examples(examples, layout.num_files, context.settings.examples.shuffle_seed),
        layout,
    )
    landed = context.lake.read(t.EXAMPLES, version=context.written[t.EXAMPLES.name])
    cells = _count(landed.where(F.col(t.DATASET) == spec.name))
    for (_, split), count in cells.items():
        context.counts[split] = context.counts.get(split, 0) + count
    summary.print_crosstab(
        context.console, "build_examples: examples", "category", cells, first="train"
    )
    _check_row_groups(context)


def _count(examples: DataFrame) -> Cells:
    rows = examples.groupBy(t.CATEGORY, t.SPLIT).count().collect()
    return {(row[t.CATEGORY], row[t.SPLIT]): int(row["count"]) for row in rows}


def _rows_of(cells: Cells, *splits: str) -> int:
    return sum(count for (_, split), count in cells.items() if split in splits)


def _check_splits(context: JobContext, categories: list[str], cells: Cells) -> None:
    """Names categories that a split lacks.

    Raises:
        InputDataError: no example at all, or `on_missing_split: error`.
    """
    spec = context.settings.dataset
    if not _rows_of(cells, "train"):
        raise InputDataError(
            f"dataset {spec.name}: no training example ({_rows_of(cells, *t.SPLITS)} in other "
            f"splits, {_rows_of(cells, t.REJECTED_SPLIT)} rejected); with split: open_images the "
            "catalog must have the train subset, split: hash parts any subset"
        )
    missing = [
        f"{category} has no {split} example"
        for category in categories
        for split in t.SPLITS
        if not cells.get((category, split))
    ]
    if missing and spec.on_missing_split == "error":
        raise InputDataError(f"dataset {spec.name}: " + "; ".join(missing))
    for text in missing:
        summary.warn(context.console, text)


def _plan(context: JobContext, cells: Cells, recipe_id: str) -> ShardLayout:
    conf = context.settings.examples
    of_recipe = {t.RECIPE_ID: recipe_id, t.HAS_CROP: "true"}
    crops = context.lake.reader.info(t.CROPS.name, partition=of_recipe)
    num_rows = _rows_of(cells, *t.SPLITS)
    return plan_layout(
        num_rows=num_rows,
        num_bytes=int(num_rows * crops.bytes / max(crops.rows, 1)),
        train_rows=_rows_of(cells, "train"),
        num_workers=context.settings.train.num_workers,
        conf=conf,
    )


def _write(context: JobContext, examples: DataFrame, layout: ShardLayout) -> None:
    spec = context.settings.dataset
    properties = writer_properties(layout.row_group_bytes) | {
        "spark.sql.files.maxRecordsPerFile": layout.max_rows_per_file
    }
    with session_properties(context.spark, properties):
        context.written[t.EXAMPLES.name] = context.lake.replace(
            examples,
            t.EXAMPLES,
            where=f"{t.DATASET} = '{spec.name}'",
            metadata={"dataset": spec.name, "spec_hash": settings_hash(JOB, context.settings, {})},
        )


def _check_row_groups(context: JobContext) -> None:
    """Says what the training split's shards are like.

    Raises:
        InputDataError: fewer row groups than workers: some would have nothing to read.
    """
    dataset, num_workers = context.settings.dataset.name, context.settings.train.num_workers
    files = context.lake.reader.files(
        t.EXAMPLES.name,
        version=context.written[t.EXAMPLES.name],
        partition={t.DATASET: dataset, t.SPLIT: "train"},
    )
    facts = read_layout(files)
    context.console.print(
        f"train shards: {facts.num_row_groups} row groups of at most "
        f"{facts.largest_row_group_bytes / 2**20:.1f} MiB, files: {facts.num_files}",
        highlight=False,
    )
    if facts.num_row_groups < num_workers:
        raise InputDataError(
            f"dataset {dataset}: {facts.num_row_groups} row groups for {num_workers} workers; "
            "lower train.num_workers or examples.row_group_bytes, or take more boxes"
        )


JOB = Job(
    name="build_examples",
    run=run,
    writes=(t.NEAR_DUPLICATES, t.EXAMPLES),
    reads=(t.CLASSES, t.SELECTED_BOXES, t.CROPS),
    follows=("select_boxes", "fetch_crops"),
    conf_of=lambda settings: [
        settings.dataset,
        settings.examples,
        settings.fetch.recipe,
        settings.train.num_workers,
    ],
    # A class without a box is a label, too, and moves those behind it.
    state_of=labels_of,
)
