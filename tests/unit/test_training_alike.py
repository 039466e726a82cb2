"""Two workers with batches of B are one worker with batches of 2B, even if one is odd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from croplake.conf import TrainConf
from croplake.training.worker_process import reserve_port

pytest.importorskip("tensorflow")

TRAIN_ON_ARRAYS = """
import json, sys
import numpy as np, tensorflow as tf
from croplake.conf import TrainConf
from croplake.errors import SettingsError
from croplake.training.loop import Data, train_classifier

conf = TrainConf.model_validate_json(sys.argv[1])
worker, num_workers = int(sys.argv[2]), int(sys.argv[3])
oddity = sys.argv[4] if worker else ""
rng = np.random.default_rng(3)
squares = rng.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
labels = rng.integers(0, 3, 64).astype(np.int32)
squares[np.arange(64), ..., labels] //= 4
size = conf.batch_size


def batches(of):
    for start in range(0, 64, size * num_workers):
        rows = slice(start + worker * size, start + (worker + 1) * size)
        yield squares[rows], of[rows], np.ones(size, np.float32)


def validation():
    return batches(labels)


strategy = tf.distribute.MultiWorkerMirroredStrategy()
if oddity == "stops":
    # A worker that would decide otherwise than the first: it would stop at once.
    from croplake.training import loop
    from croplake.training.decisions import Decision
    own = loop.decide
    loop.decide = lambda conf, progress, loss: (
        own(conf, progress, loss)[0], Decision(False, True, 1.0)
    )
if oddity == "other weights":
    conf = conf.model_copy(update={"seed": conf.seed + 1})
if oddity == "overflows":
    # A worker whose gradients are too large for half precision at the first loss scale.
    from croplake.training.precision import LossScale
    unscaled = LossScale.unscaled
    LossScale.unscaled = lambda scale, gradients: unscaled(
        scale, [g * tf.where(scale.variables[0] < 2**15, 1.0, np.inf) for g in gradients]
    )
class_weights = [0.5, 1.0, 2.0] if conf.class_balance == "weights" else None
data = Data(
    lambda epoch: batches(labels), 64 // (size * num_workers), 64, validation, class_weights
)
try:
    trained = train_classifier(strategy, conf, data, num_classes=3, worker_index=worker)
except SettingsError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
weights = [float(np.abs(weight).sum()) for weight in trained.model.get_weights()]
print(json.dumps({"history": trained.history, "weights": weights, "epoch": trained.epoch}))
"""


def train_on_arrays(conf: TrainConf, num_workers: int, oddity: str = "") -> list[dict[str, Any]]:
    """What every worker answers; each is a process, and the oddity is the second one's."""
    ports = [reserve_port() for _ in range(num_workers)]
    addresses = [f"127.0.0.1:{port.getsockname()[1]}" for port in ports]
    for port in ports:
        port.close()
    processes = []
    for worker in range(num_workers):
        task = {"type": "worker", "index": worker}
        cluster = {"cluster": {"worker": addresses}, "task": task}
        environment = os.environ | {
            "TF_CONFIG": json.dumps(cluster),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "GRPC_VERBOSITY": "ERROR",
        }
        arguments = (conf.model_dump_json(), str(worker), str(num_workers), oddity)
        command = [sys.executable, "-c", TRAIN_ON_ARRAYS, *arguments]
        processes.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=400) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(printed.splitlines()[-1]) for printed, _ in outputs]


def conf_of(phase: dict[str, Any], batch_size: int, **changes: Any) -> TrainConf:  # noqa: ANN401
    values: dict[str, Any] = {
        "phases": [phase],
        "alpha": 0.35,
        "input_side_px": 32,
        "dense_units": 16,
        "dropout_frac": 0,
        "batch_size": batch_size,
    }
    return TrainConf.model_validate(values | changes)


MAKE_CACHE = """
import sys
import h5py, keras, numpy as np
from pathlib import Path
from croplake.training.base_network import make_base

keras.utils.set_random_seed(1)
models = Path(sys.argv[1], "models")
models.mkdir()
base = make_base("MobileNetV2", weights=None, side_px=32, alpha=0.35, asked="test")
# BatchNorm's averages as a trained one's; else what the head sees would be all but 0.
for layer in base.layers:
    layer.momentum = 0.0
base(np.random.default_rng(1).uniform(-1, 1, (64, 32, 32, 3)), training=True)
base.save(models / "whole.h5")
name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
with h5py.File(models / "whole.h5") as whole, h5py.File(models / name, "w") as alone:
    for key, value in whole["model_weights"].attrs.items():
        alone.attrs[key] = value
    for key in whole["model_weights"]:
        whole.copy(f"model_weights/{key}", alone)
"""


@pytest.fixture(scope="module", autouse=True)
def keras_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keras' cache with "ImageNet" weights that are as random as any: workers share it."""
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, "-c", MAKE_CACHE, folder], check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(folder))
        yield


WEIGHTED = {"class_balance": "weights", "label_smoothing": 0.1}


@pytest.mark.parametrize(
    ("trainable", "rate", "changes"),
    [
        ("head", 1e-3, {}),
        pytest.param("head", 1e-3, WEIGHTED, marks=pytest.mark.full),
        # A whole base of random weights is chaotic at common rates: rounding alone changes its
        # losses.
        pytest.param("all", 5e-6, {}, marks=pytest.mark.full),
        pytest.param("top_20", 1e-4, {}, marks=pytest.mark.full),
    ],
)
def test_two_workers_lose_as_one_of_twice_the_batch(
    trainable: str,
    rate: float,
    changes: Any,  # noqa: ANN401
) -> None:
    phase = {"trainable": trainable, "epochs": 2, "learning_rate": rate}
    changes = {"weights": "none" if trainable == "all" else "imagenet"} | changes
    (alone,) = train_on_arrays(conf_of(phase, 16, **changes), 1)
    first, second = train_on_arrays(conf_of(phase, 8, **changes), 2)
    for name in ("loss", "validation_loss"):
        expected = [record[name] for record in alone["history"]]
        assert [r[name] for r in first["history"]] == pytest.approx(expected, abs=1e-3)
    assert alone["history"][1]["loss"] != pytest.approx(alone["history"][0]["loss"], abs=1e-5)
    assert first["weights"] == second["weights"]


@pytest.mark.full
def test_the_first_worker_decides_for_one_that_would_stop() -> None:
    phase = {"trainable": "head", "epochs": 3, "learning_rate": 1e-3}
    conf = conf_of(phase, 8, weights="imagenet", early_stopping={"patience": 2}, schedule="plateau")
    first, second = train_on_arrays(conf, 2, "stops")
    assert [record["epoch"] for record in second["history"]] == [1, 2, 3]
    assert first["weights"] == second["weights"]
    assert first["epoch"] == second["epoch"] == 3
    assert [r["learning_rate"] for r in second["history"]] == pytest.approx([1e-3] * 3)


@pytest.mark.full
def test_initial_weights_that_differ_end_all_workers_with_the_same_error() -> None:
    phase = {"trainable": "all", "epochs": 1}
    answers = train_on_arrays(conf_of(phase, 8, weights="none"), 2, "other weights")
    said = (
        "train.weights: none: 1 of 2 workers differ from the first; expected the same file for "
        "each, and machines of one kind"
    )
    assert answers == [{"error": said}] * 2


@pytest.mark.full
def test_two_workers_cannot_have_xla_compile_what_they_exchange_in_the_network() -> None:
    conf = conf_of({"trainable": "all", "epochs": 1}, 8, weights="none", xla=True)
    first, second = train_on_arrays(conf, 2)
    assert first == second
    assert first["error"].startswith("train.xla: BatchNorm that learns is exchanged")


@pytest.mark.full
def test_two_workers_in_half_precision_end_alike_though_one_overflows() -> None:
    phase = {"trainable": "all", "epochs": 1, "learning_rate": 1e-3}
    conf = conf_of(phase, 16, weights="none", precision="mixed_float16")
    first, second = train_on_arrays(conf, 2, "overflows")
    assert np.isfinite(first["weights"]).all()
    assert first["weights"] == second["weights"]


@pytest.mark.full
def test_batch_norm_of_each_workers_own_batch_ends_with_statistics_of_all() -> None:
    phase = {"trainable": "all", "epochs": 2, "learning_rate": 1e-3}
    conf = conf_of(phase, 8, weights="none", sync_batch_norm=False)
    first, second = train_on_arrays(conf, 2)
    assert first["weights"] == second["weights"]
    losses = [[record["validation_loss"] for record in one["history"]] for one in (first, second)]
    assert losses[0] == losses[1]
    (shared, _) = train_on_arrays(conf.model_copy(update={"sync_batch_norm": True}), 2)
    assert shared["weights"] != first["weights"]
