"""The training loop with one worker, on a toy dataset of three colours."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from croplake.conf import AugmentConf, TrainConf
from croplake.errors import InputDataError, SettingsError
from tests.training_data import colour_jpeg, write_colours, write_shard

tf = pytest.importorskip("tensorflow")

import keras  # noqa: E402

from croplake.training import feeding  # noqa: E402
from croplake.training.decoding import decode_image  # noqa: E402
from croplake.training.feeding import feed  # noqa: E402
from croplake.training.loop import EpochRecord, Trained  # noqa: E402
from croplake.training.network import BASE  # noqa: E402
from croplake.training.stream import Shard  # noqa: E402
from croplake.training.training_copy import copy_for_training  # noqa: E402
from tests.toy_training import (  # noqa: E402
    CONF,
    ROW_LABELS,
    SIDE,
    SQUARES,
    WRONG,
    arrays,
    build_lively,
    conf_with,
    head_then_top,
    losses_of,
    shard_of,
    start_weights,
    train_on,
    weights_of,
)

NUM_TRAIN, NUM_VALIDATION = 125, 21


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


def test_the_head_learns_first_and_then_the_top_of_the_base_at_a_lower_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[Any] = []

    def build(conf: TrainConf, num_classes: int) -> Any:  # noqa: ANN401
        built.append(build_lively(conf, num_classes))
        return built[-1]

    monkeypatch.setattr("croplake.training.loop.build_classifier", build)
    keras.utils.set_random_seed(CONF.seed)
    before = build_lively(head_then_top("top_3"), 3)
    changed = {}
    for epochs in (0, 2):
        conf = head_then_top("top_3", epochs=2, schedule="constant")
        phases = conf.phases if epochs else conf.phases[:1]
        trained = train_on(arrays(), conf.model_copy(update={"phases": phases}))
        changed[epochs] = [
            not np.array_equal(one, other)
            for one, other in zip(built[-1].get_weights(), before.get_weights(), strict=True)
        ]
    names = [weight.path.rsplit("/", 2)[-2:] for weight in built[-1].weights]
    is_base = [name[0].startswith(("conv", "batch_norm")) for name in names]
    is_conv = [name[0].startswith("conv") for name in names]
    # BatchNorm keeps what it has, statistics as well as scales.
    assert changed[0] == [not base for base in is_base]
    assert changed[2] == [conv or not base for conv, base in zip(is_conv, is_base, strict=True)]
    rates = [record["learning_rate"] for record in trained.history]
    assert rates == pytest.approx([4e-3, 4e-3, 4e-4, 4e-4])
    assert [record["phase"] for record in trained.history] == [1, 1, 2, 2]


@pytest.mark.usefixtures("tiny")
def test_label_smoothing_keeps_the_answers_from_certainty() -> None:
    greatest = {}
    for share in (0.0, 0.6):
        conf = conf_with(30, learning_rate=0.2, label_smoothing=share)
        greatest[share] = float(np.asarray(train_on(arrays(), conf).model(SQUARES)).max())
    assert greatest[0.0] > 0.9
    assert greatest[0.6] < 0.65  # of three categories the right one is to get 0.6


@pytest.mark.usefixtures("tiny")
def test_xla_compiles_the_network_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    function = tf.function

    def note(*values: Any, **options: Any) -> Any:  # noqa: ANN401
        compiled.append(options.get("jit_compile"))
        return function(*values, **options)

    monkeypatch.setattr(tf, "function", note)
    weights = {}
    for xla in (False, True):
        data = arrays(validation=[ROW_LABELS] * 2)
        weights[xla] = weights_of(train_on(data, conf_with(2, xla=xla)))
        assert compiled.count(True) == (2 if xla else 0), "the gradients, and the answers"
    np.testing.assert_allclose(weights[True], weights[False], atol=1e-5)


@pytest.mark.usefixtures("lively")
def test_half_precision_is_of_the_base_that_learns_and_not_of_what_is_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    copy = copy_for_training

    def note(*values: Any, **options: Any) -> Any:  # noqa: ANN401
        made = copy(*values, **options)
        seen.extend(layer.compute_dtype for layer in made.get_layer(BASE).layers[1:])
        return made

    monkeypatch.setattr("croplake.training.loop.copy_for_training", note)
    trained = train_on(arrays(), conf_with(1, precision="mixed_bfloat16"))
    assert set(seen) == {"bfloat16"}
    assert {layer.compute_dtype for layer in trained.model.get_layer(BASE).layers} == {"float32"}


@pytest.mark.full
@pytest.mark.parametrize("changes", [{"xla": True}, {"precision": "mixed_bfloat16"}])
def test_xla_and_mixed_precision_learn_the_colours_too(
    train: Shard,
    validation: Shard,
    changes: Any,  # noqa: ANN401
) -> None:
    last = run(conf_with(8, **changes), train, validation).history[-1]
    assert last["validation_accuracy"] > 0.9
