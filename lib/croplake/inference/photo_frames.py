"""Driver: all photos of a classification as one DataFrame, and the model over it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.inference.copies import NAME_KEY, NAMES_SCHEMA, add_name_keys
from croplake.inference.model import check_model
from croplake.inference.photos import CONTENT, IS_SHARED_NAME, PHOTOS_SCHEMA
from croplake.inference.task import ClassifyTask
from croplake.lake import spark_schema

_TASKS_PER_SLOT: Final = 4


def photos_frame(
    spark: SparkSession,
    paths: Sequence[str],
    tables: Sequence[DataFrame],
    *,
    batch_size: int,
    with_names: bool,
) -> DataFrame:
    """All photos of a run, dealt to tasks.

    Args:
        spark: the session.
        paths: of `list_photos`, readable from every executor.
        tables: of `table_source`.
        batch_size: photos of one prediction; a task gets no fewer where there is a choice.
        with_names: whether it is to be told which photos have the same file name.

    Returns:
        A DataFrame of `photos.PHOTOS_SCHEMA`. A path is there once; photos whose bytes a table has
        stay where Spark reads them, and count as having a name that others have, too.
    """
    slots = spark.sparkContext.defaultParallelism
    num_tasks = slots * _TASKS_PER_SLOT
    by_path = [df for df in tables if CONTENT not in df.columns]
    if not by_path:
        # Few photos are shared out by batches; many by tasks, so that no slot is left alone.
        of_task = max(batch_size, math.ceil(len(paths) / num_tasks))
        num_tasks = max(1, min(num_tasks, math.ceil(len(paths) / of_task)))
    if paths:
        by_path.insert(0, spark.createDataFrame(pa.table({t.PATH: pa.array(paths, pa.string())})))
    frames = [df.withColumn(IS_SHARED_NAME, F.lit(True)) for df in tables if CONTENT in df.columns]
    if by_path:
        listed = functools.reduce(DataFrame.unionByName, by_path)
        if len(by_path) > 1 or not paths:
            listed = listed.distinct()
        is_shared = F.lit(False)
        if with_names:
            listed = listed.mapInArrow(add_name_keys, spark_schema(NAMES_SCHEMA))
            is_shared = F.count("*").over(Window.partitionBy(NAME_KEY)) > 1
        listed = listed.select(
            t.PATH,
            F.lit(None).cast("binary").alias(CONTENT),
            is_shared.alias(IS_SHARED_NAME),
        )
        frames.insert(0, listed.repartition(num_tasks))
    return functools.reduce(DataFrame.unionByName, frames).select(*PHOTOS_SCHEMA.names)


def classify(photos: DataFrame, task: ClassifyTask) -> DataFrame:
    """Classifies photos on all slots.

    Args:
        photos: of `photos_frame`.
        task: what each task is told.

    Returns:
        A DataFrame in the schema of `predictions`, one row per photo; every action on it reads and
        downloads again.

    Raises:
        InputDataError: the model's files are not there.
    """
    check_model(task.model)
    return photos.mapInArrow(task, spark_schema(t.PREDICTIONS.schema))
