"""A training that broke off goes on from its checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from croplake.conf import TrainConf

pytest.importorskip("tensorflow")

from croplake.training.checkpoints import Checkpoints
from croplake.training.loop import EpochRecord
from tests.toy_training import (
    ROW_LABELS,
    WRONG,
    arrays,
    conf_with,
    first_batch,
    head_then_top,
    train_on,
    weights_of,
)


class PowerCutError(Exception):
    """What ends a training in the middle."""


def stop_after(epoch: int) -> Any:  # noqa: ANN401
    def on_epoch(record: EpochRecord) -> None:
        if record["epoch"] == epoch:
            raise PowerCutError

    return on_epoch


STOPPING = {"patience": 5, "min_delta": 0}


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "conf",
    [
        conf_with(2, 2, early_stopping=STOPPING),
        # Another optimizer for each phase, of other variables.
        head_then_top("top_3", early_stopping=STOPPING),
    ],
    ids=["all", "head, then the top"],
)
def test_a_training_that_broke_off_goes_on_as_if_it_had_not(
    tmp_path: Path, conf: TrainConf, epoch: int
) -> None:
    """Dropout, Adam, BatchNorm, the best weights and the schedule included."""
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
