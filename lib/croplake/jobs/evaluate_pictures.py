"""The pictures that the page about a model shows: mistakes, and what one of two has right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.conf import EvaluateConf
from croplake.inference.examples import FIRST, PREDICTED_INDEX, SECOND
from croplake.inference.scoring import is_hit, is_scored
from croplake.lake import spark_schema
from croplake.report.gallery import GalleryCrop, fit_galleries
from croplake.report.thumbnails import EXAMPLES_SCHEMA, shrink_examples

MISTAKES: Final = "mistakes"
ONLY_FIRST: Final = "only_first"
ONLY_SECOND: Final = "only_second"


def mistake_pictures(
    examples: DataFrame,
    answers: DataFrame,
    categories: Sequence[str],
    conf: EvaluateConf,
    *,
    is_compared: bool,
) -> dict[str, list[GalleryCrop]]:
    """Reads the pictures of the surest mistakes; no other picture reaches the driver.

    Args:
        examples: rows of `examples` that were asked about.
        answers: of `scoring.score`.
        categories: by label index.
        conf: how many, how large.
        is_compared: whether there are answers of a second model.

    Returns:
        `MISTAKES`, and of a comparison `ONLY_FIRST` and `ONLY_SECOND`: the surest first, as many as
        the settings have room for.
    """
    first_right, second_right = is_hit(FIRST), is_hit(SECOND)
    wanted: dict[str, tuple[Column, str]] = {MISTAKES: (is_scored(FIRST) & ~first_right, FIRST)}
    if is_compared:
        both = is_scored(FIRST) & is_scored(SECOND)
        wanted[ONLY_FIRST] = (both & first_right & ~second_right, SECOND)
        wanted[ONLY_SECOND] = (both & second_right & ~first_right, FIRST)
    if not conf.pictures:
        return {name: [] for name in wanted}
    chosen = {
        name: _surest(answers.where(condition), whose, conf.pictures)
        for name, (condition, whose) in wanted.items()
    }
    ids = {row[t.EXAMPLE_ID] for rows in chosen.values() for row in rows}
    pictures = _read(examples, ids, conf.thumbnail_side_px)
    galleries = {
        name: [_crop(row, pictures[row[t.EXAMPLE_ID]], categories) for row in rows]
        for name, rows in chosen.items()
    }
    return fit_galleries(galleries, conf.picture_bytes)


def _surest(wrong: DataFrame, whose: str, at_most: int) -> list[Row]:
    """The wrong guesses of the greatest probability."""
    probability, guess = F.col(f"{whose}.{t.PROBABILITY}"), F.col(f"{whose}.{PREDICTED_INDEX}")
    rows = wrong.select(
        t.EXAMPLE_ID,
        t.LABEL_INDEX,
        guess.alias(PREDICTED_INDEX),
        probability.alias(t.PROBABILITY),
    )
    return rows.orderBy(F.desc(t.PROBABILITY), t.EXAMPLE_ID).limit(at_most).collect()


def _read(examples: DataFrame, ids: Iterable[str], side_px: int) -> dict[str, dict[str, Any]]:
    """Of each chosen example the picture, made small where it lies, and whose it is."""
    wanted = sorted(ids)
    if not wanted:
        return {}
    shrink = partial(_shrink, side_px=side_px)
    rows = (
        examples.where(F.col(t.EXAMPLE_ID).isin(wanted))
        .select(t.EXAMPLE_ID, t.BOX_ID, t.IMAGE_ID, t.IMAGE, *t.ATTRIBUTION)
        .mapInArrow(shrink, spark_schema(EXAMPLES_SCHEMA))
        .toArrow()
        .to_pylist()
    )
    return {row.pop(t.EXAMPLE_ID): row for row in rows}


def _shrink(batches: Iterable[pa.RecordBatch], *, side_px: int) -> Iterator[pa.RecordBatch]:
    return shrink_examples(batches, side_px=side_px)


def _crop(row: Row, picture: dict[str, Any], categories: Sequence[str]) -> GalleryCrop:
    guess = categories[row[PREDICTED_INDEX]]
    note = f"→ {guess}, {row[t.PROBABILITY]:.1%}"
    return GalleryCrop(category=categories[row[t.LABEL_INDEX]], note=note, **picture)
