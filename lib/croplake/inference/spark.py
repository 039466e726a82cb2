"""Driver: a model over a DataFrame of examples or a list of photos; a worker loads it once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.types import from_arrow_schema

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.metrics import Metrics, measure_tally
from croplake.evaluation.tally import Tally
from croplake.fetching.getter import HttpGetter
from croplake.fetching.http import HttpLimits
from croplake.fetching.photo import decode_photo
from croplake.fetching.shares import Budgets, EqualShares
from croplake.inference.examples import (
    CELLS_SCHEMA,
    SCORES_SCHEMA,
    read_cells,
    score_examples,
    tally_scores,
)
from croplake.inference.model import check_model, load_classifier
from croplake.inference.photos import ClassifyRun, classify_paths
from croplake.inference.reading import photo_loader

Batches = Iterable[pa.RecordBatch]
_MAX_NAMED: Final = 5


def check_labels(examples: DataFrame, categories: Sequence[str]) -> None:
    """Makes sure that examples and model mean the same category by the same index.

    Args:
        examples: with the columns `label_index` and `category`.
        categories: of the model.

    Raises:
        InputDataError: an example's category is not the model's of that index; the text names some.
    """
    pairs = examples.select(t.LABEL_INDEX, t.CATEGORY).distinct().collect()
    known = set(enumerate(categories))
    wrong = [(index, name) for index, name in pairs if (index, name) not in known]
    if wrong:
        wrong.sort(key=lambda pair: (pair[0] is None, pair[0], str(pair[1])))
        named = ", ".join(f"{name!r} as {index}" for index, name in wrong[:_MAX_NAMED])
        raise InputDataError(
            f"the model's labels are not the dataset's: the dataset has {named}; "
            "evaluate a model that was trained on this dataset, or train again"
        )


def score(examples: DataFrame, model: str, batch_size: int) -> DataFrame:
    """Asks a model about every example.

    Args:
        examples: with the columns `example_id`, `label_index`, `image`.
        model: folder of the model, readable from every executor.
        batch_size: examples of a step.

    Returns:
        A DataFrame of `examples.SCORES_SCHEMA`, one row per example; every action on it asks the
        model again.

    Raises:
        InputDataError: the model's files are not there.
    """
    check_model(model)
    asked = examples.select(t.EXAMPLE_ID, t.LABEL_INDEX, t.IMAGE)
    task = functools.partial(_score_partition, model=storage.absolute(model), batch_size=batch_size)
    return _map_in_arrow(asked, task, SCORES_SCHEMA)


def measure(scores: DataFrame, categories: Sequence[str]) -> Metrics:
    """Adds up scores where they are; the driver gets counts, not probabilities.

    Args:
        scores: of `score`, read once.
        categories: of the model.

    Returns:
        The figures.

    Raises:
        InputDataError: no example was scored.
    """
    task = functools.partial(tally_scores, num_categories=len(categories))
    keys = ("name", "label_index", "predicted_index")
    cells = _map_in_arrow(scores, task, CELLS_SCHEMA).groupBy(*keys)
    sums = cells.agg(F.sum("value").alias("value")).toArrow()
    return measure_tally(Tally.from_cells(read_cells(sums), len(categories)), categories)


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


def _score_partition(batches: Batches, *, model: str, batch_size: int) -> Iterator[pa.RecordBatch]:
    return score_examples(batches, load_classifier(model), batch_size=batch_size)


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
