"""Barrier tasks as the workers of one training: one and two, uneven shards, failures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from croplake.conf import PhaseConf, TrainConf
from croplake.errors import InputDataError, SettingsError
from croplake.training.process import digest_weights
from croplake.training.workers import Examples, TrainingResult, train_distributed
from tests.training_data import colour_jpeg, write_colours, write_shard

LABELS = ("red", "green", "blue")
SIDE = 32
CONF = TrainConf(
    num_workers=1,
    weights="none",
    phases=(PhaseConf(trainable="all", epochs=2),),
    alpha=0.35,
    input_side_px=SIDE,
    dense_units=16,
    batch_size=8,
    shuffle_buffer=16,
)
TRAIN_GROUPS = ([range(20), range(20, 25)], [range(25, 34), range(34, 36), range(36, 43)])
NUM_TRAIN, NUM_VALIDATION = 43, 13
VALIDATION_ROWS = range(1000, 1000 + NUM_VALIDATION)


@dataclass(frozen=True)
class Splits:
    """Files of a training: uneven row groups, and a validation split of a single one."""

    train: list[str]
    validation: list[str]

    @property
    def examples(self) -> Examples:
        return Examples(self.train, self.validation, LABELS, [15, 14, 14])


@dataclass(frozen=True)
class Run:
    """A training, its folder, and what it said while it ran."""

    result: TrainingResult
    folder: Path
    epochs: list[dict[str, float]]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = tmp_path_factory.mktemp("examples") / "dataset=fruit"
    train = [
        write_colours(folder / "split=train" / f"{number}.parquet", groups)
        for number, groups in enumerate(TRAIN_GROUPS)
    ]
    file = folder / "split=validation" / "0.parquet"
    return Splits(train, [write_colours(file, [VALIDATION_ROWS])])


@pytest.fixture(
    scope="module",
    params=[pytest.param(1, marks=pytest.mark.full), 2],
    ids=["1 worker", "2 workers"],
)
def run(
    request: pytest.FixtureRequest,
    spark: SparkSession,
    splits: Splits,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    epochs: list[dict[str, float]] = []
    folder = tmp_path_factory.mktemp("models") / f"{request.param} workers"
    result = train_distributed(
        spark,
        CONF.model_copy(update={"num_workers": request.param, "tensorboard": True}),
        splits.examples,
        output_dir=str(folder),
        checkpoint_dir=str(folder.with_name("checkpoints")),
        on_epoch=epochs.append,
    )
    assert len(result.digests) == request.param
    return Run(result, folder, epochs)


def load(run: Run, name: str) -> Any:  # noqa: ANN401
    keras = pytest.importorskip("keras")
    return keras.models.load_model(run.folder / name, compile=False)


def test_all_workers_end_with_the_weights_that_are_saved(run: Run) -> None:
    assert set(run.result.digests) == {digest_weights(load(run, "model.keras").get_weights())}


def test_both_model_files_answer_alike(run: Run) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (4, 50, 40, 3), dtype=np.uint8)
    answers = [load(run, name)(pictures).numpy() for name in ("model.keras", "model.h5")]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    np.testing.assert_allclose(answers[0].sum(axis=1), 1, atol=1e-5)


def test_the_folder_holds_model_labels_settings_and_history(run: Run) -> None:
    folder = run.folder
    assert {file.name for file in folder.iterdir()} == {
        "tensorboard",
        "model.keras",
        "model.h5",
        "labels.json",
        "history.json",
        "settings.json",
    }
    assert json.loads(folder.joinpath("labels.json").read_text()) == list(LABELS)
    settings = TrainConf.model_validate_json(folder.joinpath("settings.json").read_text())
    assert settings == CONF.model_copy(
        update={"num_workers": len(run.result.digests), "tensorboard": True}
    )
    history = json.loads(folder.joinpath("history.json").read_text())
    assert history == list(run.result.history)


def test_tensorboard_has_the_figures_of_each_epoch(run: Run) -> None:
    tf = pytest.importorskip("tensorflow")
    (file,) = (run.folder / "tensorboard").iterdir()
    found = {
        (value.tag, event.step)
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert {("epoch/loss", 1), ("epoch/validation_loss", 2)} <= found


def test_each_epoch_is_told_once(run: Run) -> None:
    assert run.epochs == list(run.result.history)
    assert [record["epoch"] for record in run.epochs] == [1, 2]


def test_every_row_of_the_uneven_shards_counts_once(run: Run) -> None:
    for record in run.epochs:
        for name, rows in (("accuracy", NUM_TRAIN), ("validation_accuracy", NUM_VALIDATION)):
            right = record[name] * rows
            assert right == pytest.approx(round(right), abs=1e-6)
    assert run.result.images_per_s > 0
    assert run.result.seconds > sum(record["seconds"] for record in run.epochs)


def test_validation_is_of_the_model_though_one_worker_has_no_row(run: Run) -> None:
    bilinear = Image.Resampling.BILINEAR
    pictures = [Image.open(io.BytesIO(colour_jpeg(row))) for row in VALIDATION_ROWS]
    squares = np.stack([np.asarray(picture.resize((SIDE, SIDE), bilinear)) for picture in pictures])
    probabilities = load(run, "model.keras")(squares).numpy()
    labels = [row % 3 for row in VALIDATION_ROWS]
    loss = -np.log(probabilities[np.arange(NUM_VALIDATION), labels]).mean()
    assert run.epochs[-1]["validation_loss"] == pytest.approx(loss, rel=0.01)


def train_badly(spark: SparkSession, splits: Splits, folder: Path, **changes: object) -> None:
    train_distributed(
        spark,
        TrainConf.model_validate(CONF.model_dump() | {"num_workers": 2} | changes),
        splits.examples,
        output_dir=str(folder / "model"),
        checkpoint_dir=str(folder / "checkpoints"),
    )


def test_more_workers_than_slots_are_refused_with_both_numbers(
    spark: SparkSession, splits: Splits, tmp_path: Path
) -> None:
    said = (
        r"train\.num_workers: 3 workers train at the same time, but Spark \(local\[2\]\) has 2 "
        r"slots; set train\.num_workers to at most 2"
    )
    with pytest.raises(SettingsError, match=said):
        train_badly(spark, splits, tmp_path, num_workers=3)


def test_fewer_row_groups_than_workers_are_refused(
    spark: SparkSession, splits: Splits, tmp_path: Path
) -> None:
    short = Splits(splits.validation, splits.validation)
    with pytest.raises(InputDataError, match=r"has 1 row groups with examples.*needs at least 2"):
        train_badly(spark, short, tmp_path)


@pytest.mark.full
def test_a_weights_file_that_no_worker_has_is_a_settings_error(
    spark: SparkSession, splits: Splits, tmp_path: Path
) -> None:
    missing = tmp_path / "none.keras"
    with pytest.raises(SettingsError, match=rf"^train\.weights: {missing.as_uri()} cannot be read"):
        train_badly(spark, splits, tmp_path, weights=str(missing))


@pytest.mark.full
def test_a_broken_picture_of_one_worker_ends_all_with_an_input_error(
    spark: SparkSession, splits: Splits, tmp_path: Path
) -> None:
    def picture(row: int) -> bytes:
        return b"no JPEG" if row == 13 else colour_jpeg(row)

    pictures: list[Callable[[int], bytes]] = [colour_jpeg, picture]
    files = [
        write_shard(
            tmp_path / f"{number}.parquet",
            [range(10 * number, 10 * number + 10)],
            picture=of,
            label=lambda row: row % 3,
        )
        for number, of in enumerate(pictures)
    ]
    with pytest.raises(InputDataError, match="holds an example that cannot be decoded: Unknown"):
        train_badly(spark, Splits(files, []), tmp_path)
    assert not (tmp_path / "model" / "model.keras").exists()
