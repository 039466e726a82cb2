"""Driver: a network that makes vectors, in Spark's workers; the driver itself has no TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from croplake import tables as t
from croplake.inference.embedding import (
    ABOUT_SCHEMA,
    ASKED_SCHEMA,
    PHOTO_SCHEMA,
    PIECES_SCHEMA,
    AboutNetwork,
    EmbeddingNetwork,
    EmbedRun,
    about_of,
    embed_photos,
    embed_pieces,
    tell_about,
)
from croplake.lake import spark_schema

_TASKS_PER_SLOT = 2


def about_network(spark: SparkSession, network: EmbeddingNetwork) -> AboutNetwork:
    """Loads a network in a worker and says what it is.

    Raises:
        InputDataError: the file is missing, or no network that takes pictures and gives vectors.
        SettingsError: Keras has no such base.
        IncompleteError: the base's weights can not be had.
    """
    one = spark.createDataFrame(pa.table([pa.array([b""])], schema=ASKED_SCHEMA)).coalesce(1)
    told = one.mapInArrow(
        functools.partial(tell_about, network=network), spark_schema(ABOUT_SCHEMA)
    )
    return about_of(told.toArrow().to_pylist()[0])


def embed_crops(spark: SparkSession, pieces: Sequence[dict[str, Any]], run: EmbedRun) -> DataFrame:
    """Makes the vectors of crops on all slots; no picture passes through the driver.

    Args:
        spark: the session.
        pieces: of `PIECES_SCHEMA`, at least one.
        run: what the rows have in common.

    Returns:
        A DataFrame in the schema of `embeddings`; every action on it asks the network again.
    """
    table = pa.Table.from_pylist(list(pieces), PIECES_SCHEMA)
    slots = spark.sparkContext.defaultParallelism
    spread = spark.createDataFrame(table).repartition(min(len(pieces), slots * _TASKS_PER_SLOT))
    task = functools.partial(embed_pieces, run=run)
    return spread.mapInArrow(task, spark_schema(t.EMBEDDINGS.schema))


def embed_photo(
    spark: SparkSession,
    content: bytes,
    network: EmbeddingNetwork,
    *,
    max_pixels: int,
    side_px: int,
) -> dict[str, Any]:
    """Makes the vector of one photo.

    Args:
        spark: the session.
        content: the photo's file.
        network: that makes the vector.
        max_pixels: a photo of more pixels is not decoded.
        side_px: greatest side of the small picture that comes with the vector.

    Returns:
        A row of `PHOTO_SCHEMA`.
    """
    one = spark.createDataFrame(pa.table([pa.array([content])], schema=ASKED_SCHEMA)).coalesce(1)
    task = functools.partial(embed_photos, network=network, max_pixels=max_pixels, side_px=side_px)
    row: dict[str, Any] = one.mapInArrow(task, spark_schema(PHOTO_SCHEMA)).toArrow().to_pylist()[0]
    return row
