"""Driver: models over a DataFrame of examples; a worker loads each once."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.types import from_arrow_schema

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.intervals import PhotoSums
from croplake.evaluation.metrics import Metrics, measure_tally
from croplake.inference.examples import (
    ANSWER,
    ANSWERS_SCHEMA,
    CELLS_SCHEMA,
    FIRST,
    KEYS,
    RANK,
    SECOND,
    SLICES,
    read_tallies,
    score_examples,
    tally_answers,
)
from croplake.inference.model import Classifier, check_model, load_classifier

Batches = Iterable[pa.RecordBatch]
_MAX_NAMED: Final = 5


class Pairs(NamedTuple):
    """Examples that two classifiers have both answered, by who has them right."""

    both: int
    only_first: int
    only_second: int
    neither: int


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


def score(
    examples: DataFrame, first: Sequence[str], second: Sequence[str] | None, batch_size: int
) -> DataFrame:
    """Asks models about every example.

    Args:
        examples: with the columns `examples.KEYS` and `image`.
        first: folders of the models that are measured as one, readable from every executor.
        second: folders of those that they are compared with; None compares nothing.
        batch_size: examples of a step.

    Returns:
        A DataFrame of `examples.ANSWERS_SCHEMA`, one row per example; every action on it asks the
        models again, unless it is cached.

    Raises:
        InputDataError: a model's files are not there.
    """
    for model in (*first, *(second or ())):
        check_model(model)
    task = functools.partial(
        _score_partition,
        first=tuple(map(storage.absolute, first)),
        second=None if second is None else tuple(map(storage.absolute, second)),
        batch_size=batch_size,
    )
    asked = examples.select(*KEYS, t.IMAGE)
    return asked.mapInArrow(task, from_arrow_schema(ANSWERS_SCHEMA))


def measure(answers: DataFrame, whose: str, categories: Sequence[str]) -> dict[str, Metrics]:
    """Adds up answers where they are; the driver gets counts, not answers.

    Args:
        answers: of `score`, with the column `slices`.
        whose: `first` or `second`.
        categories: of the model.

    Returns:
        The figures by slice, in the order of their names; those of the whole stand under "". A
        slice without a scored example is left out.

    Raises:
        InputDataError: no example was scored.
    """
    task = functools.partial(tally_answers, num_categories=len(categories))
    asked = answers.select(t.LABEL_INDEX, SLICES, F.col(whose).alias(ANSWER))
    cells = asked.mapInArrow(task, from_arrow_schema(CELLS_SCHEMA))
    keys = CELLS_SCHEMA.names[:-1]
    sums = cells.groupBy(*keys).agg(F.sum("value").alias("value")).toArrow()
    tallies = read_tallies(sums, len(categories))
    figures = {"": measure_tally(tallies.pop(None), categories)}
    for name in sorted(name for name in tallies if name):
        if tallies[name].num_examples:
            figures[name] = measure_tally(tallies[name], categories)
    return figures


def sum_photos(answers: DataFrame, *whose: str) -> PhotoSums | None:
    """Adds up hits by photo, then photos by hits.

    Args:
        answers: of `score`.
        whose: `first`, `second`, or both: then only examples that both have answered count.

    Returns:
        The photos; None where there is no example.
    """
    scored = answers
    for name in whose:
        scored = scored.where(is_scored(name))
    hits = [F.sum(is_hit(name).cast("int")).alias(name) for name in whose]
    photos = scored.groupBy(t.IMAGE_ID).agg(F.count("*").alias("num"), *hits)
    kinds = photos.groupBy("num", *whose).agg(F.count("*").alias("photos")).collect()
    return PhotoSums.of([tuple(row) for row in kinds]) if kinds else None


def count_pairs(answers: DataFrame) -> Pairs:
    """Counts who has an example right, of those that both have answered."""
    both = answers.where(is_scored(FIRST)).where(is_scored(SECOND))
    rows = both.groupBy(is_hit(FIRST), is_hit(SECOND)).count().collect()
    counts = {(row[0], row[1]): row[2] for row in rows}
    order = ((True, True), (True, False), (False, True), (False, False))
    return Pairs(*(counts.get(key, 0) for key in order))


def is_scored(whose: str) -> Column:
    """Whether an example has an answer."""
    return F.col(f"{whose}.{t.STATUS}") == t.STATUS_OK


def is_hit(whose: str) -> Column:
    """Whether an answer's best guess is the example's category; null where there is no answer."""
    return F.col(f"{whose}.{RANK}") == 0


def _score_partition(
    batches: Batches, *, first: tuple[str, ...], second: tuple[str, ...] | None, batch_size: int
) -> Iterator[pa.RecordBatch]:
    networks = _load_all((*first, *(second or ())))
    others = None if second is None else networks[len(first) :]
    return score_examples(batches, networks[: len(first)], others, batch_size=batch_size)


@functools.lru_cache(maxsize=1)
def _load_all(models: tuple[str, ...]) -> tuple[Classifier, ...]:
    """All of them, once in a process; the same folder is the same classifier."""
    loaded = {model: load_classifier(model) for model in models}
    return tuple(loaded[model] for model in models)
