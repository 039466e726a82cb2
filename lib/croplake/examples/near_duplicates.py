"""Near-duplicates among a dataset's photos, found without comparing all pairs.

Two 64-bit hashes that differ in at most d bits, cut into d + 2 bands, agree in two bands at least.
Photos that share two bands meet in a bucket, and only there are they compared: for d = 3 a bucket
has about 26 bits, so that millions of photos make small ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial, reduce
from itertools import combinations, pairwise
from typing import Final

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.conf import NearDuplicatesSpec
from croplake.examples.look_alikes import drop_flat, drop_unlike

NEAR_DUPLICATE: Final = "near_duplicate"
PROTECTED_SPLITS: Final = ("test", "validation", "train")
"""The most protected one first."""

BUCKET: Final = "bucket"
_ASPECT_RATIO: Final = "aspect_ratio"
_FIRST: Final = "first_id"
_HOME: Final = "home"
_HASH_BITS: Final = 64


def looks_of(crops: DataFrame, examples: DataFrame) -> DataFrame:
    """What is known of the looks of the photos that have examples.

    Args:
        crops: rows of `crops` of one recipe.
        examples: rows of `examples`; rejected ones do not count.

    Returns:
        One row a photo: `image_id`, `photo_sha256`, `photo_dhash`, `photo_colors` and
        `aspect_ratio` (width ÷ height).
    """
    wanted = examples.where(F.col(t.SPLIT) != t.REJECTED_SPLIT).select(t.IMAGE_ID).distinct()
    ratio = F.col(t.PHOTO_WIDTH_PX) / F.col(t.PHOTO_HEIGHT_PX)
    look = F.struct(t.PHOTO_SHA256, t.PHOTO_DHASH, t.PHOTO_COLORS, ratio.alias(_ASPECT_RATIO))
    looks = crops.where(F.col(t.HAS_CROP)).groupBy(t.IMAGE_ID).agg(F.min(look).alias("look"))
    return looks.join(wanted, on=t.IMAGE_ID, how="semi").select(t.IMAGE_ID, "look.*")


def same_bytes(looks: DataFrame) -> DataFrame:
    """Photos whose files are the same.

    Args:
        looks: from `looks_of`.

    Returns:
        `first_id`, the least id among those with the same bytes, and `image_id`, another one.
    """
    firsts = looks.groupBy(t.PHOTO_SHA256).agg(F.min(t.IMAGE_ID).alias(_FIRST))
    joined = looks.join(firsts, on=t.PHOTO_SHA256, how="inner")
    return joined.where(F.col(t.IMAGE_ID) != F.col(_FIRST)).select(_FIRST, t.IMAGE_ID)


def into_buckets(looks: DataFrame, spec: NearDuplicatesSpec) -> DataFrame:
    """Puts photos where those that look alike meet.

    Args:
        looks: from `looks_of`; flat pictures, and all but one of those with the same bytes, are
            left out.
        spec: greatest distance.

    Returns:
        `image_id`, `photo_dhash`, `bucket`: several rows a photo.
    """
    one_each = looks.groupBy(t.PHOTO_SHA256).agg(
        F.min(F.struct(t.IMAGE_ID, t.PHOTO_DHASH, t.PHOTO_COLORS)).alias("photo")
    )
    photos = one_each.select("photo.*")
    uneven = photos.mapInArrow(drop_flat, photos.schema)
    keys = _band_keys(F.col(t.PHOTO_DHASH), spec.max_distance + 2)
    return uneven.select(t.IMAGE_ID, t.PHOTO_DHASH, F.explode(keys).alias(BUCKET))


def large_buckets(buckets: DataFrame, spec: NearDuplicatesSpec) -> DataFrame:
    """The buckets beyond the cap: `bucket`, `count`. Their photos are not compared there."""
    sizes = buckets.groupBy(BUCKET).count()
    return sizes.where(F.col("count") > spec.max_bucket)


def alike_pairs(
    buckets: DataFrame, too_large: DataFrame, looks: DataFrame, spec: NearDuplicatesSpec
) -> DataFrame:
    """The pairs that look alike: close hashes, and in a second check like colours and shape.

    Args:
        buckets: from `into_buckets`.
        too_large: from `large_buckets`.
        looks: from `looks_of`.
        spec: what is alike.

    Returns:
        `first_id` and `image_id`, each pair once.
    """
    met = buckets.join(F.broadcast(too_large.select(BUCKET)), on=BUCKET, how="left_anti")
    others = met.select(
        BUCKET, F.col(t.IMAGE_ID).alias(_FIRST), F.col(t.PHOTO_DHASH).alias("first_dhash")
    )
    distance = F.bit_count(F.col(t.PHOTO_DHASH).bitwiseXOR(F.col("first_dhash")))
    close = (
        met.join(others, on=BUCKET, how="inner")
        .where((F.col(_FIRST) < F.col(t.IMAGE_ID)) & (distance <= spec.max_distance))
        .select(_FIRST, t.IMAGE_ID)
        .distinct()
    )
    colors, aspect = F.col(t.PHOTO_COLORS), F.col(_ASPECT_RATIO)
    one = looks.select(t.IMAGE_ID, colors.alias("colors"), aspect)
    other = looks.select(
        F.col(t.IMAGE_ID).alias(_FIRST),
        colors.alias("other_colors"),
        aspect.alias("other_aspect_ratio"),
    )
    both = close.join(one, on=t.IMAGE_ID, how="inner").join(other, on=_FIRST, how="inner")
    check = partial(_checked, max_color_difference=spec.max_color_difference)
    return both.mapInArrow(check, both.schema).select(_FIRST, t.IMAGE_ID)


def reject_near_duplicates(examples: DataFrame, groups: DataFrame) -> DataFrame:
    """Keeps each group in its most protected split; its photos elsewhere are rejected.

    No photo changes its split: what is not in the group's is left out.

    Args:
        examples: the columns of `examples`.
        groups: `image_id` and `group_id` of the photos that have near-duplicates.
    """
    placed = (
        examples.where(F.col(t.SPLIT) != t.REJECTED_SPLIT)
        .select(t.IMAGE_ID, t.SPLIT)
        .distinct()
        .join(F.broadcast(groups), on=t.IMAGE_ID, how="inner")
    )
    ranks = reduce(
        lambda rank, place: rank.when(F.col(t.SPLIT) == place[1], place[0]),
        enumerate(PROTECTED_SPLITS[1:], start=1),
        F.when(F.col(t.SPLIT) == PROTECTED_SPLITS[0], 0),
    )
    homes = placed.groupBy(t.GROUP_ID).agg(F.min_by(t.SPLIT, ranks).alias(_HOME))
    astray = (
        placed.join(F.broadcast(homes), on=t.GROUP_ID, how="inner")
        .where(F.col(t.SPLIT) != F.col(_HOME))
        .select(t.IMAGE_ID, F.lit(True).alias("is_astray"))
    )
    joined = examples.join(F.broadcast(astray), on=t.IMAGE_ID, how="left")
    is_kept = F.col(t.SPLIT) != t.REJECTED_SPLIT
    is_out = is_kept & F.coalesce(F.col("is_astray"), F.lit(False))
    return joined.withColumns(
        {
            t.SPLIT: F.when(is_out, t.REJECTED_SPLIT).otherwise(F.col(t.SPLIT)),
            t.IMAGE: F.when(~is_out, F.col(t.IMAGE)),
            t.REJECT_REASON: F.when(is_out, NEAR_DUPLICATE).otherwise(F.col(t.REJECT_REASON)),
        }
    ).select(*t.EXAMPLES.columns)


def _band_keys(dhash: Column, num_bands: int) -> Column:
    """For every two bands of a hash a number that says which they are and what is in them."""
    edges = [round(_HASH_BITS * band / num_bands) for band in range(num_bands + 1)]
    bands = [
        F.shiftrightunsigned(dhash, low).bitwiseAND(F.lit((1 << (high - low)) - 1))
        for low, high in pairwise(edges)
    ]
    pairs = combinations(range(num_bands), 2)
    return F.array(*(F.xxhash64(F.lit(i), F.lit(j), bands[i], bands[j]) for i, j in pairs))


def _checked(
    batches: Iterable[pa.RecordBatch], max_color_difference: float
) -> Iterator[pa.RecordBatch]:
    return drop_unlike(batches, max_color_difference=max_color_difference)
