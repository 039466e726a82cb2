"""Classifies new photos on all slots: files or addresses → predictions, as a table and as CSV."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pyspark.sql import functions as F  # noqa: N812
from rich.table import Table

from croplake import storage
from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import SettingsError
from croplake.inference.csv_out import write_csv
from croplake.inference.listing import list_photos
from croplake.inference.photos import ClassifyRun
from croplake.inference.spark import classify
from croplake.jobs import train_classifier
from croplake.jobs.context import Job, JobContext, model_run
from croplake.jobs.train_classifier import model_folder
from croplake.summary import titled

_SHOWN = 12


def run(context: JobContext) -> None:
    """Photos → `predictions` and a CSV."""
    conf = context.settings.classify
    if not conf.photos:
        raise SettingsError(
            "classify.photos is empty: name folders, globs, files, http(s) addresses or @FILE, "
            "e.g. --set 'classify.photos=[my-photos]'"
        )
    paths = list_photos(conf.photos)
    model, context.model_id = _model(context)
    predictions = classify(
        context.spark,
        paths,
        model,
        ClassifyRun(
            run_id=context.run_id,
            model_id=context.model_id,
            top=conf.top,
            batch_size=conf.batch_size,
            transfers=conf.transfers_per_task,
        ),
        limits=context.http_limits(),
        budgets=context.host_budgets(),
        max_pixels=context.settings.fetch.max_photo_pixels,
    )
    context.lake.append(predictions, t.PREDICTIONS)
    version = context.lake.version(t.PREDICTIONS)
    context.written[t.PREDICTIONS.name] = version
    landed = context.lake.read(t.PREDICTIONS, version=version)
    of_run = landed.where(F.col(t.RUN_ID) == context.run_id).orderBy(t.PATH)
    default = storage.join(context.lake.root, "predictions_csv", f"{context.run_id}.csv")
    csv_file = conf.csv or default
    statuses: Counter[str] = Counter()
    shown: list[dict[str, Any]] = []

    def rows() -> Any:  # noqa: ANN401  # a generator of Spark rows
        for row in of_run.toLocalIterator():
            statuses[row[t.STATUS]] += 1
            if len(shown) < _SHOWN:
                shown.append(row.asDict())
            yield row.asDict()

    write_csv(rows(), csv_file, top=conf.top)
    context.counts |= dict(statuses)
    found = ", ".join(f"{status} {count:,}" for status, count in statuses.most_common())
    context.console.print(titled(f"classify_photos: {found}", _table(shown)))
    context.console.print(f"all of them: {csv_file}", highlight=False, soft_wrap=True)


def _model(context: JobContext) -> tuple[str, str]:
    """The model's folder or file, and its id."""
    name = context.settings.classify.model
    if name.endswith((".keras", ".h5")) or "/" in name:
        return name, name
    trained = model_run(context, name, train_classifier.JOB)
    return model_folder(context.lake.root, trained[t.MODEL_ID]), trained[t.MODEL_ID]


def _table(shown: list[dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("photo")
    table.add_column("category")
    table.add_column("probability", justify="right")
    for row in shown:
        name = row[t.PATH].rsplit("/", 1)[-1]
        if row[t.CATEGORY] is None:
            table.add_row(name, f"– {row[t.STATUS]}", "")
        else:
            table.add_row(name, row[t.CATEGORY], f"{row[t.PROBABILITY]:.3f}")
    return table


JOB = Job(
    name="classify_photos",
    run=run,
    writes=(t.PREDICTIONS,),
    follows=("train_classifier",),
    conf_of=lambda settings: settings.classify,
    always=True,
)


def has_photos(settings: Settings) -> bool:
    """Whether the settings name photos to classify."""
    return bool(settings.classify.photos)
