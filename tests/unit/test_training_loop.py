"""The training loop with one worker, on a toy dataset of three colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from croplake.conf import AugmentConf, TrainConf
from croplake.errors import InputDataError
from croplake.training.shards import plan_shards
from tests.training_data import colour_jpeg, write_colours, write_shard

tf = pytest.importorskip("tensorflow")
import keras  # noqa: E402

from croplake.training import loop  # noqa: E402
from croplake.training.loop import (  # noqa: E402
    EpochRecord,
    Trained,
    batch_sums,
    train_classifier,
    weighted_loss,
)
from croplake.training.stream import Shard  # noqa: E402

Floats: TypeAlias = NDArray[np.float64]

SIDE = 32
STILL = AugmentConf(rotation_deg=0, shift_frac=0, shear_frac=0, zoom_frac=0, horizontal_flip=False)
CONF = TrainConf(
    weights="none",
    trainable="all",
    alpha=0.35,
    input_side_px=SIDE,
    dense_units=64,
    dropout_frac=0,
    epochs=10,
    batch_size=16,
    learning_rate=4e-3,
    shuffle_buffer=64,
    augment=STILL,
)
NUM_TRAIN, NUM_VALIDATION = 125, 21


def conf_with(**changes: float | AugmentConf) -> TrainConf:
    return CONF.model_copy(update=changes)


def shard_of(file: str) -> Shard:
    return Shard((file,), plan_shards([file], 1), worker_index=0)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    groups = [range(60), range(60, 73), range(73, NUM_TRAIN)]
    return shard_of(write_colours(tmp_path_factory.mktemp("train") / "a.parquet", groups))


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    groups = [range(1000, 1000 + NUM_VALIDATION)]
    return shard_of(write_colours(tmp_path_factory.mktemp("validation") / "a.parquet", groups))


def run(
    conf: TrainConf,
    train: Shard,
    validation: Shard | None = None,
    records: list[EpochRecord] | None = None,
) -> Trained:
    return train_classifier(
        tf.distribute.get_strategy(),
        conf,
        train=train,
        validation=validation,
        num_classes=3,
        on_epoch=(records if records is not None else []).append,
    )


def losses_of(probabilities: Floats, labels: Sequence[int]) -> Floats:
    return np.asarray(-np.log(probabilities[np.arange(len(labels)), labels]))


LABELS = [2, 0, 1, 1]
PROBABILITIES = np.array([[0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.2, 0.5, 0.3], [0.98, 0.01, 0.01]])
WEIGHTS = [1.0, 1.0, 1.0, 0.0]


def as_tensors(count: int) -> tuple[Any, Any, Any]:
    return (
        tf.constant(LABELS[:count]),
        tf.constant(PROBABILITIES[:count], tf.float32),
        tf.constant(WEIGHTS[:count]),
    )


def test_the_loss_is_a_workers_part_of_the_mean_over_all_rows_that_count() -> None:
    loss = weighted_loss(*as_tensors(4), weight_sum=tf.constant(5.0))
    assert float(loss) == pytest.approx(losses_of(PROBABILITIES, LABELS)[:3].sum() / 5, rel=1e-5)
    without = weighted_loss(*as_tensors(3), weight_sum=tf.constant(5.0))
    assert float(loss) == pytest.approx(float(without), rel=1e-6)


def test_a_row_of_weight_zero_moves_nothing() -> None:
    labels, probabilities, weights = as_tensors(4)
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        loss = weighted_loss(labels, probabilities, weights, weight_sum=tf.constant(3.0))
    gradient = tape.gradient(loss, probabilities).numpy()
    assert (gradient[3] == 0).all()
    assert (np.abs(gradient[:3]).max(axis=1) > 0).all()


def test_the_figures_of_a_batch_leave_rows_of_weight_zero_out() -> None:
    loss, right, rows = batch_sums(*as_tensors(4)).numpy()
    assert loss == pytest.approx(losses_of(PROBABILITIES, LABELS)[:3].sum(), rel=1e-5)
    assert (right, rows) == (2, 3)


@pytest.fixture(scope="module")
def records() -> list[EpochRecord]:
    return []


@pytest.fixture(scope="module")
def trained(train: Shard, validation: Shard, records: list[EpochRecord]) -> Trained:
    return run(CONF, train, validation, records)


def test_colours_are_learned_within_a_few_epochs(trained: Trained) -> None:
    first, last = trained.history[0], trained.history[-1]
    assert last["loss"] < first["loss"] / 4
    assert last["accuracy"] > 0.9
    assert last["validation_loss"] < first["validation_loss"] / 4
    assert last["validation_accuracy"] > 0.9


def test_history_has_one_record_an_epoch_with_its_figures(
    trained: Trained, records: list[EpochRecord]
) -> None:
    assert trained.history == records
    assert [record["epoch"] for record in records] == list(range(1, 11))
    names = {"epoch", "loss", "accuracy", "learning_rate", "seconds", "images_per_s"}
    for record in records:
        assert set(record) == names | {"validation_loss", "validation_accuracy"}
        assert 0 < NUM_TRAIN / record["images_per_s"] <= record["seconds"]
        for name, rows in (("accuracy", NUM_TRAIN), ("validation_accuracy", NUM_VALIDATION)):
            right = record[name] * rows
            assert right == pytest.approx(round(right), abs=1e-6)


def test_the_learning_rate_falls_to_zero_along_a_cosine(trained: Trained) -> None:
    rates = [record["learning_rate"] for record in trained.history]
    expected = [4e-3 * (1 + np.cos(np.pi * epoch / 10)) / 2 for epoch in range(1, 11)]
    assert rates == pytest.approx(expected, abs=1e-8)


def test_the_last_validation_figures_are_those_of_the_model_over_every_row(
    trained: Trained,
) -> None:
    rows = range(1000, 1000 + NUM_VALIDATION)
    squares = [
        np.asarray(
            Image.open(io.BytesIO(colour_jpeg(row))).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        )
        for row in rows
    ]
    probabilities = np.asarray(trained.model(np.stack(squares), training=False), np.float64)
    labels = [row % 3 for row in rows]
    last = trained.history[-1]
    assert last["validation_accuracy"] == (probabilities.argmax(axis=1) == labels).mean()
    assert last["validation_loss"] == pytest.approx(
        losses_of(probabilities, labels).mean(), rel=0.05
    )


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of MobileNetV2 a network of 12 weights, which is quick and has no BatchNorm."""

    def build_tiny(conf: TrainConf, num_classes: int) -> Any:  # noqa: ANN401
        return keras.Sequential(
            [
                keras.Input((None, None, 3)),
                keras.layers.Rescaling(1 / 255),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(num_classes, activation="softmax"),
            ]
        )

    monkeypatch.setattr(loop, "build_classifier", build_tiny)


def weights_of(trained: Trained) -> Floats:
    return np.concatenate([weight.ravel() for weight in trained.model.get_weights()])


def start_weights() -> Floats:
    keras.utils.set_random_seed(CONF.seed)
    kernel = keras.layers.Dense(3)
    kernel.build((None, 3))
    return np.concatenate([weight.ravel() for weight in kernel.get_weights()])


@pytest.mark.usefixtures("tiny")
def test_the_same_seed_trains_the_same_weights_and_another_others(train: Shard) -> None:
    conf = conf_with(epochs=2, augment=AugmentConf(), shuffle_buffer=8)
    first = weights_of(run(conf, train))
    np.testing.assert_array_equal(first, weights_of(run(conf, train)))
    other = conf.model_copy(update={"seed": conf.seed + 1})
    assert np.abs(first - weights_of(run(other, train))).max() > 1e-3


@pytest.mark.usefixtures("tiny")
def test_rows_that_fill_a_batch_train_nothing(tmp_path: Path) -> None:
    shard = shard_of(write_colours(tmp_path / "a.parquet", [range(5)]))
    exact = run(conf_with(epochs=3, batch_size=5), shard)
    filled = run(conf_with(epochs=3, batch_size=13), shard)
    np.testing.assert_allclose(weights_of(filled), weights_of(exact), atol=1e-5)
    for one, other in zip(filled.history, exact.history, strict=True):
        for figure in ("loss", "accuracy", "learning_rate"):
            assert one[figure] == pytest.approx(other[figure], rel=1e-5)


@pytest.mark.usefixtures("tiny")
def test_a_step_is_adams_along_the_gradient_of_the_mean_loss(tmp_path: Path) -> None:
    shard = shard_of(write_colours(tmp_path / "a.parquet", [range(2), range(2, 4)]))
    result = run(conf_with(epochs=1, batch_size=8, learning_rate=0.01), shard)
    before = start_weights()
    kernel, bias = before[:9].reshape(3, 3), before[9:]
    pictures = [np.asarray(Image.open(io.BytesIO(colour_jpeg(row)))) for row in range(4)]
    means = np.stack([picture.mean((0, 1)) for picture in pictures]) / 255
    scores = np.exp(means @ kernel + bias)
    slope = scores / scores.sum(axis=1, keepdims=True) - np.eye(3)[[0, 1, 2, 0]]
    gradient = np.concatenate([(means.T @ slope / 4).ravel(), slope.mean(axis=0)])
    # Adam's first step is the learning rate, in the direction of each weight's gradient.
    clear = np.abs(gradient) > 1e-3
    assert clear.sum() >= 8
    np.testing.assert_allclose(
        weights_of(result)[clear], (before - 0.01 * np.sign(gradient))[clear], atol=1e-5
    )


@pytest.mark.usefixtures("tiny")
def test_without_validation_there_are_no_validation_figures(train: Shard) -> None:
    assert set(run(conf_with(epochs=1), train).history[0]) == {
        "epoch",
        "loss",
        "accuracy",
        "learning_rate",
        "seconds",
        "images_per_s",
    }


@pytest.mark.usefixtures("tiny")
def test_training_pictures_are_augmented_anew_and_validation_pictures_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shard_of(write_colours(tmp_path / "a.parquet", [range(3)]))
    seen: list[tuple[int, ...]] = []

    def augment(images: Any, conf: AugmentConf, seed: Any) -> Any:  # noqa: ANN401
        tf.py_function(lambda s: seen.append(tuple(s.numpy())), [seed], [])
        return images

    monkeypatch.setattr(loop, "augment_batch", augment)
    run(conf_with(epochs=2, batch_size=2), shard, shard)
    # Two epochs of two batches, each with a seed of its own.
    assert len(seen) == len(set(seen)) == 4


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("data", [b"no JPEG", b"", colour_jpeg(0)[:200]])
def test_a_broken_picture_in_the_shards_is_an_input_error(
    train: Shard, tmp_path: Path, data: bytes
) -> None:
    def picture(row: int) -> bytes:
        return data if row == 1 else colour_jpeg(row)

    broken = shard_of(write_shard(tmp_path / "a.parquet", [range(3)], picture=picture))
    said = r"^a training shard holds an example that cannot be decoded: .*; run build_examples"
    with pytest.raises(InputDataError, match=said):
        run(conf_with(epochs=1), broken)
    with pytest.raises(InputDataError, match=said):
        run(conf_with(epochs=1), train, broken)
