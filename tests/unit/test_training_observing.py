"""Those who look at a training: told of each epoch once, and of no consequence to it."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from croplake.conf import TrainConf
from croplake.errors import SettingsError
from croplake.training.launching import run_as_processes
from croplake.training.workers import Examples, describe_job
from tests.training_data import write_colours

pytest.importorskip("tensorflow")

import tensorflow as tf

from croplake.training.observing import Observers, TensorBoard, import_callbacks
from tests.toy_training import arrays, conf_with, train_on, weights_of

WATCHING = """
from pathlib import Path

FILE = Path(__file__).with_name("seen")
SEEN = []
EPOCHS = []
NUMBER = 17


def tell(record):
    SEEN.append(record)
    record.clear()


class Epochs:
    def __call__(self, record):
        EPOCHS.append(record["epoch"])


class Files:
    def __init__(self):
        with FILE.open("a") as file:
            file.write("made ")

    def __call__(self, record):
        with FILE.open("a") as file:
            file.write(f"{record['epoch']} ")


class Named:
    def __init__(self, name):
        self.name = name


def fail(record):
    SEEN.append(record)
    raise ConnectionError("nobody listens")


def leave(record):
    SEEN.append(record)
    raise SystemExit("nobody listens")
"""


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of callbacks that a user may have."""
    tmp_path.joinpath("watching.py").write_text(WATCHING)
    tmp_path.joinpath("broken.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("watching")
    del sys.modules["watching"]


def observers(conf: TrainConf) -> Observers:
    return Observers(import_callbacks(conf.callbacks))


@pytest.mark.usefixtures("tiny")
def test_callbacks_are_told_of_each_epoch_once(watching: Any, tmp_path: Path) -> None:  # noqa: ANN401
    conf = conf_with(1, 2, callbacks=["watching:Epochs", "watching:tell"])
    trained = train_on(arrays(), conf, on_epoch=observers(conf).tell)
    assert watching.EPOCHS == [1, 2, 3]
    assert len(watching.SEEN) == 3
    # What one does to its record is its own affair.
    assert [record["epoch"] for record in trained.history] == [1, 2, 3]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("name", "error"), [("fail", "ConnectionError"), ("leave", "SystemExit")])
def test_a_callback_that_fails_is_left_out_and_the_training_goes_on(
    watching: Any,  # noqa: ANN401
    tmp_path: Path,
    name: str,
    error: str,
) -> None:
    conf = conf_with(3, callbacks=[f"watching:{name}", "watching:Epochs"])
    told = observers(conf)
    trained = train_on(arrays(), conf, on_epoch=told.tell)
    (note,) = told.notes
    assert re.search(rf"{name} .* no more since epoch 1: {error}.*nobody listens", note)
    assert len(watching.SEEN) == 1
    assert watching.EPOCHS == [1, 2, 3]
    unwatched = train_on(arrays(), conf_with(3))
    np.testing.assert_array_equal(weights_of(trained), weights_of(unwatched))


@pytest.mark.usefixtures("watching")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such:tell", "no_such:tell cannot be imported on this worker: ModuleNotFoundError"),
        ("broken:tell", "broken:tell cannot be imported .*no_such_module"),
        ("watching:no_such", "watching:no_such cannot be imported on this worker: AttributeError"),
        ("watching:NUMBER", "watching:NUMBER is 17; expected a function"),
        ("watching:Named", r"watching:Named\(\) failed: TypeError.*called without arguments"),
    ],
)
def test_what_is_no_callback_is_refused_by_name(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(SettingsError, match=rf"^train\.callbacks: {said}"):
        observers(conf_with(callbacks=[name]))


def steps_in(folder: Path) -> list[int]:
    """The epochs whose loss TensorBoard would show, of all files of a folder."""
    return [
        event.step
        for file in folder.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "epoch/loss"
    ]


def test_tensorboard_sees_each_epoch_once_it_is_done_in_a_file_that_grows(tmp_path: Path) -> None:
    folder = tmp_path / "a model" / "tensorboard"
    folder.mkdir(parents=True)
    folder.joinpath("events.of-an-attempt-that-broke-off").write_bytes(b"")
    tensorboard = TensorBoard(folder.as_uri())
    files = set()
    for epoch in (1, 2, 3):
        tensorboard({"epoch": epoch, "loss": 1 / epoch})
        assert steps_in(folder) == [*range(1, epoch + 1)]
        files.add(next(folder.iterdir()).stat().st_ino)
    assert len(files) == 1


@pytest.mark.usefixtures("tiny")
def test_tensorboard_that_cannot_write_is_left_out(tmp_path: Path) -> None:
    tmp_path.joinpath("models").write_text("a file where the folder should be")
    told = Observers([TensorBoard((tmp_path / "models" / "tensorboard").as_uri())])
    trained = train_on(arrays(), conf_with(2), on_epoch=told.tell)
    assert len(trained.history) == 2
    (note,) = told.notes
    assert re.match(r"TensorBoard\('.*/models/tensorboard'\) observes no more since epoch 1", note)


@pytest.mark.full
@pytest.mark.usefixtures("watching")
def test_of_two_workers_the_first_has_the_callbacks(tmp_path: Path) -> None:
    files = [write_colours(tmp_path / "a.parquet", [range(8), range(8, 16)])]
    conf = conf_with(2, batch_size=8, num_workers=2, callbacks=["watching:Files"])
    run_as_processes(
        describe_job(
            conf,
            Examples(files, [], ("red", "green", "blue"), [6, 5, 5]),
            (tmp_path / "model").as_uri(),
            (tmp_path / "checkpoints").as_uri(),
        )
    )
    assert tmp_path.joinpath("seen").read_text() == "made 1 2 "
