"""Near-duplicates are those that comparing all pairs would find."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from croplake import tables as t
from croplake.conf import NearDuplicatesSpec
from croplake.examples.near_duplicates import (
    alike_pairs,
    into_buckets,
    large_buckets,
    reject_near_duplicates,
    same_bytes,
)
from croplake.lake import spark_schema

SCHEMA = (
    f"{t.IMAGE_ID} string, {t.PHOTO_SHA256} string, {t.PHOTO_DHASH} long, {t.PHOTO_COLORS} binary, "
    "aspect_ratio double"
)
Look = tuple[str, str, int, bytes, float]
MASK = (1 << 64) - 1


def signed(bits: int) -> int:
    return bits - (1 << 64) if bits >= 1 << 63 else bits


def photo(number: int, dhash: int, rng: random.Random, colors: bytes | None = None) -> Look:
    return (
        f"{number:016x}",
        f"sha{number}",
        signed(dhash),
        colors or bytes(rng.randrange(256) for _ in range(48)),
        1.5,
    )


def looks_with_near_ones(rng: random.Random) -> list[Look]:
    """Random photos, and for some of them another at each distance from 0 to 6 bits."""
    looks: list[Look] = []
    for _ in range(300):
        dhash = rng.getrandbits(64)
        looks.append(photo(len(looks), dhash, rng))
        for distance in range(7) if len(looks) % 3 == 0 else ():
            flipped = sum(1 << bit for bit in rng.sample(range(64), distance))
            looks.append(photo(len(looks), dhash ^ flipped, rng, looks[-1][3]))
    return looks


def pairs_of(
    spark: SparkSession, looks: list[Look], spec: NearDuplicatesSpec
) -> tuple[set[tuple[str, str]], int]:
    frame = spark.createDataFrame(looks, SCHEMA)
    buckets = into_buckets(frame, spec)
    too_large = large_buckets(buckets, spec)
    rows = alike_pairs(buckets, too_large, frame, spec).collect()
    pairs = [(row["first_id"], row[t.IMAGE_ID]) for row in rows]
    assert len(set(pairs)) == len(pairs)
    return set(pairs), too_large.count()


def distance(one: Look, other: Look) -> int:
    return ((one[2] ^ other[2]) & MASK).bit_count()


@pytest.mark.parametrize("max_distance", [0, 3, 5])
def test_the_pairs_are_those_of_comparing_all(spark: SparkSession, max_distance: int) -> None:
    looks = looks_with_near_ones(random.Random(max_distance))
    spec = NearDuplicatesSpec(max_distance=max_distance)
    found, num_large = pairs_of(spark, looks, spec)
    expected = set()
    for one in looks:
        for other in looks:
            if one[0] < other[0] and distance(one, other) <= max_distance:
                colors = [np.frombuffer(each[3], np.uint8).astype(float) for each in (one, other)]
                if np.abs(colors[0] - colors[1]).mean() <= 10:
                    expected.add((one[0], other[0]))
    assert found == expected
    assert len(expected) > 50
    assert num_large == 0


def test_photos_with_the_same_bytes_meet_without_being_compared(spark: SparkSession) -> None:
    rng = random.Random(1)
    looks = [photo(number, rng.getrandbits(64), rng) for number in range(4)]
    looks = [(look[0], "same" if number else "own", *look[2:]) for number, look in enumerate(looks)]
    rows = same_bytes(spark.createDataFrame(looks, SCHEMA)).collect()
    firsts = {row[t.IMAGE_ID]: row["first_id"] for row in rows}
    assert firsts == {looks[2][0]: looks[1][0], looks[3][0]: looks[1][0]}


def test_buckets_beyond_the_cap_are_told_and_not_compared(spark: SparkSession) -> None:
    rng = random.Random(2)
    looks = [photo(number, 0x0F0F << 20, rng, bytes(range(48))) for number in range(30)]
    found, num_large = pairs_of(spark, looks, NearDuplicatesSpec(max_bucket=20))
    assert (found, num_large) == (set(), 10)
    found, num_large = pairs_of(spark, looks, NearDuplicatesSpec(max_bucket=30))
    assert (len(found), num_large) == (30 * 29 // 2, 0)


def examples_of(spark: SparkSession, rows: list[tuple[str, str]]) -> DataFrame:
    columns: list[dict[str, Any]] = [
        {t.EXAMPLE_ID: f"{number}", t.IMAGE_ID: image_id, t.SPLIT: split, t.IMAGE: b"jpeg"}
        for number, (image_id, split) in enumerate(rows)
    ]
    values = [tuple(row.get(name) for name in t.EXAMPLES.columns) for row in columns]
    return spark.createDataFrame(values, spark_schema(t.EXAMPLES.schema))


def test_a_group_stays_in_its_most_protected_split_and_the_test_split_does_not_grow(
    spark: SparkSession,
) -> None:
    examples = examples_of(
        spark,
        [
            ("a", "train"),
            ("a", "train"),
            ("b", "test"),
            ("c", "validation"),
            ("d", "train"),
            ("e", "validation"),
            ("f", "train"),
            ("g", "train"),
            ("h", "train"),
            ("i", "rejected"),
        ],
    )
    groups = {"a": "a", "b": "a", "c": "a", "d": "d", "e": "d", "f": "f", "g": "f", "i": "h"}
    schema = f"{t.IMAGE_ID} string, {t.GROUP_ID} string"
    named = spark.createDataFrame(list(groups.items()), schema)
    rows = reject_near_duplicates(examples, named).collect()
    rows.sort(key=lambda row: int(row[t.EXAMPLE_ID]))
    found = [(row[t.IMAGE_ID], row[t.SPLIT], row[t.REJECT_REASON]) for row in rows]
    out = ("rejected", "near_duplicate")
    assert found == [
        ("a", *out),
        ("a", *out),
        ("b", "test", None),
        ("c", *out),
        ("d", *out),
        ("e", "validation", None),
        ("f", "train", None),
        ("g", "train", None),
        ("h", "train", None),
        ("i", "rejected", None),
    ]
    assert [row[t.IMAGE] is None for row in rows[:4]] == [True, True, False, True]
