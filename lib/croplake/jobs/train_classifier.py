"""Trains the dataset's classifier on its shards: examples → a model folder in the lake."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pyarrow.dataset as pads
from rich.table import Table

from croplake import storage
from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import InputDataError
from croplake.jobs.context import Job, JobContext
from croplake.jobs.select_boxes import dataset_labels
from croplake.locks import writing
from croplake.models import has_model, model_folder
from croplake.summary import titled, warn
from croplake.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from croplake.training.workers import Examples, TrainingResult

CHECKPOINTS: Final = "checkpoints"
"""The folder of a lake where trainings under way keep what they go on from."""
_EPOCH_FIGURES: Final = {
    "loss": 3,
    "accuracy": 3,
    "validation_loss": 3,
    "validation_accuracy": 3,
    "images_per_s": 0,
}
"""What is shown of an epoch, and with how many digits."""
_OF_THE_RUN: Final = frozenset(
    (
        "num_workers",
        "launch",
        "gpus_per_worker",
        "threads_per_worker",
        "max_attempts",
        "tensorboard",
        "callbacks",
        "reader_threads",
        "reader_bytes",
    )
)
"""Settings of `train` that say how it is run: another run may go on with others."""


def run(context: JobContext) -> None:
    """`examples` of the dataset → `models/<model_id>/`."""
    # TensorFlow stays out of the driver: the workers are processes of their own.
    from croplake.training.workers import train_distributed

    conf, lake = context.settings.train, context.lake
    examples = _examples(context)
    context.model_id = model_id_of(context.settings.dataset.name, context.run_id)
    folder = model_folder(lake.root, context.model_id)
    key = _checkpoint_key(context, examples)
    checkpoints = storage.join(lake.root, CHECKPOINTS, key)
    with writing(
        lake.root,
        (checkpoint_lock(key),),
        run_id=context.run_id,
        job="train_classifier",
        is_inner=True,
    ):
        try:
            result = train_distributed(
                context.spark,
                conf,
                examples,
                output_dir=folder,
                checkpoint_dir=checkpoints,
                on_epoch=lambda record: _print_epoch(context, record),
                on_loss=lambda text: warn(context.console, text),
            )
        except BaseException:
            with suppress(OSError):  # `lake maintain` removes what stays
                storage.remove(folder)
            raise
        # Only now: a run that is killed while the model is written goes on from the last of them.
        Checkpoints(checkpoints).remove()
    context.counts |= {
        "epochs": len(result.history),
        "workers": conf.num_workers,
        "attempts": result.num_attempts,
    }
    _print_result(context, result, folder)
    for note in result.notes:
        warn(context.console, note)


def model_id_of(dataset: str, run_id: str) -> str:
    """What the model of a training is called."""
    return f"{dataset}-{run_id}"


def checkpoint_lock(key: str) -> str:
    """The name of the lock of a checkpoints' folder."""
    return f"{CHECKPOINTS}-{key}"


def _checkpoint_key(context: JobContext, examples: Examples) -> str:
    """Hash of all that must be the same for a training to go on from a checkpoint.

    Not the version of `examples`: another dataset may have been built since.
    """
    files = [*examples.train_files, *examples.validation_files]
    parts = {
        "train": context.settings.train.model_dump(mode="json", exclude=set(_OF_THE_RUN)),
        "weights": _weights_fingerprint(context.settings),
        "dataset": context.settings.dataset.name,
        "labels": list(examples.labels),
        "table": context.lake.reader.table_id(t.EXAMPLES.name),
        "files": sorted(file.rsplit("/", 1)[-1] for file in files),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _weights_fingerprint(settings: Settings) -> str | None:
    """What changes with the file that the weights come from; None without one."""
    file = settings.train.weights_file
    try:
        return storage.fingerprint(file) if file else None
    except (OSError, ValueError):  # not there; not an address
        return None  # the workers say what is wrong with it


def _examples(context: JobContext) -> Examples:
    """What is trained on, of the version that stands in `runs`.

    Raises:
        InputDataError: there is no training example, or the catalog's classes have changed since
            the examples were built, so that an index is another category's.
    """
    from croplake.training.workers import Examples

    dataset, reader = context.settings.dataset.name, context.lake.reader
    labels = dataset_labels(context)
    context.read_table(t.EXAMPLES)
    version = context.read[t.EXAMPLES.name]
    files = {
        split: reader.files(
            t.EXAMPLES.name, version=version, partition={t.DATASET: dataset, t.SPLIT: split}
        )
        for split in t.SPLITS
    }
    if not files["train"]:
        raise InputDataError(f"dataset {dataset}: no training example; build_examples comes first")
    counts = reader.count_by(
        t.EXAMPLES.name,
        [t.SPLIT, t.LABEL_INDEX, t.CATEGORY],
        version=version,
        where=pads.field(t.DATASET) == dataset,
    )
    wrong = sorted({(index, name) for _, index, name in counts} - set(enumerate(labels)))
    if wrong:
        index, category = wrong[0]
        raise InputDataError(
            f"dataset {dataset}: its examples have {category!r} as label {index}, by the catalog "
            f"as it is now that is {(*labels, None)[min(index, len(labels))]!r}; run "
            "build_examples again"
        )
    in_training = [counts["train", index, name] for index, name in enumerate(labels)]
    return Examples(files["train"], files["validation"], labels, in_training)


def _print_epoch(context: JobContext, record: dict[str, float]) -> None:
    epochs = context.settings.train.num_epochs
    text = f"epoch {record['epoch']:.0f} of {epochs} · " + " · ".join(
        f"{name.replace('_', ' ')} {record[name]:.{digits}f}"
        for name, digits in _EPOCH_FIGURES.items()
        if name in record
    )
    context.console.print(text, highlight=False, soft_wrap=True)


def _print_result(context: JobContext, result: TrainingResult, folder: str) -> None:
    last = result.history[-1]
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, digits in _EPOCH_FIGURES.items():
        if name in last:
            table.add_row(f"{name.replace('_', ' ')}, last epoch", f"{last[name]:.{digits}f}")
    table.add_row("epochs", str(len(result.history)))
    if result.epoch != len(result.history):
        table.add_row("weights of epoch", str(result.epoch))
    table.add_row("workers", str(len(result.digests)))
    table.add_row("weights, SHA-256", ", ".join(sorted({d[:12] for d in result.digests})))
    for file in storage.list_files(folder):
        table.add_row(file.rsplit("/", 1)[-1], f"{storage.size_bytes(file):,} bytes")
    context.console.print(titled(f"train_classifier: {context.model_id}", table))
    context.console.print(f"model: {folder}", highlight=False, soft_wrap=True)


JOB = Job(
    name="train_classifier",
    run=run,
    writes=(),
    reads=(t.CLASSES, t.EXAMPLES),
    follows=("build_examples",),
    conf_of=lambda settings: settings.train,
    state_of=lambda lake, settings: _weights_fingerprint(settings),
    is_there=lambda lake, run: has_model(lake.reader, run[t.MODEL_ID]),
)
