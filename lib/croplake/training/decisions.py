"""What an epoch's validation loss decides: the rate, the best weights, the end of a phase.

The first worker decides, the others are told: nobody waits for a worker that has stopped.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pydantic import BaseModel

from croplake.conf import TrainConf


class Progress(BaseModel):
    """Where a training is: what its next decision depends on.

    Attributes:
        num_epochs: done, of all phases.
        phase: that goes on, from 0.
        num_in_phase: epochs done in it.
        learning_rate: of its next step, where no schedule of its own gives it.
        best_loss: the lowest validation loss; None before there is a number.
        best_epoch: whose it is, from 1; 0 before there is one.
        num_waited: epochs of the phase since one was the best.
        plateau_loss: the lowest since the phase began, for the rate.
        plateau_waited: epochs since.
        weights_epoch: whose weights the model has.
        has_ended: whether no epoch is left.
    """

    num_epochs: int = 0
    phase: int = 0
    num_in_phase: int = 0
    learning_rate: float = 0.0
    best_loss: float | None = None
    best_epoch: int = 0
    num_waited: int = 0
    plateau_loss: float | None = None
    plateau_waited: int = 0
    weights_epoch: int = 0
    has_ended: bool = False

    def in_phase(self, phase: int, learning_rate: float) -> Progress:
        """At the beginning of a phase."""
        begun = {"phase": phase, "num_in_phase": 0, "learning_rate": learning_rate}
        fresh = {"num_waited": 0, "plateau_loss": None, "plateau_waited": 0}
        return self.model_copy(update=begun | fresh)


class Decision(NamedTuple):
    """What all workers do after an epoch.

    Attributes:
        is_best: keep these weights.
        ends_phase: no further epoch of it.
        learning_rate: of the next epoch, where no schedule of its own gives it.
    """

    is_best: bool
    ends_phase: bool
    learning_rate: float


def decide(
    conf: TrainConf, progress: Progress, validation_loss: float | None
) -> tuple[Progress, Decision]:
    """Judges an epoch.

    Args:
        conf: of the training.
        progress: before it.
        validation_loss: of the epoch; None without a validation split. NaN is no improvement.

    Returns:
        The progress after it, and what follows.
    """
    after = progress.model_copy()
    after.num_epochs += 1
    after.num_in_phase += 1
    after.weights_epoch = after.num_epochs
    phase = conf.phases[after.phase]
    ends = after.num_in_phase >= phase.epochs
    is_best = False
    if validation_loss is not None:
        is_best = _judge_best(conf, after, validation_loss)
        _judge_plateau(conf, after, validation_loss)
    stopping = conf.early_stopping
    if stopping is not None and after.num_waited >= stopping.patience:
        ends = True
    return after, Decision(is_best, ends, after.learning_rate)


def _judge_best(conf: TrainConf, after: Progress, loss: float) -> bool:
    min_delta = conf.early_stopping.min_delta if conf.early_stopping else 0.0
    if _is_lower(loss, after.best_loss, min_delta):
        after.best_loss, after.best_epoch, after.num_waited = loss, after.num_epochs, 0
        return True
    after.num_waited += 1
    return False


def _judge_plateau(conf: TrainConf, after: Progress, loss: float) -> None:
    if conf.schedule != "plateau":
        return
    if _is_lower(loss, after.plateau_loss, 0.0):
        after.plateau_loss, after.plateau_waited = loss, 0
        return
    after.plateau_waited += 1
    if after.plateau_waited >= conf.plateau.patience:
        lowered = after.learning_rate * conf.plateau.factor
        # A phase that begins below the least rate keeps its own.
        least = min(conf.plateau.min_learning_rate, after.learning_rate)
        after.learning_rate, after.plateau_waited = max(lowered, least), 0


def _is_lower(loss: float, best: float | None, min_delta: float) -> bool:
    return math.isfinite(loss) and (best is None or loss < best - min_delta)
