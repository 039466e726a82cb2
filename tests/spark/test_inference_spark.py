"""The same model through Spark: examples to figures, photos to predictions."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.fetching.http import HttpLimits
from croplake.fetching.pacing import HostBudget
from croplake.fetching.shares import Budgets
from croplake.inference.photo_frames import classify, photos_frame
from croplake.inference.photos import ClassifyRun
from croplake.inference.task import ClassifyTask
from tests.colour_model import CATEGORIES, COLOURS, write_colour_model

LIMITS = HttpLimits(
    connect_timeout_s=1,
    read_timeout_s=1,
    photo_timeout_s=5,
    max_bytes=100_000,
    private_hosts=frozenset({"127.0.0.1"}),
)
BUDGETS = Budgets({"*": HostBudget(8)})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_colour_model(tmp_path_factory.mktemp("model"))


def jpeg(label: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (20, 10), COLOURS[label]).save(target, "JPEG")
    return target.getvalue()


def test_a_missing_model_is_named_before_a_task_starts(spark: SparkSession, tmp_path: Path) -> None:
    photos = photos_frame(spark, ["/a.jpg"], [], batch_size=2, with_names=False)
    with pytest.raises(InputDataError, match=r"nowhere/labels\.json"):
        classify(photos, task_of(f"{tmp_path}/nowhere", 2))


def task_of(model: str, batch_size: int) -> ClassifyTask:
    run = ClassifyRun("run", "m1", top=2, batch_size=batch_size, transfers=2)
    return ClassifyTask(model, run, LIMITS, BUDGETS, num_tasks=2, max_pixels=1000)


def test_every_photo_has_one_row_at_any_number_of_partitions(
    spark: SparkSession, model: str, tmp_path: Path
) -> None:
    paths = []
    for number in range(9):
        file = tmp_path / f"{number}.jpg"
        file.write_bytes(b"a letter" if number == 4 else jpeg(number % 3))
        paths.append(str(file))
    paths.append(str(tmp_path / "gone.jpg"))
    answers = []
    for batch_size in (2, 100):
        photos = photos_frame(spark, paths, [], batch_size=batch_size, with_names=False)
        assert photos.rdd.getNumPartitions() == (5 if batch_size == 2 else 1)
        frame = classify(photos, task_of(model, batch_size))
        assert frame.columns == t.PREDICTIONS.columns
        rows = {row[t.PATH]: row.asDict() for row in frame.collect()}
        assert sorted(rows) == sorted(paths)
        answers.append([(rows[path][t.STATUS], rows[path][t.CATEGORY]) for path in paths])
        assert next(iter(rows[paths[0]][t.PROBABILITIES])) == "red"
        assert len(rows[paths[0]][t.PROBABILITIES]) == 2
    expected: list[tuple[str, str | None]] = [("ok", CATEGORIES[number % 3]) for number in range(9)]
    expected[4] = ("not_a_photo", None)
    assert answers[0] == answers[1] == [*expected, ("not_found", None)]


def test_photos_of_lists_and_tables_are_there_once_and_know_whose_names_they_share(
    spark: SparkSession,
) -> None:
    table = spark.createDataFrame([("/b/1.JPG",), ("/a/1.jpg",), ("http://h/2",)], "path string")
    with_bytes = spark.createDataFrame([("t#x", b"bytes")], "path string, content binary")
    photos = photos_frame(
        spark, ["/a/1.jpg", "/a/3.jpg"], [table, with_bytes], batch_size=2, with_names=True
    )
    assert sorted(tuple(row) for row in photos.collect()) == [
        ("/a/1.jpg", None, True),
        ("/a/3.jpg", None, False),
        ("/b/1.JPG", None, True),
        ("http://h/2", None, False),
        ("t#x", b"bytes", True),
    ]
