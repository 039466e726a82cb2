"""Figures through Spark: the same at any number of partitions, and those of a plain count."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import DataFrame, SparkSession

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.intervals import percentile_interval, resample_top1
from croplake.evaluation.metrics import Metrics
from croplake.evaluation.slices import with_slices
from croplake.inference.examples import FIRST, SECOND
from croplake.inference.scoring import check_labels, count_pairs, measure, score, sum_photos
from croplake.lake import spark_schema

CATEGORIES = ("red", "green", "blue")
COLOURS = [(230, 20, 20), (20, 230, 20), (20, 20, 230)]
Row = dict[str, Any]


def save_model(folder: Path, weights: list[list[float]]) -> str:
    keras = pytest.importorskip("keras")
    pooling, dense = (
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax"),
    )
    network = keras.Sequential([keras.Input((None, None, 3)), pooling, dense])
    dense.set_weights([np.array(weights), np.zeros(3)])
    folder.mkdir()
    network.save(folder / "model.keras")
    (folder / "labels.json").write_text(json.dumps(CATEGORIES))
    (folder / "settings.json").write_text(json.dumps({"input_side_px": 32}))
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """One that knows the three colours, and one that takes green for blue."""
    folder = tmp_path_factory.mktemp("models")
    keen = (np.eye(3) * 0.02).tolist()
    dull = [[0.02, 0.0, 0.0], [0.0, 0.01, 0.02], [0.0, 0.0, 0.02]]
    return save_model(folder / "keen", keen), save_model(folder / "dull", dull)


def jpeg(label: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (20, 10), COLOURS[label]).save(target, "JPEG")
    return target.getvalue()


def example_rows() -> list[Row]:
    """20 of each category as labelled; the 20th of each looks like the next category; one torn."""
    rows = [
        {
            t.EXAMPLE_ID: f"{label}-{number:02}",
            t.BOX_ID: f"b{label}-{number}",
            t.IMAGE_ID: f"photo {number % 7}",
            t.LABEL_INDEX: label,
            t.CATEGORY: CATEGORIES[label],
            t.IMAGE: jpeg((label + (number == 19)) % 3),
            t.BOX_AREA_FRAC: (0.049, 0.05, 0.25, None)[number % 4],
            t.IS_OCCLUDED: (1, 0, -1)[label],
            t.IS_TRUNCATED: 0,
        }
        for label in range(3)
        for number in range(20)
    ]
    return [*rows, rows[0] | {t.EXAMPLE_ID: "torn", t.BOX_ID: "torn", t.IMAGE: b"torn"}]


def frame(spark: SparkSession, table: t.Table, rows: list[Row]) -> DataFrame:
    names = [name for name in table.columns if name in rows[0]]
    schema = spark_schema(table.schema)
    fields = type(schema)([schema[name] for name in names])
    return spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], fields)


@pytest.fixture(scope="module")
def examples(spark: SparkSession) -> DataFrame:
    return frame(spark, t.EXAMPLES, example_rows())


def sources(spark: SparkSession) -> tuple[DataFrame, DataFrame]:
    crop = {t.HAS_CROP: True, t.SOURCE: "mirror"}
    crops = [
        crop | {t.BOX_ID: "b0-0"},
        crop | {t.BOX_ID: "b0-1", t.SOURCE: "original"},
        crop | {t.BOX_ID: "b0-2", t.HAS_CROP: False},
        crop | {t.BOX_ID: "nobody's"},
    ]
    boxes = [
        {t.BOX_ID: row[t.BOX_ID], t.SOURCE: "xclick" if row[t.LABEL_INDEX] else "activemil"}
        for row in example_rows()
    ]
    return frame(spark, t.CROPS, crops), frame(spark, t.BOXES, boxes)


def figures_of(metrics: dict[str, Metrics]) -> dict[str, Any]:
    return {
        name: (part.overall, part.confusion.tolist(), part.calibration.counts.tolist())
        for name, part in metrics.items()
    }


def test_figures_are_the_same_at_any_number_of_partitions(
    spark: SparkSession, examples: DataFrame, models: tuple[str, str]
) -> None:
    keen, dull = models
    found = []
    for num_partitions in (1, 2, 7):
        scores = score(examples.repartition(num_partitions), [keen], [dull], batch_size=7)
        answers = with_slices(scores, *sources(spark)).cache()
        photos = sum_photos(answers, FIRST, SECOND)
        assert photos is not None
        top1 = resample_top1(photos, resamples=300, seed=1)
        found.append(
            (
                figures_of(measure(answers, FIRST, CATEGORIES)),
                {} if num_partitions == 2 else figures_of(measure(answers, SECOND, CATEGORIES)),
                count_pairs(answers),
                percentile_interval(top1[:, 0] - top1[:, 1]),
            )
        )
        answers.unpersist()
    first, second, pairs, interval = found[0]
    for other in found[1:]:
        for mine, theirs in ((first, other[0]), (other[1] and second, other[1])):
            assert mine.keys() == theirs.keys()
            for name, (overall, *counts) in mine.items():
                assert overall == pytest.approx(theirs[name][0], rel=1e-12)
                assert counts == [*theirs[name][1:]]
        assert (pairs, interval) == other[2:]
    overall, confusion, _ = first[""]
    assert confusion == [[19, 1, 0], [0, 19, 1], [1, 0, 19]]
    assert (overall["top1"], overall["num_unscored"]) == (pytest.approx(0.95), 1)
    assert second[""][1] == [[19, 0, 1], [0, 0, 20], [1, 0, 19]]
    # Of 60: the dull one has red and blue as the keen one has them, and nothing green.
    assert pairs == (38, 19, 0, 3)
    assert interval.low > 0
    counts = {name: part[0]["num_examples"] for name, part in first.items()}
    assert counts == {
        "": 60,
        "box_size=large": 15,
        "box_size=medium": 15,
        "box_size=small": 15,
        "box_size=unknown": 15,
        "box_source=activemil": 20,
        "box_source=xclick": 40,
        "occluded=no": 20,
        "occluded=unknown": 20,
        "occluded=yes": 20,
        "photo_source=mirror": 1,
        "photo_source=original": 1,
        "photo_source=unknown": 58,
        "truncated=no": 60,
    }
    assert first["box_size=unknown"][0]["top1"] == pytest.approx(12 / 15)


def test_an_ensemble_is_asked_as_one(examples: DataFrame, models: tuple[str, str]) -> None:
    answers = score(examples, models, None, batch_size=64).collect()
    by_id = {row[t.EXAMPLE_ID]: row[FIRST] for row in answers}
    green = np.exp(np.array([0.4, 4.6, 0.4]))
    other = np.exp(np.array([0.4, 2.3, 5.0]))
    mean = (green / green.sum() + other / other.sum()) / 2
    assert by_id["1-00"][t.PROBABILITY] == pytest.approx(mean.max(), abs=0.01)
    assert by_id["torn"][t.STATUS] == "broken_photo"
    assert {row[SECOND] for row in answers} == {None}


def test_photos_add_up_and_without_an_answer_there_are_none(
    spark: SparkSession, examples: DataFrame, models: tuple[str, str]
) -> None:
    answers = score(examples, models[:1], None, batch_size=64)
    photos = sum_photos(answers, FIRST)
    assert photos is not None
    assert photos.num_photos.sum() == 7
    assert (photos.num_examples * photos.num_photos).sum() == 60
    assert (photos.hits[:, 0] * photos.num_photos).sum() == 57
    torn = answers.where("example_id = 'torn'")
    assert sum_photos(torn, FIRST) is None
    with pytest.raises(InputDataError, match="1 pictures could not be decoded"):
        measure(with_slices(torn), FIRST, CATEGORIES)


def test_labels_that_mean_something_else_to_the_model_are_refused(examples: DataFrame) -> None:
    check_labels(examples, CATEGORIES)
    check_labels(examples, (*CATEGORIES, "yellow"))
    with pytest.raises(InputDataError, match="the dataset has 'green' as 1, 'blue' as 2;"):
        check_labels(examples, ("red", "blue", "green"))


def test_a_missing_model_is_named_before_a_task_starts(
    examples: DataFrame, models: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(InputDataError, match=r"nowhere/labels\.json"):
        score(examples, [models[0], f"{tmp_path}/nowhere"], None, batch_size=2)
