"""The same model through Spark: examples to figures, photos to predictions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.fetching.http import HttpLimits
from croplake.fetching.pacing import HostBudget
from croplake.fetching.shares import Budgets
from croplake.inference.photos import ClassifyRun
from croplake.inference.spark import classify

CATEGORIES = ("red", "green", "blue")
COLOURS = [(230, 20, 20), (20, 230, 20), (20, 20, 230)]
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
    keras = pytest.importorskip("keras")
    pooling, dense = (
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax"),
    )
    network = keras.Sequential([keras.Input((None, None, 3)), pooling, dense])
    dense.set_weights([np.eye(3) * 0.02, np.zeros(3)])
    folder = tmp_path_factory.mktemp("model")
    network.save(folder / "model.keras")
    (folder / "labels.json").write_text(json.dumps(CATEGORIES))
    (folder / "settings.json").write_text(json.dumps({"input_side_px": 32}))
    return str(folder)


def jpeg(label: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (20, 10), COLOURS[label]).save(target, "JPEG")
    return target.getvalue()


def test_a_missing_model_is_named_before_a_task_starts(spark: SparkSession, tmp_path: Path) -> None:
    run = ClassifyRun("run", "m1", top=2, batch_size=2)
    with pytest.raises(InputDataError, match=r"nowhere/labels\.json"):
        classify(
            spark,
            ["/a.jpg"],
            f"{tmp_path}/nowhere",
            run,
            limits=LIMITS,
            budgets=BUDGETS,
            max_pixels=1,
        )


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
        run = ClassifyRun("run", "m1", top=2, batch_size=batch_size, transfers=2)
        frame = classify(spark, paths, model, run, limits=LIMITS, budgets=BUDGETS, max_pixels=1000)
        assert frame.columns == t.PREDICTIONS.columns
        rows = {row[t.PATH]: row.asDict() for row in frame.collect()}
        assert sorted(rows) == sorted(paths)
        answers.append([(rows[path][t.STATUS], rows[path][t.CATEGORY]) for path in paths])
        assert next(iter(rows[paths[0]][t.PROBABILITIES])) == "red"
        assert len(rows[paths[0]][t.PROBABILITIES]) == 2
    expected: list[tuple[str, str | None]] = [("ok", CATEGORIES[number % 3]) for number in range(9)]
    expected[4] = ("not_a_photo", None)
    assert answers[0] == answers[1] == [*expected, ("not_found", None)]
