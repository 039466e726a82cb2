"""Finds a dataset's near-duplicates while its examples are made: → near_duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame, SparkSession

from croplake import summary
from croplake import tables as t
from croplake.conf import NearDuplicatesSpec
from croplake.examples.look_alikes import join_groups
from croplake.examples.near_duplicates import (
    BUCKET,
    NUM,
    alike_pairs,
    close_hashes,
    crowded_hashes,
    fewer_pairs,
    into_buckets,
    large_buckets,
    looks_of,
    photos_by_hash,
    reject_near_duplicates,
    same_bytes,
)
from croplake.jobs.context import JobContext
from croplake.session import session_properties

LARGE_BUCKETS: Final = "buckets of look-alikes not compared"
CROWDED_HASHES: Final = "dHashes of more photos than are compared"
UNCOMPARED: Final = (LARGE_BUCKETS, CROWDED_HASHES)
"""What `runs` counts."""

_SEARCH: Final = {
    # Rows of two hundred bytes; the session's batches are for pictures.
    "spark.sql.execution.arrow.maxRecordsPerBatch": 16 * 1024,
    # Of joins of millions of rows Spark takes some sides for small ones, and a driver on a laptop
    # has no room to build them; what is small here says so itself.
    "spark.sql.autoBroadcastJoinThreshold": -1,
    "spark.sql.adaptive.autoBroadcastJoinThreshold": -1,
}


@dataclass(frozen=True)
class FoundGroups:
    """Photos that look alike, and where nobody could look.

    Attributes:
        groups: photo to group, of the photos that have near-duplicates.
        large_buckets: the hashes in each bucket that is beyond the cap.
        crowded_hashes: the photos of each hash that has more of them than the cap.
    """

    groups: dict[str, str]
    large_buckets: list[int]
    crowded_hashes: list[int]


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
        found = find_groups(context.spark, looks_of(crops, examples), spec.near_duplicates)
        _tell_caps(context, found)
        groups = found.groups
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


def find_groups(spark: SparkSession, looks: DataFrame, spec: NearDuplicatesSpec) -> FoundGroups:
    """Finds the photos that look alike.

    Args:
        spark: the session.
        looks: from `looks_of`.
        spec: what is alike, and the cap.
    """
    looks = looks.cache()
    photos = photos_by_hash(looks).cache()
    try:
        with session_properties(spark, _SEARCH):
            buckets = into_buckets(photos, spec)
            large = large_buckets(buckets, spec).collect()
            too_large = spark.createDataFrame(
                [(row[BUCKET], row[NUM]) for row in large], f"{BUCKET} long, {NUM} long"
            )
            crowded = crowded_hashes(photos, spec).collect()
            close = close_hashes(buckets, too_large, spec)
            pairs = alike_pairs(photos, close, spec).union(same_bytes(looks))
            # A task leaves a photo once, however many it is paired with: what the driver holds
            # grows with the photos that have near-duplicates, not with their pairs.
            found = fewer_pairs(pairs).toArrow().to_pydict()
    finally:
        photos.unpersist()
        looks.unpersist()
    return FoundGroups(
        groups=join_groups(zip(*found.values(), strict=True)),
        large_buckets=[row[NUM] for row in large],
        crowded_hashes=[row[NUM] for row in crowded],
    )


def _tell_caps(context: JobContext, found: FoundGroups) -> None:
    """Counts, and says, where not all was compared."""
    most = context.settings.dataset.near_duplicates.max_bucket
    if found.large_buckets:
        context.counts[LARGE_BUCKETS] = len(found.large_buckets)
        summary.warn(
            context.console,
            f"near-duplicates: {len(found.large_buckets):,} buckets of more than {most:,} "
            f"dHashes (at most {max(found.large_buckets):,}) were not compared "
            "(dataset.near_duplicates.max_bucket): photos of different dHashes that meet in no "
            "smaller bucket may look alike unnoticed",
        )
    if found.crowded_hashes:
        context.counts[CROWDED_HASHES] = len(found.crowded_hashes)
        summary.warn(
            context.console,
            f"near-duplicates: {len(found.crowded_hashes):,} dHashes have more than "
            f"{most:,} photos (at most {max(found.crowded_hashes):,}): of each, the first {most:,} "
            "were compared with others (dataset.near_duplicates.max_bucket), and the rest with "
            "these alone",
        )
