"""Driver: a model over a list of photos; a worker loads it once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from croplake import storage
from croplake import tables as t
from croplake.fetching.getter import HttpGetter
from croplake.fetching.http import HttpLimits
from croplake.fetching.photo import decode_photo
from croplake.fetching.shares import Budgets, EqualShares
from croplake.inference.model import check_model, load_classifier
from croplake.inference.photos import ClassifyRun, classify_paths
from croplake.inference.reading import photo_loader

Batches = Iterable[pa.RecordBatch]


def classify(
    spark: SparkSession,
    paths: Sequence[str],
    model: str,
    run: ClassifyRun,
    *,
    limits: HttpLimits,
    budgets: Budgets,
    max_pixels: int,
) -> DataFrame:
    """Classifies photos on all slots.

    Args:
        spark: the session.
        paths: of `list_photos`, readable from every executor.
        model: folder or file of the model, readable from every executor.
        run: the run's settings.
        limits: of downloads; `max_bytes` holds for local files too.
        budgets: of hosts; each task takes an equal part.
        max_pixels: a photo of more pixels is not decoded.

    Returns:
        A DataFrame in the schema of `predictions`, one row per path; every action on it reads and
        downloads again.

    Raises:
        InputDataError: the model's files are not there.
    """
    check_model(model)
    table = pa.table({t.PATH: pa.array(paths, pa.string())})
    slots = spark.sparkContext.defaultParallelism
    num_partitions = max(1, min(slots, math.ceil(len(paths) / run.batch_size)))
    task = functools.partial(
        _classify_partition,
        model=storage.absolute(model),
        run=run,
        limits=limits,
        shares=EqualShares(budgets, num_partitions),
        max_pixels=max_pixels,
    )
    photos = spark.createDataFrame(table).repartition(num_partitions)
    return _map_in_arrow(photos, task, t.PREDICTIONS.schema)


def _map_in_arrow(
    df: DataFrame, task: Callable[[Batches], Iterator[pa.RecordBatch]], schema: pa.Schema
) -> DataFrame:
    return df.mapInArrow(task, from_arrow_schema(schema))


def _classify_partition(
    batches: Batches,
    *,
    model: str,
    run: ClassifyRun,
    limits: HttpLimits,
    shares: EqualShares,
    max_pixels: int,
) -> Iterator[pa.RecordBatch]:
    with HttpGetter(limits, shares, max_transfers=run.transfers) as getter:
        yield from classify_paths(
            batches,
            run,
            load_classifier(model),
            load_bytes=photo_loader(getter, max_bytes=limits.max_bytes),
            decode=functools.partial(decode_photo, max_pixels=max_pixels, apply_exif=True),
        )
