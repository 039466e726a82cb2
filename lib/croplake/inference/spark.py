"""Driver: a model over a DataFrame of examples; a worker loads it once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.types import from_arrow_schema

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.metrics import Metrics, measure_tally
from croplake.evaluation.tally import Tally
from croplake.inference.examples import (
    CELLS_SCHEMA,
    SCORES_SCHEMA,
    read_cells,
    score_examples,
    tally_scores,
)
from croplake.inference.model import check_model, load_classifier

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


def _map_in_arrow(
    df: DataFrame, task: Callable[[Batches], Iterator[pa.RecordBatch]], schema: pa.Schema
) -> DataFrame:
    return df.mapInArrow(task, from_arrow_schema(schema))


def _score_partition(batches: Batches, *, model: str, batch_size: int) -> Iterator[pa.RecordBatch]:
    return score_examples(batches, load_classifier(model), batch_size=batch_size)
