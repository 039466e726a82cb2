"""Near-duplicates are those that comparing all pairs would find."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from croplake import tables as t
from croplake.conf import NearDuplicatesSpec
from croplake.examples.look_alikes import join_groups
from croplake.examples.near_duplicates import fewer_pairs, reject_near_duplicates
from croplake.jobs.near_duplicates import FoundGroups, find_groups
from croplake.lake import spark_schema

SCHEMA = (
    f"{t.IMAGE_ID} string, {t.PHOTO_SHA256} string, {t.PHOTO_DHASH} long, {t.PHOTO_COLORS} binary, "
    "aspect_ratio double"
)
Look = tuple[str, str, int, bytes, float]
MASK = (1 << 64) - 1
ONE_HASH = 0x0F0F << 20
UNEVEN = bytes(range(0, 192, 4))
FLAT = bytes([200] * 48)


def signed(bits: int) -> int:
    return bits - (1 << 64) if bits >= 1 << 63 else bits


def photo(number: int, dhash: int, colors: bytes, *, sha: str | None = None) -> Look:
    return (f"{number:016x}", sha or f"sha{number}", signed(dhash), colors, 1.5)


def random_colors(rng: random.Random) -> bytes:
    """Without the brightest, so that there is something brighter."""
    return bytes(rng.randrange(200) for _ in range(48))


def brighter(colors: bytes, by: int) -> bytes:
    return bytes(value + by for value in colors)


def looks_with_near_ones(rng: random.Random) -> list[Look]:
    """Random photos; of every third, others at each distance from 0 to 6 bits, twice.

    They are brighter step by step: neighbours in colour look alike, and others do not, so that
    photos of one hash, too, are a group by those between them.
    """
    looks: list[Look] = []
    numbers = rng.sample(range(10_000), 10_000)
    for place in range(200):
        dhash, colors = rng.getrandbits(64), random_colors(rng)
        looks.append(photo(numbers.pop(), dhash, colors))
        steps = rng.sample(range(14), 14)
        for distance in (0, 0, 1, 2, 3, 4, 5, 6) if place % 3 == 0 else ():
            flipped = sum(1 << bit for bit in rng.sample(range(64), distance))
            for _ in range(rng.randrange(1, 3)):
                if steps:
                    step = brighter(colors, 4 * steps.pop())
                    looks.append(photo(numbers.pop(), dhash ^ flipped, step))
    return looks


def is_alike(one: Look, other: Look, max_distance: int) -> bool:
    if ((one[2] ^ other[2]) & MASK).bit_count() > max_distance:
        return False
    colors = [np.frombuffer(look[3], np.uint8).astype(float) for look in (one, other)]
    return bool(np.abs(colors[0] - colors[1]).mean() <= 10)


def found_in(
    spark: SparkSession, looks: list[Look], spec: NearDuplicatesSpec | None = None
) -> FoundGroups:
    return find_groups(spark, spark.createDataFrame(looks, SCHEMA), spec or NearDuplicatesSpec())


def members(found: FoundGroups) -> set[tuple[int, ...]]:
    """The numbers of the photos of each group."""
    groups: dict[str, list[int]] = {}
    for image_id, group_id in found.groups.items():
        groups.setdefault(group_id, []).append(int(image_id, 16))
    return {tuple(sorted(numbers)) for numbers in groups.values()}


@pytest.mark.parametrize("max_distance", [0, 3, 5])
def test_the_groups_are_those_of_comparing_all_pairs(
    spark: SparkSession, max_distance: int
) -> None:
    looks = looks_with_near_ones(random.Random(max_distance))
    found = found_in(spark, looks, NearDuplicatesSpec(max_distance=max_distance))
    expected = join_groups(
        (one[0], other[0])
        for one, other in combinations(looks, 2)
        if is_alike(one, other, max_distance)
    )
    assert found == FoundGroups(expected, [], [])
    assert len(set(expected.values())) > 50


def test_photos_of_one_hash_are_a_group_by_those_between_them(spark: SparkSession) -> None:
    steps = [brighter(UNEVEN, by) for by in (0, 8, 16, 40)]
    looks = [photo(number, ONE_HASH, colors) for number, colors in enumerate(steps)]
    looks.append(photo(4, ONE_HASH ^ 1, brighter(UNEVEN, 24)))  # like 2 alone
    assert members(found_in(spark, looks)) == {(0, 1, 2, 4)}


def test_photos_with_the_same_bytes_are_a_group_and_are_compared_once(spark: SparkSession) -> None:
    rng = random.Random(1)
    looks = [
        photo(number, rng.getrandbits(64), random_colors(rng), sha="same" if number else "own")
        for number in range(4)
    ]
    looks.append(photo(4, looks[1][2], looks[1][3]))  # like the first of them
    looks.append(photo(5, looks[2][2], looks[2][3]))  # like another, which is not looked at
    assert members(found_in(spark, looks)) == {(1, 2, 3, 4)}


def test_flat_pictures_are_a_group_by_their_bytes_alone(spark: SparkSession) -> None:
    looks = [photo(number, 0, FLAT) for number in range(3)]
    looks += [photo(number, 0, FLAT, sha="same") for number in (3, 4)]
    assert members(found_in(spark, looks)) == {(3, 4)}
    uneven = [photo(number, 0, UNEVEN) for number in range(3)]
    assert members(found_in(spark, uneven)) == {(0, 1, 2)}


def test_buckets_beyond_the_cap_are_told_and_not_compared(spark: SparkSession) -> None:
    looks = [photo(number, ONE_HASH ^ number, UNEVEN) for number in range(30)]
    looks.append(photo(30, ONE_HASH, UNEVEN))
    found = found_in(spark, looks, NearDuplicatesSpec(max_bucket=20))
    # They differ in the first of five bands: six pairs are left of the other four.
    assert (found.large_buckets, found.crowded_hashes) == ([30] * 6, [])
    assert members(found) == {(0, 30)}
    found = found_in(spark, looks, NearDuplicatesSpec(max_bucket=30))
    assert (found.large_buckets, found.crowded_hashes) == ([], [])
    assert members(found) == {tuple(range(31))}


@pytest.mark.parametrize(("crowded", "other"), [(ONE_HASH, ONE_HASH ^ 1), (ONE_HASH ^ 1, ONE_HASH)])
def test_photos_of_one_hash_beyond_the_cap_are_compared_with_the_first_ones(
    spark: SparkSession, crowded: int, other: int
) -> None:
    looks = [photo(number, crowded, UNEVEN) for number in range(24)]
    looks += [photo(number, crowded, brighter(UNEVEN, 40)) for number in (24, 25)]
    looks.append(photo(26, other, UNEVEN))
    looks.append(photo(27, other, brighter(UNEVEN, 40)))
    found = found_in(spark, looks, NearDuplicatesSpec(max_bucket=20))
    assert (found.large_buckets, found.crowded_hashes) == ([], [26])
    assert members(found) == {(*range(24), 26)}
    found = found_in(spark, looks, NearDuplicatesSpec(max_bucket=26))
    assert (found.large_buckets, found.crowded_hashes) == ([], [])
    assert members(found) == {(*range(24), 26), (24, 25, 27)}


def test_a_task_leaves_no_more_pairs_than_photos(spark: SparkSession) -> None:
    pairs = [(f"{one:02}", f"{other:02}") for one, other in combinations(range(40), 2)]
    frame = spark.createDataFrame(pairs, f"first_id string, {t.IMAGE_ID} string").coalesce(1)
    left = fewer_pairs(frame).collect()
    assert sorted(map(tuple, left)) == [("00", f"{other:02}") for other in range(1, 40)]
    assert fewer_pairs(frame.limit(0)).collect() == []


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
