"""What an export takes out of the lake, and the shards that it makes of that."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.examples.export_rows import (
    DIGEST,
    NUM,
    count_rows,
    count_shards,
    rows_of_crops,
    rows_of_examples,
)
from croplake.export.names import folder_names
from croplake.export.plan import ALONG_BYTES, Label, Manifest, Request, Shard, What, num_buckets
from croplake.export.rows import SHARD
from croplake.jobs.context import JobContext
from croplake.jobs.fetch_plan import recipe_of
from croplake.tables import Table

READS: Final[Mapping[What, tuple[Table, ...]]] = {
    "examples": (t.CLASSES, t.EXAMPLES),
    "crops": (t.CLASSES, t.SELECTED_BOXES, t.CROPS),
}
"""The tables that an export reads; the last has the pictures."""


def rows_of(context: JobContext, of: What, labels: list[str]) -> DataFrame:
    """The dataset's pictures as `rows.DETAILS` and `image`.

    Args:
        context: of the run.
        of: which.
        labels: the dataset's categories by label index.
    """
    of_dataset = F.col(t.DATASET) == context.settings.dataset.name
    if of == "examples":
        return rows_of_examples(context.read_table(t.EXAMPLES).where(of_dataset))
    recipe_id = recipe_of(context.settings.fetch).recipe_id
    crops = context.read_table(t.CROPS).where(F.col(t.RECIPE_ID) == recipe_id)
    return rows_of_crops(crops, context.read_table(t.SELECTED_BOXES).where(of_dataset), labels)


def count_pictures(
    context: JobContext, of: What, rows: DataFrame, labels: list[str]
) -> dict[tuple[str, str], int]:
    """Pictures by category and split.

    Args:
        context: of the run.
        of: which.
        rows: from `rows_of`.
        labels: the dataset's categories by label index.

    Raises:
        InputDataError: there are none, or their labels are not the settings'.
    """
    dataset = context.settings.dataset.name
    job = "build_examples" if of == "examples" else "fetch_crops"
    counted = count_rows(rows).collect()
    if not counted:
        raise InputDataError(
            f"{context.lake.root}: the lake has no {of} of dataset {dataset}; {job} makes them"
        )
    known = set(enumerate(labels))
    for row in counted:
        if (row[t.LABEL_INDEX], row[t.CATEGORY]) not in known:
            raise InputDataError(
                f"{context.lake.root}: the {of} of dataset {dataset} have the category "
                f"{row[t.CATEGORY]!r} as label {row[t.LABEL_INDEX]}, the settings have not; run "
                f"select_boxes and {job} with these settings first, or take those they are of"
            )
    return {(row[t.CATEGORY], row[t.SPLIT]): row[NUM] for row in counted}


def plan_export(
    context: JobContext,
    request: Request,
    rows: DataFrame,
    labels: list[str],
    counts: Mapping[tuple[str, str], int],
    found: Manifest | None,
) -> Manifest:
    """What an export of these rows is made of.

    Args:
        context: of the run.
        request: what is to be exported.
        rows: from `rows_of`.
        labels: the dataset's categories by label index.
        counts: from `count_pictures`.
        found: the export that is there; its buckets are kept.
    """
    buckets = found.buckets if found else _buckets(context, request, counts)
    folders = folder_names(labels)
    reader, tables = context.lake.reader, [table.name for table in READS[request.of]]
    return Manifest(
        format=request.format,
        of=request.of,
        dataset=context.settings.dataset.name,
        tables={name: reader.table_id(name) for name in tables},
        versions={name: context.pinned[name] for name in tables},
        recipe_id=recipe_of(context.settings.fetch).recipe_id if request.of == "crops" else None,
        buckets=buckets,
        labels=tuple(Label(index, name, folders[name]) for index, name in enumerate(labels)),
        shards=_shards(count_shards(rows, buckets).collect()),
    )


def _buckets(
    context: JobContext, request: Request, counts: Mapping[tuple[str, str], int]
) -> dict[str, int]:
    conf, reader = context.settings.export, context.lake.reader
    if request.of == "examples":
        dataset = context.settings.dataset.name
        parts = [{t.DATASET: dataset, t.SPLIT: split} for split in t.SPLITS]
    else:
        parts = [{t.RECIPE_ID: recipe_of(context.settings.fetch).recipe_id, t.HAS_CROP: "true"}]
    table = READS[request.of][-1].name
    infos = [reader.info(table, partition=part) for part in parts]
    image_bytes = sum(info.bytes for info in infos) / max(sum(info.rows for info in infos), 1)
    rows = {split: sum(num for (_, of), num in counts.items() if of == split) for split in t.SPLITS}
    return {
        split: num_buckets(
            rows=num,
            row_bytes=image_bytes + ALONG_BYTES[request.format],
            shard_bytes=conf.shard_bytes,
            min_shards=conf.min_shards,
        )
        for split, num in rows.items()
        if num
    }


def _shards(counted: Sequence[Row]) -> tuple[Shard, ...]:
    """The buckets that are not empty, numbered anew in each split."""
    num_of_split = Counter(row[t.SPLIT] for row in counted)
    numbers = {split: itertools.count() for split in num_of_split}
    return tuple(
        Shard(
            id=row[SHARD],
            split=row[t.SPLIT],
            number=next(numbers[row[t.SPLIT]]),
            num_of_split=num_of_split[row[t.SPLIT]],
            rows=row[NUM],
            digest=row[DIGEST],
        )
        for row in sorted(counted, key=lambda row: row[SHARD])
    )
