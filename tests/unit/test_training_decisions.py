"""What a validation loss decides."""

from __future__ import annotations

from typing import Any

import pytest

from croplake.conf import TrainConf
from croplake.training.decisions import Decision, Progress, decide

NAN = float("nan")


def conf_with(**changes: Any) -> TrainConf:  # noqa: ANN401
    values = {"weights": "none", "phases": [{"trainable": "all", "epochs": 9}]}
    return TrainConf.model_validate(values | changes)


def run(conf: TrainConf, losses: list[float | None]) -> tuple[Progress, list[Decision]]:
    progress, decisions = Progress().in_phase(0, 1e-3), []
    for loss in losses:
        progress, decision = decide(conf, progress, loss)
        decisions.append(decision)
    return progress, decisions


def test_a_phase_ends_after_its_epochs() -> None:
    conf = conf_with(phases=[{"trainable": "all", "epochs": 3}])
    progress, decisions = run(conf, [None, None, None])
    assert [decision.ends_phase for decision in decisions] == [False, False, True]
    assert (progress.num_epochs, progress.weights_epoch) == (3, 3)


@pytest.mark.parametrize(
    ("losses", "ends", "best"),
    [
        ([3.0, 2.0, 1.0, 1.5], 0, 3),
        ([3.0, 2.0, 2.5, 2.5], 4, 2),
        ([3.0, 3.0, 3.0], 3, 1),
        ([1.0, NAN, NAN], 3, 1),
        ([NAN, NAN], 2, 0),
    ],
)
def test_patience_counts_epochs_without_a_lower_loss(
    losses: list[float | None], ends: int, best: int
) -> None:
    progress, decisions = run(conf_with(early_stopping={"patience": 2}), losses)
    assert [d.ends_phase for d in decisions].count(True) == bool(ends)
    assert decisions[-1].ends_phase == bool(ends)
    assert progress.best_epoch == best


def test_a_loss_that_is_lower_by_less_than_min_delta_is_not() -> None:
    conf = conf_with(early_stopping={"patience": 2, "min_delta": 0.5})
    _, decisions = run(conf, [3.0, 2.6, 2.4, 2.0])
    assert [decision.is_best for decision in decisions] == [True, False, True, False]


def test_a_rate_below_the_least_one_is_not_raised() -> None:
    conf = conf_with(schedule="plateau", plateau={"patience": 1, "min_learning_rate": 1e-2})
    _, decisions = run(conf, [1.0, 2.0, NAN])
    assert [decision.learning_rate for decision in decisions] == [1e-3, 1e-3, 1e-3]


def test_a_new_phase_waits_anew_but_knows_the_best() -> None:
    conf = conf_with(early_stopping={"patience": 2})
    progress, _ = run(conf, [1.0, 2.0])
    assert progress.num_waited == 1
    begun = progress.in_phase(0, 1e-4)
    assert (begun.num_waited, begun.best_loss, begun.best_epoch) == (0, 1.0, 1)
    after, decision = decide(conf, begun, 1.5)
    assert (decision.is_best, after.best_epoch) == (False, 1)
