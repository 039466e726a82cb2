"""The training loop: phases of epochs of steps under a tf.distribute strategy, on public API.

Keras 3's `fit` fails under MultiWorkerMirroredStrategy (keras#20585), so the loop stands here. One
worker and many run the same code; a worker has one replica.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from croplake.conf import PhaseConf, TrainConf
from croplake.errors import InputDataError, SettingsError
from croplake.training.checkpoints import Arrays, Checkpoint, Checkpoints
from croplake.training.decisions import Decision, Progress, decide
from croplake.training.network import batch_norm_statistics, build_classifier, choose_trainable
from croplake.training.precision import LossScale, choose_precision
from croplake.training.steps import Batch, Exchange, Steps
from croplake.training.training_copy import copy_for_training

EpochRecord = dict[str, float]
"""An epoch's figures by name: epoch and phase (from 1), loss, accuracy, learning_rate, seconds,
images_per_s, and with a validation split validation_loss and validation_accuracy. The losses are
plain cross-entropies, whatever the training makes smaller."""

Observer = Callable[[EpochRecord], None]

_MODEL, _OPTIMIZER, _SCALE, _BEST = "model", "optimizer", "scale", "best"
"""Parts of a checkpoint."""
_PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class Data:
    """What a worker trains on.

    Attributes:
        train: its batches of an epoch (from 0).
        num_steps: batches of an epoch, as many on every worker.
        num_rows: examples of an epoch, of all workers.
        validation: its batches of the validation split; None where there is none.
        class_weights: what an example counts in the loss, by its label; None is 1.
    """

    train: Callable[[int], Iterable[Batch]]
    num_steps: int
    num_rows: int
    validation: Callable[[], Iterable[Batch]] | None = None
    class_weights: Sequence[float] | None = None


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        model: the classifier with its final weights, the same on every worker.
        history: one record an epoch.
        epoch: whose weights they are.
    """

    model: keras.Model
    history: list[EpochRecord]
    epoch: int


def train_classifier(
    strategy: tf.distribute.Strategy,
    conf: TrainConf,
    data: Data,
    *,
    num_classes: int,
    worker_index: int = 0,
    checkpoints: Checkpoints | None = None,
    on_epoch: Observer = lambda record: None,
) -> Trained:
    """Trains a classifier; every worker of the strategy calls this with its own data.

    Args:
        strategy: with one replica a worker.
        conf: of the training.
        data: this worker's.
        num_classes: categories.
        worker_index: from 0; the first decides for all.
        checkpoints: where the first writes them, and all go on from; None keeps none.
        on_epoch: is given each epoch's record, those of a checkpoint first; on every worker.

    Returns:
        The model and the history.

    Raises:
        SettingsError: something is decided by a validation loss, and there is no such split; the
            initial weights cannot be read, do not fit, or are others on another worker.
        IncompleteError: the ImageNet weights could not be downloaded.
        InputDataError: an example's picture cannot be decoded.
    """
    keras.utils.set_random_seed(conf.seed % 2**32)
    exchange = Exchange(strategy, worker_index)
    precision = choose_precision(conf)
    exchange.require_same(
        _PRECISIONS.index(precision), "train.precision: auto", "machines of one kind"
    )
    _require_validation(conf, data)
    shares_batch_norm = (
        conf.learns_batch_norm and conf.sync_batch_norm and strategy.num_replicas_in_sync > 1
    )
    if conf.xla and shares_batch_norm:
        raise SettingsError(
            "train.xla: BatchNorm that learns is exchanged between the workers, which XLA cannot "
            "compile; set train.sync_batch_norm: false, train.xla: false, or train.num_workers: 1"
        )
    saved = build_classifier(conf, num_classes)
    exchange.require_same(
        _checksum(saved.get_weights()),
        f"train.weights: {conf.weights}",
        "the same file for each, and machines of one kind",
    )
    with strategy.scope():
        model = copy_for_training(saved, shares_batch_norm=shares_batch_norm, precision=precision)
        scale = LossScale(scales=precision == "mixed_float16")
    training = _Training(strategy, conf, data, model, scale, exchange, checkpoints, on_epoch)
    training.run()
    saved.set_weights(model.get_weights())
    choose_trainable(saved, conf, conf.phases[-1])
    return Trained(saved, training.history, training.progress.weights_epoch)


def _checksum(weights: Arrays) -> int:
    checksum = 0
    for weight in weights:
        checksum = zlib.crc32(weight.tobytes(), checksum)
    return checksum


def _require_validation(conf: TrainConf, data: Data) -> None:
    if data.validation is not None:
        return
    for name, asks in (
        ("early_stopping", conf.early_stopping is not None),
        ("schedule: plateau", conf.schedule == "plateau"),
    ):
        if asks:
            raise SettingsError(
                f"train.{name} is decided by the validation loss, but the dataset has no "
                "validation split; leave it out, or give the dataset one (dataset.hash_shares)"
            )


@dataclass
class _Training:
    """A training under way."""

    strategy: tf.distribute.Strategy
    conf: TrainConf
    data: Data
    model: keras.Model
    scale: LossScale
    exchange: Exchange
    checkpoints: Checkpoints | None
    on_epoch: Observer
    history: list[EpochRecord] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    _best: Arrays | None = None
    _optimizer: Any = None
    _steps: Any = None

    def run(self) -> None:
        """Trains from the last checkpoint, or from the beginning, to the end."""
        found = self._find_checkpoint()
        if found is None:
            self._begin_phase(0)
        else:
            self._restore(found)
        while not self.progress.has_ended:
            decision = self._judge(self._run_epoch())
            if decision.ends_phase:
                self._end_phase()
            if self.checkpoints is not None and self.exchange.is_first:
                self._save(self.checkpoints)
            self.on_epoch(self.history[-1])

    def _find_checkpoint(self) -> Checkpoint | None:
        """The one that the first worker has found."""
        if self.checkpoints is None:
            return None
        marker = self.checkpoints.last() if self.exchange.is_first else None
        (num_epochs,) = self.exchange.tell([marker.progress.num_epochs if marker else 0])
        return self.checkpoints.load(int(num_epochs)) if num_epochs else None

    def _begin_phase(self, number: int) -> None:
        phase = self.conf.phases[number]
        choose_trainable(self.model, self.conf, phase)
        with self.strategy.scope():
            self._optimizer = keras.optimizers.Adam(self._schedule(phase))
            self._optimizer.build(self.model.trainable_variables)
        self._steps = Steps(
            self.strategy,
            self.model,
            self._optimizer,
            self.scale,
            label_smoothing=self.conf.label_smoothing,
            class_weights=self.data.class_weights,
            xla=self.conf.xla,
        )
        self.progress = self.progress.in_phase(number, phase.learning_rate)

    def _schedule(self, phase: PhaseConf) -> Any:  # noqa: ANN401  # keras is untyped
        if self.conf.schedule != "cosine":
            return phase.learning_rate
        num_steps = phase.epochs * self.data.num_steps
        return keras.optimizers.schedules.CosineDecay(phase.learning_rate, num_steps)

    def _restore(self, found: Checkpoint) -> None:
        self._begin_phase(found.progress.phase)
        self.progress, self.history = found.progress, list(found.history)
        for part, variables in self._parts().items():
            values = found.parts.get(part, [])
            if [tuple(variable.shape) for variable in variables] != [v.shape for v in values]:
                raise InputDataError(
                    f"the checkpoint's {part} has {len(values)} variables that are not this "
                    f"training's {len(variables)}, as after another precision or version of Keras; "
                    "remove the lake's folder of checkpoints, and the training begins anew"
                )
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        # Another number of workers takes other steps: the schedule goes by epochs.
        self._optimizer.iterations.assign(self.progress.num_in_phase * self.data.num_steps)
        self._best = found.parts.get(_BEST)
        for record in self.history:
            self.on_epoch(record)

    def _parts(self) -> dict[str, list[Any]]:
        """The variables that a training goes on from, seeds of dropout among them."""
        return {
            _MODEL: self.model.variables,
            _OPTIMIZER: self._optimizer.variables,
            _SCALE: self.scale.variables,
        }

    def _run_epoch(self) -> EpochRecord:
        started, epoch = time.monotonic(), self.progress.num_epochs
        sums = self.exchange.add_up(self._steps.train(self.data.train(epoch)))
        if self.conf.learns_batch_norm and not self.conf.sync_batch_norm:
            self.exchange.average(batch_norm_statistics(self.model))
        seconds = time.monotonic() - started
        record: EpochRecord = {"epoch": epoch + 1, "phase": self.progress.phase + 1}
        record |= {"loss": float(sums[0] / sums[2]), "accuracy": float(sums[1] / sums[2])}
        if self.data.validation is not None:
            sums = self.exchange.add_up(self._steps.evaluate(self.data.validation()))
            record["validation_loss"] = float(sums[0] / sums[2])
            record["validation_accuracy"] = float(sums[1] / sums[2])
        record["learning_rate"] = float(self._optimizer.learning_rate.numpy())
        record["seconds"] = time.monotonic() - started
        record["images_per_s"] = self.data.num_rows / seconds
        return record

    def _judge(self, record: EpochRecord) -> Decision:
        """The first worker's decision; what of the progress it depends on is the first's alone."""
        self.history.append(record)
        self.progress, own = decide(self.conf, self.progress, record.get("validation_loss"))
        is_best, ends_phase, rate = self.exchange.tell([float(value) for value in own])
        if self.conf.schedule == "plateau":
            self._optimizer.learning_rate.assign(rate)
        if is_best and self.conf.early_stopping is not None:
            self._best = self.model.get_weights()
        return Decision(bool(is_best), bool(ends_phase), rate)

    def _end_phase(self) -> None:
        """Takes the best weights, where one asked for them, and begins the next phase."""
        if self._best is not None:
            (best_epoch,) = self.exchange.tell([self.progress.best_epoch])
            self.progress.weights_epoch = int(best_epoch)
            self.model.set_weights(self._best)
        if self.progress.phase + 1 < len(self.conf.phases):
            self._begin_phase(self.progress.phase + 1)
        else:
            self.progress.has_ended = True

    def _save(self, checkpoints: Checkpoints) -> None:
        parts = {
            part: [variable.numpy() for variable in variables]
            for part, variables in self._parts().items()
        }
        if self._best is not None:
            parts[_BEST] = self._best
        checkpoints.save(Checkpoint(self.progress, list(self.history), parts))
