"""What is asked for, photo by photo."""

from __future__ import annotations

from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.fetching.photo_task import LISTED_FIELD
from croplake.lake import spark_schema
from croplake.selection.todo import photo_tasks


def test_a_photo_that_two_subsets_list_is_one_task(spark: SparkSession) -> None:
    wanted = spark.createDataFrame(
        [("a", "train"), ("b", "validation")], f"{t.IMAGE_ID} string, {t.SUBSET} string"
    ).selectExpr("*", "array() AS photo_boxes")
    listed = [("a", "train", "Ann"), ("a", "test", "Bob"), ("b", "train", "Ann")]
    rows = [
        tuple({t.IMAGE_ID: i, t.SUBSET: s, t.AUTHOR: a}.get(name) for name in t.PHOTOS.columns)
        for i, s, a in listed
    ]
    photos = spark.createDataFrame(rows, spark_schema(t.PHOTOS.schema))
    tasks = photo_tasks(wanted, photos, None).collect()
    found = sorted((row[t.IMAGE_ID], row[LISTED_FIELD], row[t.AUTHOR]) for row in tasks)
    assert found == [("a", True, "Ann"), ("b", False, None)]
