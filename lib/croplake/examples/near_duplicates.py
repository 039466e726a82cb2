"""Near-duplicates among a dataset's photos, found without comparing all pairs.

Two 64-bit hashes that differ in at most d bits, cut into d + 2 bands, agree in two bands at least.
Hashes that share two bands meet in a bucket, and only there are they compared: for d = 3 a bucket
has about 26 bits, so that those of millions of photos make small ones. The photos of hashes that
are close or the same are then compared by colours and shape.
"""

from __future__ import annotations

from functools import partial, reduce
from itertools import combinations, pairwise
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.conf import NearDuplicatesSpec
from croplake.examples.look_alikes import drop_flat, drop_unlike, join_pairs

NEAR_DUPLICATE: Final = "near_duplicate"
PROTECTED_SPLITS: Final = ("test", "validation", "train")
"""The most protected one first."""

BUCKET: Final = "bucket"
NUM: Final = "num"
_ASPECT_RATIO: Final = "aspect_ratio"
_FIRST: Final = "first_id"
_FIRST_DHASH: Final = "first_dhash"
_HOME: Final = "home"
_PLACE: Final = "place"
_CHECKED: Final = ("colors", _ASPECT_RATIO, "other_colors", "other_aspect_ratio")
"""What `drop_unlike` looks at."""
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


def photos_by_hash(looks: DataFrame) -> DataFrame:
    """The photos to compare, numbered among those of the same hash.

    Args:
        looks: from `looks_of`; flat pictures, and all but one of those with the same bytes, are
            left out.

    Returns:
        `image_id`, `photo_dhash`, `photo_colors`, `aspect_ratio` and `place`, from 1 on.
    """
    look = F.struct(t.IMAGE_ID, t.PHOTO_DHASH, t.PHOTO_COLORS, _ASPECT_RATIO)
    photos = looks.groupBy(t.PHOTO_SHA256).agg(F.min(look).alias("photo")).select("photo.*")
    uneven = photos.mapInArrow(drop_flat, photos.schema)
    place = F.row_number().over(Window.partitionBy(t.PHOTO_DHASH).orderBy(t.IMAGE_ID))
    return uneven.withColumn(_PLACE, place)


def crowded_hashes(photos: DataFrame, spec: NearDuplicatesSpec) -> DataFrame:
    """The hashes of more photos than the cap: `photo_dhash` and the `num` of photos.

    Args:
        photos: from `photos_by_hash`.
        spec: the cap.
    """
    sizes = photos.groupBy(t.PHOTO_DHASH).agg(F.max(_PLACE).alias(NUM))
    return sizes.where(F.col(NUM) > spec.max_bucket)


def into_buckets(photos: DataFrame, spec: NearDuplicatesSpec) -> DataFrame:
    """Puts hashes where close ones meet.

    Args:
        photos: from `photos_by_hash`.
        spec: greatest distance.

    Returns:
        `photo_dhash`, `bucket`: several rows a hash, however many photos have it.
    """
    hashes = photos.where(F.col(_PLACE) == 1)
    keys = _band_keys(F.col(t.PHOTO_DHASH), spec.max_distance + 2)
    return hashes.select(t.PHOTO_DHASH, F.explode(keys).alias(BUCKET))


def large_buckets(buckets: DataFrame, spec: NearDuplicatesSpec) -> DataFrame:
    """The buckets beyond the cap, whose hashes are not compared there: `bucket`, `num` of hashes.

    Args:
        buckets: from `into_buckets`.
        spec: the cap.
    """
    sizes = buckets.groupBy(BUCKET).agg(F.count("*").alias(NUM))
    return sizes.where(F.col(NUM) > spec.max_bucket)


def close_hashes(buckets: DataFrame, too_large: DataFrame, spec: NearDuplicatesSpec) -> DataFrame:
    """The hashes that differ in few bits: `first_dhash` and `photo_dhash`, each pair once.

    Args:
        buckets: from `into_buckets`.
        too_large: from `large_buckets`.
        spec: greatest distance.
    """
    met = buckets.join(F.broadcast(too_large.select(BUCKET)), on=BUCKET, how="left_anti")
    others = met.select(BUCKET, F.col(t.PHOTO_DHASH).alias(_FIRST_DHASH))
    one, other = F.col(_FIRST_DHASH), F.col(t.PHOTO_DHASH)
    is_close = F.bit_count(one.bitwiseXOR(other)) <= spec.max_distance
    close = met.join(others, on=BUCKET, how="inner").where((one < other) & is_close)
    return close.select(_FIRST_DHASH, t.PHOTO_DHASH).distinct()


def alike_pairs(photos: DataFrame, close: DataFrame, spec: NearDuplicatesSpec) -> DataFrame:
    """The pairs of close hashes, or of the same one, whose colours and shapes agree too.

    Of a hash of more photos than the cap, the first ones stand for it: the others are compared with
    these alone, so that what a hash costs grows with its photos, not with their pairs.

    Args:
        photos: from `photos_by_hash`.
        close: from `close_hashes`.
        spec: what is alike, and the cap.

    Returns:
        `first_id` and `image_id`, each pair once.
    """
    colors, aspect, place = F.col(t.PHOTO_COLORS), F.col(_ASPECT_RATIO), F.col(_PLACE)
    ones = photos.select(t.IMAGE_ID, t.PHOTO_DHASH, colors.alias("colors"), aspect, place)
    firsts = photos.where(place <= spec.max_bucket).select(
        F.col(t.IMAGE_ID).alias(_FIRST),
        F.col(t.PHOTO_DHASH).alias(_FIRST_DHASH),
        colors.alias("other_colors"),
        aspect.alias("other_aspect_ratio"),
    )
    of_one_hash = (
        ones.where(place > 1)
        .join(firsts, on=F.col(t.PHOTO_DHASH) == F.col(_FIRST_DHASH), how="inner")
        .where(F.col(_FIRST) < F.col(t.IMAGE_ID))
    )
    of_two = close.join(firsts, on=_FIRST_DHASH, how="inner").join(
        ones.where(place <= spec.max_bucket), on=t.PHOTO_DHASH, how="inner"
    )
    columns = (_FIRST, t.IMAGE_ID, *_CHECKED)
    both = of_one_hash.select(*columns).union(of_two.select(*columns))
    check = partial(drop_unlike, max_color_difference=spec.max_color_difference)
    return both.mapInArrow(check, both.schema).select(_FIRST, t.IMAGE_ID)


def fewer_pairs(pairs: DataFrame) -> DataFrame:
    """Pairs that join the same photos; each task leaves a photo once, with the first of its group.

    Args:
        pairs: `first_id` and `image_id`.
    """
    return pairs.mapInArrow(join_pairs, pairs.schema)


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
