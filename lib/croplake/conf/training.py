"""The settings of a training: what learns, from which pictures, by which workers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from croplake.conf.fields import ConfModel, Fraction, PositiveFloat, PositiveInt
from croplake.training.bases import find_base


class AugmentConf(ConfModel):
    """Random changes of a training picture; 0 or false switches one off."""

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Turned by up to so much either way."""
    shift_frac: Fraction = 0.2
    """Moved by up to this fraction of its side, both ways."""
    shear_frac: Fraction = 0.2
    """Sheared by up to this fraction either way: how far the top moves, per height."""
    zoom_frac: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Scaled by a factor between 1 - zoom_frac and 1 + zoom_frac."""
    horizontal_flip: bool = True
    """Mirrored left to right every other time."""


class PhaseConf(ConfModel):
    """Epochs in which the same layers learn."""

    trainable: str = Field(default="head", pattern=r"^(head|all|top_[1-9][0-9]*)$")
    """What learns: `head`, `top_N` (the head and the base's last N layers), `all`. BatchNorm learns
    only where every phase is `all`; else it keeps its statistics."""
    epochs: PositiveInt = 10
    """Passes over the training split, at most."""
    learning_rate: PositiveFloat = 1e-3
    """Rate at the phase's start."""


class PlateauConf(ConfModel):
    """`schedule: plateau`: the rate falls where the validation loss does not."""

    patience: PositiveInt = 2
    """Epochs without a lower validation loss before the rate falls."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """What the rate is multiplied by."""
    min_learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    """The rate does not fall below."""


class EarlyStoppingConf(ConfModel):
    """Ends a phase that learns no more; the weights are then those of the best epoch."""

    patience: PositiveInt = 3
    """Epochs without a lower validation loss before the phase ends."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """A validation loss counts as lower if it is so by more than this."""


class TrainConf(ConfModel):
    """Training of the classifier."""

    num_workers: PositiveInt = 1
    """Workers that train together."""
    launch: Literal["spark", "processes"] = "spark"
    """`spark`: each worker is a task of a barrier stage; `processes`: processes on the driver's
    machine."""
    gpus_per_worker: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of a worker, which Spark must have to give (`spark.executor.resource.gpu.amount`); 0: a
    worker takes one of its machine's, where there are any."""
    threads_per_worker: PositiveInt | None = None
    """Cores that a worker computes with; null is its share of its machine's."""
    max_attempts: PositiveInt = 3
    """How often a training is begun in a run: after a worker has died, from the last complete
    epoch."""
    base: str = "MobileNetV2"
    """The network below the head: a name of `keras.applications`."""
    alpha: Annotated[float, Field(ge=0.25, le=2.0)] = 1.0
    """Width of a MobileNet; others have one width."""
    weights: str = "imagenet"
    """`imagenet`, `none` (random), or the path of a `.keras`/`.h5`/`.weights.h5` file."""
    phases: tuple[PhaseConf, ...] = Field(default=(PhaseConf(),), min_length=1)
    """What learns, in which order."""
    input_side_px: Annotated[int, Field(ge=32, le=1024)] = 224
    """Side of the square the network sees."""
    dense_units: Annotated[int, Field(ge=0)] = 1024
    """Units of the layer before the softmax; 0 leaves it out."""
    dropout_frac: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout before the softmax."""
    batch_size: PositiveInt = 64
    """Examples of one worker's step."""
    class_balance: Literal["none", "weights", "sampling"] = "none"
    """`weights`: an example counts by the inverse of its category's size; `sampling`: rare
    categories are drawn as often as others."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the label that all categories get evenly."""
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    """How the rate of a phase goes: to 0 along a cosine, down where the validation loss stands
    still, or not at all."""
    plateau: PlateauConf = PlateauConf()
    """Of `schedule: plateau`."""
    early_stopping: EarlyStoppingConf | None = None
    """When a phase ends early; null: never, and the last epoch's weights are kept."""
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    """Of the arithmetic; `auto` is mixed on GPUs that gain by it, else float32. Saved models are
    float32."""
    xla: bool = False
    """Whether XLA compiles the network; on CPUs it is slower. It cannot compile BatchNorm that
    several workers exchange: that takes `sync_batch_norm: false`, or phases that keep BatchNorm."""
    sync_batch_norm: bool = True
    """Whether BatchNorm that learns normalises by the batches of all workers. They wait for each
    other at every such layer of the network, twice a step: with fast networks that takes longer
    than the arithmetic. false: each worker by its own batch, which should not be small; their
    running statistics are averaged after each epoch."""
    tensorboard: bool = False
    """Whether the figures of each epoch are also written for TensorBoard, after each, into the
    folder `tensorboard` where the model will be. A training that goes on in a later run tells of
    the epochs before, too; what the run that broke off told goes with its folder, by `lake
    maintain`."""
    callbacks: tuple[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")], ...] = ()
    """`module:name` of callables that the first worker tells of each epoch, or of classes, of which
    it makes one each: they are given the epoch's figures as a dict and change nothing. A training
    that goes on tells of the epochs before, too. What they print is not shown."""
    seed: int = 17
    """Seed of the weights, the order and the augmentation."""
    augment: AugmentConf = AugmentConf()
    """Augmentation of the training split."""
    shuffle_buffer: PositiveInt = 4096
    """Examples among which each next one is drawn, at most."""
    shuffle_bytes: Annotated[int, Field(ge=1024 * 1024)] = 256 * 1024 * 1024
    """Greatest size of these examples on a worker, as the training split's are on average; where
    it would be more, fewer are drawn among."""
    reader_threads: PositiveInt = 2
    """Petastorm reader threads of a worker."""
    reader_bytes: Annotated[int, Field(ge=24 * 1024 * 1024)] = 128 * 1024 * 1024
    """Greatest size of the row groups that a worker's readers hold; fewer threads read where it
    would be more."""

    @property
    def weights_file(self) -> str | None:
        """The address of the file that the weights come from."""
        return None if self.weights in ("imagenet", "none") else self.weights

    @property
    def num_epochs(self) -> int:
        """Epochs of all phases, at most."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def learns_batch_norm(self) -> bool:
        """Whether BatchNorm learns: nothing was kept frozen around it."""
        return all(phase.trainable == "all" for phase in self.phases)

    @model_validator(mode="after")
    def _random_weights_train_all(self) -> TrainConf:
        others = [phase.trainable for phase in self.phases if phase.trainable != "all"]
        if self.weights == "none" and others:
            raise ValueError(
                "weights: none needs phases with trainable: all (random layers must learn), "
                f"got {others[0]}"
            )
        return self

    @model_validator(mode="after")
    def _spark_gives_gpus(self) -> TrainConf:
        if self.gpus_per_worker and self.launch != "spark":
            raise ValueError(
                "gpus_per_worker: Spark gives them; with launch: processes leave it 0, each worker "
                "takes one of the machine's"
            )
        return self

    @model_validator(mode="after")
    def _base_has_this_width(self) -> TrainConf:
        base = find_base(self.base)
        if not base.has_alpha and self.alpha != 1.0:
            raise ValueError(
                f"alpha: {self.base} has one width; leave alpha out, or take a MobileNet"
            )
        if base.has_alpha and self.weights == "imagenet" and self.alpha not in base.imagenet_alphas:
            widths = ", ".join(map(str, base.imagenet_alphas))
            raise ValueError(
                f"alpha: {self.alpha}: weights: imagenet of {self.base} come with one of {widths}; "
                "take one of these, or other weights"
            )
        return self
