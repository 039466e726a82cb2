"""The classifier: its shape, what learns in it, how it is saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from croplake.errors import SettingsError

pytest.importorskip("tensorflow")
import keras

from croplake.inference.network import EMBEDDING
from croplake.training.network import (
    BASE,
    FEATURES,
    PROBABILITIES,
    build_classifier,
    choose_trainable,
)
from croplake.training.training_copy import copy_for_training
from tests.mobilenet import (
    NUM_CLASSES,
    SIDE,
    Model,
    assert_same_weights,
    batch_norms,
    conf_with,
    noise,
)


@pytest.fixture(scope="module")
def base_file(base: Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("base") / "base.weights.h5"
    base.save_weights(file)
    return str(file)


def names_of(variables: list[Model]) -> set[str]:
    """The layers of these variables."""
    return {variable.path.split("/")[-2] for variable in variables}


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (1, 7, 90, 3), (3, 200, 33, 3)])
def test_pictures_of_any_size_and_type_become_probabilities(
    classifier: Model,
    shape: tuple[int, ...],
) -> None:
    pictures = noise(*shape)
    answer = np.asarray(classifier(pictures))
    assert answer.shape == (shape[0], NUM_CLASSES)
    assert answer.dtype == np.float32
    assert answer.min() >= 0
    assert np.ptp(answer, axis=0).max() > 0.01 or shape[0] == 1
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
    assert classifier.inputs[0].dtype == "uint8"
    np.testing.assert_allclose(classifier.predict(pictures, verbose=0), answer, atol=1e-4)


def test_the_base_sees_minus_one_to_one(classifier: Model) -> None:
    squares = noise(2, SIDE, SIDE, 3)
    maps = np.asarray(classifier.get_layer(BASE)(squares / np.float32(127.5) - 1))
    pooled = maps.mean(axis=(1, 2))
    embedder = keras.Model(classifier.input, classifier.get_layer(EMBEDDING).output)
    np.testing.assert_allclose(embedder(squares), pooled, atol=1e-3)
    kernel, bias = classifier.get_layer(FEATURES).get_weights()
    features = np.maximum(pooled @ kernel + bias, 0)
    kernel, bias = classifier.get_layer(PROBABILITIES).get_weights()
    scores = np.exp(features @ kernel + bias)
    expected = scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier(squares), expected, atol=1e-3)


def test_random_weights_are_refused_where_not_all_learns() -> None:
    for phases in (("head",), ("all", "top_20")):
        with pytest.raises(ValidationError, match="weights: none needs phases with trainable: all"):
            conf_with(*phases)


def test_with_all_everything_learns_and_batch_norm_follows_quickly(
    classifier: Model,
) -> None:
    assert len(classifier.trainable_variables) == len(classifier.weights) - 2 * len(
        batch_norms(classifier)
    )
    assert {layer.momentum for layer in batch_norms(classifier)} == {0.9}


def test_batch_norm_follows_in_training_alone(classifier: Model) -> None:
    def averages() -> list[NDArray[np.float32]]:
        return [layer.moving_mean.numpy() for layer in batch_norms(classifier)]

    before = averages()
    classifier(noise(4, SIDE, SIDE, 3))
    np.testing.assert_array_equal(np.concatenate(averages()), np.concatenate(before))
    classifier(noise(4, SIDE, SIDE, 3), training=True)
    assert all((now != then).any() for now, then in zip(averages(), before, strict=True))


@pytest.mark.parametrize(
    ("trainable", "learning"),
    [
        ("head", {FEATURES, PROBABILITIES}),
        # The last four layers: Conv_1, Conv_1_bn, out_relu; block 16's BatchNorm.
        ("top_4", {FEATURES, PROBABILITIES, "Conv_1"}),
        ("top_7", {FEATURES, PROBABILITIES, "Conv_1", "block_16_project"}),
    ],
)
def test_a_base_that_is_not_trained_whole_keeps_its_batch_norm(
    base_file: str,
    base: Model,
    trainable: str,
    learning: set[str],
) -> None:
    model = build_classifier(conf_with(trainable, weights=base_file), NUM_CLASSES)
    assert names_of(model.trainable_variables) == learning
    assert {layer.momentum for layer in batch_norms(model)} == {0.999}
    pictures = noise(4, SIDE, SIDE, 3)
    in_training = model(pictures, training=True)
    np.testing.assert_allclose(in_training, model(pictures, training=False), atol=1e-6)
    assert_same_weights(model.get_layer(BASE), base)


def test_more_top_layers_than_there_are_is_refused(base_file: str) -> None:
    with pytest.raises(
        SettingsError, match=r"train\.phases: trainable: top_999: .*top_1 to top_15\d"
    ):
        build_classifier(conf_with("top_999", weights=base_file), NUM_CLASSES)


def test_phases_open_the_base_step_by_step(base_file: str) -> None:
    conf = conf_with("head", "top_4", "all", weights=base_file)
    model = build_classifier(conf, NUM_CLASSES)
    opened = []
    for phase in conf.phases:
        choose_trainable(model, conf, phase)
        names = names_of(model.trainable_variables)
        opened.append(len(names))
        assert not names & {layer.name for layer in batch_norms(model)}
    assert opened[0] < opened[1] < opened[2]
    pictures = noise(4, SIDE, SIDE, 3)
    np.testing.assert_allclose(model(pictures, training=True), model(pictures), atol=1e-6)


def test_the_model_that_learns_is_the_saved_one_without_resizing(classifier: Model) -> None:
    pictures = noise(4, SIDE, SIDE, 3)
    copy = copy_for_training(classifier)
    assert not any(isinstance(layer, keras.layers.Resizing) for layer in copy.layers)
    np.testing.assert_allclose(copy(pictures), classifier(pictures), atol=1e-5)
    assert_same_weights(copy, classifier)


def test_mixed_precision_keeps_weights_pictures_and_probabilities_in_float32(
    classifier: Model,
) -> None:
    mixed = copy_for_training(classifier, precision="mixed_float16")
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    convolutions = [
        layer for layer in mixed.get_layer(BASE).layers if isinstance(layer, keras.layers.Conv2D)
    ]
    assert {layer.compute_dtype for layer in convolutions} == {"float16"}
    assert {mixed.get_layer(n).compute_dtype for n in ("pixels", PROBABILITIES)} == {"float32"}
    pictures = noise(4, SIDE, SIDE, 3)
    np.testing.assert_allclose(mixed(pictures), classifier(pictures), atol=0.05)
    assert {layer.compute_dtype for layer in classifier.get_layer(BASE).layers} == {"float32"}


LOAD_AND_ASK = """
import json, sys
import keras, numpy as np
answers = {}
for path in sys.argv[2:]:
    model = keras.models.load_model(path)
    pictures = np.load(sys.argv[1])
    answers[path] = model(pictures).numpy().tolist()
    answers[path + " in training"] = model(pictures, training=True).numpy().tolist()
print(json.dumps({"answers": answers, "croplake": "croplake" in sys.modules}))
"""


def test_a_saved_model_loads_with_one_line_without_croplake(
    base_file: str,
    classifier: Model,
    tmp_path: Path,
) -> None:
    frozen = build_classifier(conf_with("head", weights=base_file), NUM_CLASSES)
    pictures = noise(3, 40, 50, 3)
    np.save(tmp_path / "pictures.npy", pictures)
    saved = {}
    for name, model in (("frozen", frozen), ("whole", classifier)):
        for suffix in (".keras", ".h5"):
            saved[str(tmp_path / (name + suffix))] = model
            model.save(tmp_path / (name + suffix))
    command = [sys.executable, "-c", LOAD_AND_ASK, str(tmp_path / "pictures.npy"), *saved]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["croplake"] is False
    for path, model in saved.items():
        expected = np.asarray(model(pictures))
        np.testing.assert_allclose(report["answers"][path], expected, atol=1e-5)
        # The frozen base stays frozen in a loaded model, the whole one learns on.
        difference = np.abs(report["answers"][f"{path} in training"] - expected).max()
        assert (difference < 1e-5) == (model is frozen)


SHARED_BATCH_NORM = """
import keras, numpy as np, tensorflow as tf
from croplake.training.training_copy import copy_for_training

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(1)
pictures = rng.normal(3, 2, (8, 5, 4, 6)).astype(np.float32)
factors = tf.constant(rng.normal(size=pictures.shape), tf.float32)
with strategy.scope():
    layer = keras.layers.BatchNormalization(momentum=0.8)
    inner = keras.Sequential([keras.Input((5, 4, 6)), layer])
    plain = keras.Sequential([keras.Input((5, 4, 6)), inner])
    layer.set_weights([rng.uniform(0.5, 2, 6) for _ in range(4)])
    shared = copy_for_training(plain, shares_batch_norm=True)

def step(model, pictures, factors):
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        answer = model(pictures, training=True)
        loss = tf.reduce_sum(answer * factors)
    gradients = tape.gradient(loss, [pictures, *model.trainable_variables])
    return answer, gradients

def half(values):
    return strategy.experimental_distribute_values_from_function(
        lambda replica: tf.constant(values[4 * replica.replica_id_in_sync_group:][:4])
    )

answers, gradients = strategy.run(step, (shared, half(pictures), half(factors)))
joined = [tf.concat(strategy.experimental_local_results(v), 0) for v in (answers, gradients[0])]
added = [tf.add_n(strategy.experimental_local_results(v)) for v in gradients[1:]]
untouched = [weight.copy() for weight in plain.get_weights()]
expected, wanted = step(plain, tf.constant(pictures), factors)
for found, right in zip([*joined, *added], [expected, *wanted], strict=True):
    np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4)
for found, right, before in zip(shared.get_weights(), plain.get_weights(), untouched, strict=True):
    np.testing.assert_allclose(found, right, rtol=1e-4)
assert np.abs(plain.get_weights()[2] - untouched[2]).max() > 0.1
alone = tf.constant(pictures[:4])
np.testing.assert_allclose(shared(alone), plain(alone), rtol=1e-4, atol=1e-5)
print("as one batch")
"""


def test_batch_norm_over_two_workers_is_that_of_their_joint_batch() -> None:
    command = [sys.executable, "-c", SHARED_BATCH_NORM]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "as one batch", done.stderr[-3000:]
