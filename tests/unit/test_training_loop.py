"""The training loop with one worker, on a toy dataset of three colours."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from croplake.conf import AugmentConf, PhaseConf, TrainConf
from croplake.errors import InputDataError, SettingsError
from croplake.training.shards import plan_shards
from tests.training_data import colour_jpeg, write_colours, write_shard

tf = pytest.importorskip("tensorflow")
import keras  # noqa: E402

from croplake.training import feeding, loop  # noqa: E402
from croplake.training.checkpoints import Checkpoints  # noqa: E402
from croplake.training.decoding import decode_image  # noqa: E402
from croplake.training.feeding import feed  # noqa: E402
from croplake.training.loop import Data, EpochRecord, Trained, train_classifier  # noqa: E402
from croplake.training.network import BASE  # noqa: E402
from croplake.training.precision import LossScale  # noqa: E402
from croplake.training.steps import Steps, batch_sums, weighted_loss  # noqa: E402
from croplake.training.stream import Shard  # noqa: E402
from croplake.training.training_copy import copy_for_training  # noqa: E402

Floats: TypeAlias = NDArray[np.float64]

SIDE = 32
STILL = AugmentConf(rotation_deg=0, shift_frac=0, shear_frac=0, zoom_frac=0, horizontal_flip=False)
CONF = TrainConf(
    weights="none",
    phases=(PhaseConf(trainable="all", epochs=10, learning_rate=4e-3),),
    alpha=0.35,
    input_side_px=SIDE,
    dense_units=64,
    dropout_frac=0,
    batch_size=16,
    shuffle_buffer=64,
    augment=STILL,
)
NUM_TRAIN, NUM_VALIDATION = 125, 21


def conf_with(*epochs: int, learning_rate: float = 4e-3, **changes: object) -> TrainConf:
    """The settings with phases of so many epochs, where any are named."""
    phases = [PhaseConf(trainable="all", epochs=n, learning_rate=learning_rate) for n in epochs]
    if phases:
        changes["phases"] = phases
    return TrainConf.model_validate(CONF.model_dump() | changes)


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
    counts = [len(range(label, train.num_rows, 3)) for label in range(3)]
    return train_on(
        feed(conf, train=train, validation=validation, label_counts=counts, num_cores=2),
        conf,
        on_epoch=(records if records is not None else []).append,
    )


def train_on(data: Data, conf: TrainConf, **options: Any) -> Trained:  # noqa: ANN401
    return train_classifier(tf.distribute.get_strategy(), conf, data, num_classes=3, **options)


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
    names = {"epoch", "phase", "loss", "accuracy", "learning_rate", "seconds", "images_per_s"}
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
    squares = [decode_image(tf.constant(colour_jpeg(row)), SIDE).numpy() for row in rows]
    probabilities = np.asarray(trained.model(np.stack(squares), training=False), np.float64)
    labels = [row % 3 for row in rows]
    last = trained.history[-1]
    assert last["validation_accuracy"] == (probabilities.argmax(axis=1) == labels).mean()
    assert last["validation_loss"] == pytest.approx(
        losses_of(probabilities, labels).mean(), rel=0.01
    )


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of MobileNetV2 a network of 12 weights, which is quick and has no BatchNorm."""

    def build_tiny(conf: TrainConf, num_classes: int) -> Any:  # noqa: ANN401
        images = keras.Input((None, None, 3), dtype="uint8")
        inner = keras.Input((None, None, 3))
        base = keras.Model(inner, keras.layers.Activation("linear")(inner), name=BASE)
        pixels = keras.layers.Rescaling(1 / 255, dtype="float32")(images)
        pooled = keras.layers.GlobalAveragePooling2D()(base(pixels))
        softmax = keras.layers.Dense(num_classes, activation="softmax")
        return keras.Model(images, softmax(pooled))

    monkeypatch.setattr(loop, "build_classifier", build_tiny)


@pytest.fixture
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of MobileNetV2 a small network with BatchNorm and dropout."""

    def build_lively(conf: TrainConf, num_classes: int) -> Any:  # noqa: ANN401
        images = keras.Input((None, None, 3), dtype="uint8")
        inner = keras.Input((None, None, 3))
        maps = keras.layers.BatchNormalization(momentum=0.8)(keras.layers.Conv2D(8, 3)(inner))
        base = keras.Model(inner, keras.layers.Activation("relu")(maps), name=BASE)
        pixels = keras.layers.Rescaling(1 / 255, dtype="float32")(images)
        pooled = keras.layers.GlobalAveragePooling2D()(base(pixels))
        dropped = keras.layers.Dropout(0.5, seed=conf.seed)(pooled)
        softmax = keras.layers.Dense(num_classes, activation="softmax")
        return keras.Model(images, softmax(dropped))

    monkeypatch.setattr(loop, "build_classifier", build_lively)


def weights_of(trained: Trained) -> Floats:
    return np.concatenate([weight.ravel() for weight in trained.model.get_weights()])


def start_weights() -> Floats:
    keras.utils.set_random_seed(CONF.seed)
    kernel = keras.layers.Dense(3)
    kernel.build((None, 3))
    return np.concatenate([weight.ravel() for weight in kernel.get_weights()])


@pytest.mark.usefixtures("tiny")
def test_the_same_seed_trains_the_same_weights_and_another_others(train: Shard) -> None:
    conf = conf_with(2, augment=AugmentConf(), shuffle_buffer=8)
    first = weights_of(run(conf, train))
    np.testing.assert_array_equal(first, weights_of(run(conf, train)))
    other = conf.model_copy(update={"seed": conf.seed + 1})
    assert np.abs(first - weights_of(run(other, train))).max() > 1e-3


@pytest.mark.usefixtures("tiny")
def test_rows_that_fill_a_batch_train_nothing(tmp_path: Path) -> None:
    shard = shard_of(write_colours(tmp_path / "a.parquet", [range(5)]))
    exact = run(conf_with(3, batch_size=5), shard)
    filled = run(conf_with(3, batch_size=13), shard)
    np.testing.assert_allclose(weights_of(filled), weights_of(exact), atol=1e-5)
    for one, other in zip(filled.history, exact.history, strict=True):
        for figure in ("loss", "accuracy", "learning_rate"):
            assert one[figure] == pytest.approx(other[figure], rel=1e-5)


@pytest.mark.usefixtures("tiny")
def test_a_step_is_adams_along_the_gradient_of_the_mean_loss(tmp_path: Path) -> None:
    shard = shard_of(write_colours(tmp_path / "a.parquet", [range(2), range(2, 4)]))
    result = run(conf_with(1, batch_size=8, learning_rate=0.01), shard)
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
    assert set(run(conf_with(1), train).history[0]) == {
        "epoch",
        "phase",
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

    monkeypatch.setattr(feeding, "augment_batch", augment)
    run(conf_with(2, batch_size=2), shard, shard)
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
        run(conf_with(1), broken)
    with pytest.raises(InputDataError, match=said):
        run(conf_with(1), train, broken)


SQUARES = np.random.default_rng(5).integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8)
ROW_LABELS = np.arange(24, dtype=np.int32) % 3
SQUARES[np.arange(24), ..., ROW_LABELS] //= 3


def arrays(
    labels: NDArray[np.int32] = ROW_LABELS,
    validation: list[NDArray[np.int32]] | None = None,
    class_weights: Sequence[float] | None = None,
) -> Data:
    """Batches of 8 out of `SQUARES`; of validation epochs each with its own labels."""

    def batches(of: NDArray[np.int32]) -> Any:  # noqa: ANN401
        for start in range(0, 24, 8):
            part = slice(start, start + 8)
            yield SQUARES[part], of[part], np.ones(8, np.float32)

    waiting = iter(validation or [])
    return Data(
        lambda epoch: batches(labels),
        num_steps=3,
        num_rows=24,
        validation=None if validation is None else lambda: batches(next(waiting)),
        class_weights=class_weights,
    )


WRONG = (ROW_LABELS + 1) % 3


@pytest.mark.usefixtures("tiny")
def test_a_phase_ends_early_and_the_best_weights_are_taken() -> None:
    right, wrong = [ROW_LABELS], [WRONG]
    # Best in the third epoch; from then on the labels are others, and nothing is better.
    data = arrays(validation=right * 3 + wrong * 20)
    stopping = {"patience": 2, "min_delta": 0}
    trained = train_on(data, conf_with(9, early_stopping=stopping, schedule="constant"))
    assert [record["epoch"] for record in trained.history] == [1, 2, 3, 4, 5]
    assert trained.epoch == 3
    shorter = train_on(arrays(), conf_with(3, schedule="constant"))
    np.testing.assert_allclose(weights_of(trained), weights_of(shorter), atol=1e-6)


@pytest.mark.usefixtures("tiny")
def test_a_phase_goes_on_from_the_best_weights_of_the_one_before() -> None:
    data = arrays(validation=[ROW_LABELS] * 2 + [WRONG] * 20)
    stopping = {"patience": 1, "min_delta": 0}
    trained = train_on(data, conf_with(4, 4, early_stopping=stopping, schedule="constant"))
    assert [record["phase"] for record in trained.history] == [1, 1, 1, 2]
    assert trained.epoch == 2


@pytest.mark.usefixtures("tiny")
def test_the_rate_falls_where_the_validation_loss_stands_still() -> None:
    plateau = {"patience": 1, "factor": 0.5, "min_learning_rate": 1e-3}
    conf = conf_with(6, schedule="plateau", plateau=plateau)
    data = arrays(validation=[ROW_LABELS] * 2 + [WRONG] * 4)
    rates = [record["learning_rate"] for record in train_on(data, conf).history]
    assert rates == pytest.approx([4e-3, 4e-3, 4e-3, 2e-3, 1e-3, 1e-3])


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("changes", [{"schedule": "plateau"}, {"early_stopping": {}}])
def test_what_the_validation_loss_decides_needs_a_validation_split(changes: Any) -> None:  # noqa: ANN401
    with pytest.raises(SettingsError, match=r"is decided by the validation loss, but the dataset"):
        train_on(arrays(), conf_with(1, **changes))


@pytest.mark.usefixtures("tiny")
def test_class_weights_count_a_row_as_often_as_they_say() -> None:
    twice = train_on(arrays(class_weights=[2.0, 2.0, 2.0]), conf_with(3))
    once = train_on(arrays(), conf_with(3))
    np.testing.assert_allclose(weights_of(twice), weights_of(once), atol=1e-6)
    only_first = train_on(arrays(class_weights=[3.0, 0.0, 0.0]), conf_with(20, learning_rate=0.05))
    assert set(np.asarray(only_first.model(SQUARES)).argmax(axis=1)) == {0}


def test_smoothed_labels_give_a_share_to_all_categories() -> None:
    loss = weighted_loss(*as_tensors(3), weight_sum=tf.constant(3.0), label_smoothing=0.3)
    plain = losses_of(PROBABILITIES, LABELS)[:3]
    evenly = -np.log(PROBABILITIES[:3]).mean(axis=1)
    assert float(loss) == pytest.approx((0.7 * plain + 0.3 * evenly).mean(), rel=1e-5)


class PowerCutError(Exception):
    """What ends a training in the middle."""


def stop_after(epoch: int) -> Any:  # noqa: ANN401
    def on_epoch(record: EpochRecord) -> None:
        if record["epoch"] == epoch:
            raise PowerCutError

    return on_epoch


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_a_training_that_broke_off_goes_on_as_if_it_had_not(tmp_path: Path, epoch: int) -> None:
    """Dropout, Adam, BatchNorm, the best weights and the schedule included."""
    conf = conf_with(2, 2, early_stopping={"patience": 5, "min_delta": 0})
    labels = [ROW_LABELS, WRONG, ROW_LABELS, WRONG]
    whole = train_on(arrays(validation=labels), conf)
    kept = Checkpoints(str(tmp_path))
    with pytest.raises(PowerCutError):
        train_on(arrays(validation=labels), conf, checkpoints=kept, on_epoch=stop_after(epoch))
    records: list[EpochRecord] = []
    rest = arrays(validation=labels[epoch:])
    resumed = train_on(rest, conf, checkpoints=kept, on_epoch=records.append)
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert resumed.epoch == whole.epoch
    for one, other in zip(resumed.history, whole.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    np.testing.assert_allclose(weights_of(resumed), weights_of(whole), atol=1e-6)


@pytest.mark.usefixtures("lively")
def test_the_schedule_goes_by_epochs_whatever_the_steps_of_a_resumed_training(
    tmp_path: Path,
) -> None:
    kept = Checkpoints(str(tmp_path))
    with pytest.raises(PowerCutError):
        train_on(arrays(), conf_with(4), checkpoints=kept, on_epoch=stop_after(2))
    fewer = dataclasses.replace(arrays(), num_steps=1, train=lambda epoch: [first_batch()])
    resumed = train_on(fewer, conf_with(4), checkpoints=kept)
    rates = [record["learning_rate"] for record in resumed.history]
    expected = [4e-3 * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in (1, 2, 3, 4)]
    assert rates == pytest.approx(expected, abs=1e-8)


def first_batch() -> Any:  # noqa: ANN401
    return SQUARES[:8], ROW_LABELS[:8], np.ones(8, np.float32)


@pytest.mark.usefixtures("lively")
def test_half_precision_leaves_out_a_step_without_a_number_as_if_it_had_not_been() -> None:
    """Weights, Adam's memory and count of steps, BatchNorm's averages; then it goes on."""
    conf = conf_with(1, precision="mixed_float16")
    model = copy_for_training(loop.build_classifier(conf, 3), precision=conf.precision)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    scale = LossScale(scales=True)
    steps = Steps(
        tf.distribute.get_strategy(),
        model,
        optimizer,
        scale,
        label_smoothing=0.0,
        class_weights=None,
        xla=False,
    )

    def values_after(batch: Any) -> list[NDArray[Any]]:  # noqa: ANN401
        steps.train([batch])
        return [variable.numpy() for variable in model.variables + optimizer.variables]

    images, labels, ones = first_batch()
    begun = values_after((images, labels, ones))
    assert scale.variables[0].numpy() == 2**15
    left_out = values_after((images[::-1], labels, ones * np.float32("inf")))
    for one, other in zip(left_out, begun, strict=True):
        np.testing.assert_array_equal(one, other)
    assert scale.variables[0].numpy() == 2**14
    gone_on = values_after((images, labels, ones))
    assert all((one != other).any() for one, other in zip(gone_on, begun, strict=True) if one.ndim)
    assert optimizer.iterations.numpy() == 2


@pytest.mark.full
@pytest.mark.parametrize("changes", [{"xla": True}, {"precision": "mixed_bfloat16"}])
def test_xla_and_mixed_precision_learn_the_colours_too(
    train: Shard,
    validation: Shard,
    changes: Any,  # noqa: ANN401
) -> None:
    last = run(conf_with(8, **changes), train, validation).history[-1]
    assert last["validation_accuracy"] > 0.9
