"""Measures a model on a split of the snapshot it was trained from: examples → evaluations."""

from __future__ import annotations

from typing import Any

from pyspark.sql import functions as F  # noqa: N812

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.picture import confusion_png
from croplake.evaluation.summary import summarize
from croplake.inference.model import read_labels
from croplake.inference.spark import check_labels, measure, score
from croplake.jobs import train_classifier
from croplake.jobs.context import Job, JobContext, model_run
from croplake.jobs.train_classifier import model_folder


def run(context: JobContext) -> None:
    """`examples` of the model's version → `evaluations`, and a picture beside the model."""
    conf = context.settings.evaluate
    trained = model_run(context, conf.model, train_classifier.JOB)
    dataset = trained[t.DATASET]
    context.model_id = trained[t.MODEL_ID]
    folder = model_folder(context.lake.root, trained[t.MODEL_ID])
    categories = read_labels(folder)
    # The model's own snapshot: a later build of the dataset may have put its photos elsewhere.
    version = trained[t.TABLES_READ][t.EXAMPLES.name]
    _check_files(context, trained)
    examples = context.read_table(t.EXAMPLES, version=version).where(
        (F.col(t.DATASET) == dataset) & (F.col(t.SPLIT) == conf.split)
    )
    if examples.isEmpty():
        raise InputDataError(
            f"dataset {dataset}: its {conf.split} split is empty, there is nothing to "
            "measure on; choose evaluate.split, or a dataset with such a split"
        )
    check_labels(examples, categories)
    metrics = measure(score(examples, folder, conf.batch_size), categories)
    rows = metrics.rows(context.run_id, trained[t.MODEL_ID], dataset, conf.split)
    context.lake.add_rows(rows, t.EVALUATIONS)
    context.written[t.EVALUATIONS.name] = context.lake.version(t.EVALUATIONS)
    title = f"{trained[t.MODEL_ID]}, {conf.split}"
    picture = storage.join(folder, f"confusion_{conf.split}.png")
    storage.write_bytes(picture, confusion_png(metrics, title=title))
    context.counts["examples"] = metrics.num_examples
    context.console.print(summarize(metrics, title=f"evaluate_classifier: {title}"))
    context.console.print(f"confusion matrix: {picture}", highlight=False, soft_wrap=True)
    context.console.print(f"{conf.split} top-1: {metrics.top1:.2%}", highlight=False)


def _check_files(context: JobContext, trained: dict[str, Any]) -> None:
    """Makes sure that what is to be measured on is still there.

    Raises:
        InputDataError: files of the version were removed; the text names the way out.
    """
    split, version = context.settings.evaluate.split, trained[t.TABLES_READ][t.EXAMPLES.name]
    partition = {t.DATASET: trained[t.DATASET], t.SPLIT: split}
    lost = context.lake.reader.lost_files(t.EXAMPLES.name, version=version, partition=partition)
    if lost:
        raise InputDataError(
            f"model {trained[t.MODEL_ID]}: {len(lost)} files of the {split} split it was trained "
            f"beside (examples version {version}) are gone, as when photos in them were forgotten; "
            "train again (croplake train-classifier), and evaluate the new model"
        )


JOB = Job(
    name="evaluate_classifier",
    run=run,
    writes=(t.EVALUATIONS,),
    follows=("train_classifier",),
    conf_of=lambda settings: settings.evaluate,
)
