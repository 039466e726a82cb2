"""Which crops a page shows: of each category as many, out of few files."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812
from rich.console import Console

from croplake import tables as t
from croplake.jobs.context import JobContext
from croplake.jobs.report_crops import gallery_crops
from croplake.lake import Lake
from croplake.report import measures as m
from tests.jobs.world import hand_made_settings

SCHEMA = (
    f"{t.CATEGORY} string, {t.BOX_ID} string, {t.HAS_CROP} boolean, {m.FILE_KEY} long, "
    f"{t.WIDTH_PX} int, {t.HEIGHT_PX} int"
)
Fate = tuple[str, str, bool | None, int | None]


def chosen(
    spark: SparkSession, fates: list[Fate], per_category: int, at_most: int = 1000
) -> list[tuple[str, str]]:
    rows = [(*fate, 40, 30) for fate in fates]
    frame = spark.createDataFrame(rows, SCHEMA)
    found = m.choose_crops(frame, per_category, at_most).collect()
    assert [row[m.PLACE] for row in found] == sorted(row[m.PLACE] for row in found)
    return [(row[t.CATEGORY], row[t.BOX_ID]) for row in found]


def test_crops_come_from_file_after_file_and_in_a_file_by_their_boxes_ids(
    spark: SparkSession,
) -> None:
    fates: list[Fate] = [
        ("Apple", "a", True, 9),
        ("Apple", "c", True, 5),
        ("Apple", "b", True, 5),
        ("Apple", "d", True, 7),
        ("Apple", "0", False, 1),
        ("Apple", "1", None, None),
        ("Pear", "e", True, 9),
    ]
    assert chosen(spark, fates, 3) == [
        ("Apple", "b"),
        ("Pear", "e"),
        ("Apple", "c"),
        ("Apple", "d"),
    ]


def test_many_categories_take_their_crops_out_of_the_same_few_files(spark: SparkSession) -> None:
    files = {f"{number:03}": number % 40 for number in range(4000)}
    fates: list[Fate] = [
        (f"category {number % 7}", box_id, True, file)
        for number, (box_id, file) in enumerate(files.items())
    ]
    found = chosen(spark, fates, 24)
    assert len(found) == 7 * 24
    assert {files[box_id] for _, box_id in found} == {0, 1}


def test_a_bound_on_all_crops_is_shared_evenly(spark: SparkSession) -> None:
    fates: list[Fate] = [
        (name, f"{name}{number:02}", True, 1)
        for name, num in (("Apple", 30), ("Pear", 2), ("Quince", 30))
        for number in range(num)
    ]
    found = chosen(spark, fates, per_category=10**9, at_most=11)
    names = [name for name, _ in found]
    assert {name: names.count(name) for name in names} == {"Apple": 5, "Pear": 2, "Quince": 4}


def test_no_more_crops_are_read_than_there_may_be_room_for(
    spark: SparkSession, tmp_path: Path
) -> None:
    report = {"crops_per_category": 10**9, "gallery_bytes": 20_000, "thumbnail_side_px": 128}
    settings = hand_made_settings(tmp_path, report=report)
    context = JobContext(spark, settings, cast(Lake, None), Console(quiet=True))
    rows = [
        (name, f"{name}{number:03}", True, 1, 1280, 960)
        for name in ("Apple", "Pear", "Quince")
        for number in range(200)
    ]
    found = gallery_crops(context, spark.createDataFrame(rows, SCHEMA))
    # One of 128 × 96 px takes 2,063 bytes at least.
    assert [row[t.CATEGORY] for row in found] == [*["Apple", "Pear", "Quince"] * 3, "Apple"]


def test_a_photo_that_two_subsets_list_is_credited_once(spark: SparkSession) -> None:
    kept = spark.createDataFrame([("p", "train"), ("p", "train")], [t.IMAGE_ID, t.SUBSET])
    listed = [("p", subset, "CC BY", "Ann", "ann") for subset in ("train", "test")]
    columns = [t.IMAGE_ID, t.SUBSET, t.LICENSE, t.AUTHOR, t.AUTHOR_URL]
    credit = m.credits_of(kept, spark.createDataFrame(listed, columns))
    assert [row[t.LICENSE] for row in credit.collect()] == ["CC BY"]


@pytest.mark.parametrize("name", ["part-00000-c0ffee.c000.snappy.parquet", "läke"])
def test_a_files_key_is_the_same_with_spark_and_without(spark: SparkSession, name: str) -> None:
    frame = spark.range(1).select(m.key_of_file(F.lit(name)).alias("key"))
    assert [row["key"] for row in frame.collect()] == [m.file_key(name)]
