"""Trains the dataset's classifier on its shards: examples → a model folder in the lake."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.dataset as pads
from rich.table import Table

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.jobs.context import Job, JobContext
from croplake.jobs.select_boxes import dataset_labels
from croplake.summary import titled

if TYPE_CHECKING:
    from croplake.training.workers import TrainingResult

_EPOCH_FIGURES: Final = {
    "loss": 3,
    "accuracy": 3,
    "validation_loss": 3,
    "validation_accuracy": 3,
    "images_per_s": 0,
}
"""What is shown of an epoch, and with how many digits."""


def model_folder(root: str, model_id: str) -> str:
    """The address of a model's folder."""
    return storage.join(root, "models", model_id)


def run(context: JobContext) -> None:
    """`examples` of the dataset → `models/<model_id>/`."""
    # TensorFlow stays out of the driver: the workers are processes of their own.
    from croplake.training.workers import train_distributed

    conf, dataset = context.settings.train, context.settings.dataset.name
    labels = dataset_labels(context)
    context.read_table(t.EXAMPLES)
    files = {
        split: context.lake.reader.files(
            t.EXAMPLES.name,
            version=context.read[t.EXAMPLES.name],
            partition={t.DATASET: dataset, t.SPLIT: split},
        )
        for split in t.SPLITS
    }
    if not files["train"]:
        raise InputDataError(f"dataset {dataset}: no training example; build_examples comes first")
    _check_labels(context, labels)
    context.model_id = f"{dataset}-{context.run_id}"
    folder = model_folder(context.lake.root, context.model_id)
    with tempfile.TemporaryDirectory(prefix="croplake-model-") as scratch:
        local = storage.local_path(folder) if storage.is_local(folder) else Path(scratch)
        result = train_distributed(
            context.spark,
            conf,
            train_files=files["train"],
            validation_files=files["validation"],
            labels=labels,
            output_dir=str(local),
            on_epoch=lambda record: _print_epoch(context, record),
        )
        if not storage.is_local(folder):
            storage.upload_folder(local, folder)
    context.counts["epochs"] = len(result.history)
    context.counts["workers"] = conf.num_workers
    _print_result(context, result, folder)


def _check_labels(context: JobContext, labels: list[str]) -> None:
    """Makes sure that a label index names the same category as when the examples were built.

    Raises:
        InputDataError: the catalog's classes have changed since.
    """
    dataset = context.settings.dataset.name
    pairs = context.lake.reader.count_by(
        t.EXAMPLES.name,
        [t.LABEL_INDEX, t.CATEGORY],
        version=context.read[t.EXAMPLES.name],
        where=pads.field(t.DATASET) == dataset,
    )
    wrong = sorted(pairs.keys() - set(enumerate(labels)))
    if wrong:
        index, category = wrong[0]
        raise InputDataError(
            f"dataset {dataset}: its examples have {category!r} as label {index}, by the catalog "
            f"as it is now that is {(*labels, None)[min(index, len(labels))]!r}; run "
            "build_examples again"
        )


def _print_epoch(context: JobContext, record: dict[str, float]) -> None:
    epochs = context.settings.train.epochs
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
)
