"""Finds a dataset's near-duplicates while its examples are made: → near_duplicates."""

from __future__ import annotations

from pyspark.sql import DataFrame

from croplake import tables as t
from croplake.examples.look_alikes import join_groups
from croplake.examples.near_duplicates import (
    BUCKET,
    alike_pairs,
    into_buckets,
    large_buckets,
    looks_of,
    reject_near_duplicates,
    same_bytes,
)
from croplake.jobs.context import JobContext


def settle_near_duplicates(context: JobContext, examples: DataFrame, crops: DataFrame) -> DataFrame:
    """Writes the groups of the dataset's photos, and rejects examples outside their group's split.

    Args:
        context: of the run.
        examples: the columns of `examples`.
        crops: rows of `crops` of the dataset's recipe.

    Returns:
        The examples; those turned down have the reason `near_duplicate`.
    """
    spec = context.settings.dataset
    groups: dict[str, str] = {}
    if spec.near_duplicates.rule == "reject":
        groups = _find(context, examples, crops)
    rows = [
        {t.DATASET: spec.name, t.IMAGE_ID: image_id, t.GROUP_ID: group_id}
        for image_id, group_id in sorted(groups.items())
    ]
    context.written[t.NEAR_DUPLICATES.name] = context.lake.put_rows(
        rows, t.NEAR_DUPLICATES, where=f"{t.DATASET} = '{spec.name}'"
    )
    if not groups:
        return examples
    context.console.print(
        f"near-duplicates: {len(set(groups.values())):,} groups of {len(groups):,} photos",
        highlight=False,
    )
    schema = f"{t.IMAGE_ID} string, {t.GROUP_ID} string"
    frame = context.spark.createDataFrame(sorted(groups.items()), schema)
    return reject_near_duplicates(examples, frame)


def _find(context: JobContext, examples: DataFrame, crops: DataFrame) -> dict[str, str]:
    """Photo to group."""
    spec = context.settings.dataset.near_duplicates
    looks = looks_of(crops, examples).cache()
    try:
        buckets = into_buckets(looks, spec)
        too_large = large_buckets(buckets, spec).collect()
        large = context.spark.createDataFrame(
            [(row[BUCKET], row["count"]) for row in too_large], f"{BUCKET} long, count long"
        )
        pairs = alike_pairs(buckets, large, looks, spec).union(same_bytes(looks))
        found = pairs.toArrow().to_pydict()
    finally:
        looks.unpersist()
    if too_large:
        most = max(row["count"] for row in too_large)
        context.counts["buckets of look-alikes not compared"] = len(too_large)
        context.console.print(
            f"[yellow]near-duplicates: {len(too_large)} buckets of more than {spec.max_bucket} "
            f"photos (at most {most}) were not compared (dataset.near_duplicates.max_bucket); "
            "photos meet in several, so most of theirs were compared elsewhere",
            highlight=False,
        )
    return join_groups(zip(*found.values(), strict=True))
