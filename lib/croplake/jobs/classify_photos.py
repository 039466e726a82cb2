"""Classifies new photos on all slots: files, addresses or tables → predictions, CSV and a page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from rich.table import Table

from croplake import storage, summary
from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import IncompleteError, SettingsError
from croplake.fetching.coordination import coordinator
from croplake.inference.copies import UNSURE_FOLDER, CopyPlan, sort_folders
from croplake.inference.csv_out import PREDICTIONS_CSV, write_csv
from croplake.inference.listing import TABLE, list_photos
from croplake.inference.model import MODEL_ENDINGS, read_labels
from croplake.inference.photo_frames import classify, photos_frame
from croplake.inference.photos import STATUS_UNSURE, ClassifyRun
from croplake.inference.showcase import read_showcases
from croplake.inference.table_source import (
    TableSource,
    drop_forgotten,
    of_lake,
    parse_source,
    read_source,
)
from croplake.inference.task import ClassifyTask, CopyReport, ShowcasePlan, read_copy_reports
from croplake.jobs.classify_page import Landed, galleries_of, num_of_group
from croplake.jobs.context import Job, JobContext
from croplake.jobs.pages import REPORTS, check_place, write_page
from croplake.jobs.sort_into import check_apart, check_sort_into, write_not_sorted
from croplake.models import find_model
from croplake.report.predictions import PredictionFigures
from croplake.report.predictions_page import predictions_page
from croplake.session import session_properties
from croplake.summary import titled

NAME: Final = "classify_photos"
_MAX_NAMED: Final = 5
_SCRATCH: Final = ".classify-"
"""Begins the names of folders beside the pages in which tasks leave what is no row."""
_SMALL_BATCHES: Final = {"spark.sql.execution.arrow.maxRecordsPerBatch": 16}
"""Rows of photos' bytes are a hundred times as large as those of crops."""


def classify_job(*, sort_into: str | None = None) -> Job:
    """A classification as a run.

    Args:
        sort_into: the folder that photos are copied into by category; None copies none.
    """
    return Job(
        name=NAME,
        run=partial(_run, sort_into=sort_into),
        writes=(t.PREDICTIONS,),
        follows=("train_classifier",),
        conf_of=lambda settings: settings.classify,
        always=True,
    )


def has_photos(settings: Settings) -> bool:
    """Whether the settings name photos to classify."""
    return bool(settings.classify.photos)


def _run(context: JobContext, *, sort_into: str | None) -> None:
    """Photos → `predictions`, a CSV, a page; with `sort_into` copies in folders.

    Raises:
        SettingsError: no photos are named, or a place cannot be.
        InputDataError: there are no photos, or no model.
        IncompleteError: photos could not be copied, or the page not be written.
    """
    conf, root = context.settings.classify, context.lake.root
    if not conf.photos:
        raise SettingsError(
            "classify.photos is empty: name folders, globs, files, http(s) addresses, @FILE or "
            "delta:TABLE, e.g. --set 'classify.photos=[my-photos]'"
        )
    page = context.out or storage.join(root, REPORTS, f"predictions_{context.run_id}.html")
    check_place(page)
    csv_file = conf.csv or storage.join(root, PREDICTIONS_CSV, f"{context.run_id}.csv")
    check_place(csv_file, setting="classify.csv:")
    model, context.model_id = _model(context)
    categories = read_labels(model)
    copies, folders = None, [UNSURE_FOLDER]
    if sort_into is not None:
        copies = CopyPlan(storage.absolute(sort_into), sort_folders(categories))
        folders += copies.folders.values()
        check_sort_into(sort_into, folders, conf.photos, root)
    sources = [parse_source(pattern) for pattern in conf.photos if pattern.startswith(TABLE)]
    patterns = [pattern for pattern in conf.photos if not pattern.startswith(TABLE)]
    paths = list_photos(patterns) if patterns or not sources else []
    if sort_into is not None:
        check_apart(sort_into, folders, paths)
    frame = photos_frame(
        context.spark,
        paths,
        [_table_photos(context, source) for source in sources],
        batch_size=conf.batch_size,
        with_names=sort_into is not None,
    )
    showcase = ShowcasePlan(
        num_of_group(context.settings.report, len(categories)),
        context.settings.report.thumbnail_side_px,
    )
    with _scratch(context) as scratch:
        _classify(context, frame, model, scratch, showcase, copies)
        groups = read_showcases(scratch, showcase.num_of_group)
        copied = read_copy_reports(scratch)
    landed = _landed(context)
    tally = Landed()
    try:
        write_csv(tally.counted(landed.toLocalIterator()), csv_file, top=conf.top)
    except OSError as error:
        raise IncompleteError(
            f"{csv_file}: the CSV could not be written ({error}), the table has all answers; make "
            "room there, or choose another place by classify.csv"
        ) from error
    galleries, unsure = galleries_of(context, groups)
    figures = PredictionFigures(
        run_id=context.run_id,
        model_id=context.model_id,
        made_at=datetime.now(UTC),
        min_probability=conf.min_probability,
        statuses=tally.statuses,
        categories=tally.categories,
        failures=tally.failures,
        galleries=galleries,
        unsure=unsure,
        version=context.written[t.PREDICTIONS.name],
        csv=csv_file,
        sorted_into=sort_into,
    )
    context.counts |= dict(tally.statuses)
    _print(context, tally, csv_file)
    num_bytes = write_page(page, predictions_page(figures))
    text = f"to look at: {page}, {num_bytes / 1e6:.1f} MB"
    context.console.print(text, highlight=False, soft_wrap=True)
    if sort_into is not None:
        write_not_sorted(sort_into, landed)
        _report_copies(context, sort_into, copied)


def _table_photos(context: JobContext, source: TableSource) -> DataFrame:
    if source.table is None:
        return read_source(context.spark, source)
    rows = drop_forgotten(context.read_table(source.table), context.forgotten_photos())
    return of_lake(rows, source, source.table)


def _classify(
    context: JobContext,
    frame: DataFrame,
    model: str,
    scratch: str,
    showcase: ShowcasePlan,
    copies: CopyPlan | None,
) -> None:
    """The photos' rows, in one commit."""
    conf, budgets = context.settings.classify, context.host_budgets()
    host = context.spark.conf.get("spark.driver.host", "127.0.0.1") or "127.0.0.1"
    slots = context.spark.sparkContext.defaultParallelism
    with (
        session_properties(context.spark, _SMALL_BATCHES),
        coordinator(host, budgets, slots, lambda photos, statuses, answered: None) as running,
    ):
        task = ClassifyTask(
            model=storage.absolute(model),
            run=ClassifyRun(
                run_id=context.run_id,
                model_id=context.model_id or "",
                top=conf.top,
                batch_size=conf.batch_size,
                transfers=conf.transfers_per_task,
                min_probability=conf.min_probability,
            ),
            limits=context.http_limits(),
            budgets=budgets,
            num_tasks=slots,
            max_pixels=context.settings.fetch.max_photo_pixels,
            coordinator=running.address,
            scratch=scratch,
            showcase=showcase,
            copies=copies,
        )
        context.lake.append(classify(frame, task), t.PREDICTIONS)
    context.written[t.PREDICTIONS.name] = context.lake.version(t.PREDICTIONS)


def _landed(context: JobContext) -> DataFrame:
    """The run's rows as the table has them."""
    rows = context.lake.read(t.PREDICTIONS, version=context.written[t.PREDICTIONS.name])
    return rows.where(F.col(t.RUN_ID) == context.run_id).orderBy(t.PATH)


@contextlib.contextmanager
def _scratch(context: JobContext) -> Iterator[str]:
    """A folder for what tasks tell beside their rows; those of killed runs go, too."""
    reports = storage.join(context.lake.root, REPORTS)
    for name in storage.names_in(reports):
        if name.startswith(_SCRATCH):
            storage.remove(storage.join(reports, name))
    scratch = storage.join(reports, _SCRATCH + context.run_id)
    try:
        yield scratch
    finally:
        storage.remove(scratch)


def _model(context: JobContext) -> tuple[str, str]:
    """The model's folder or file, and its id."""
    name = context.settings.classify.model
    if name.endswith(MODEL_ENDINGS) or "/" in name:
        return name, name
    model = find_model(context.lake.reader, context.settings.dataset.name, name)
    return model.folder, model.model_id


def _report_copies(context: JobContext, sort_into: str, copied: CopyReport) -> None:
    """Says what lies in the folders.

    Raises:
        IncompleteError: some photos do not.
    """
    context.counts["copied"] = copied.num_copied
    text = f"sorted into {sort_into}: {copied.num_copied:,} photos"
    context.console.print(text, highlight=False, soft_wrap=True)
    for path, reason in copied.failures[:_MAX_NAMED]:
        summary.warn(context.console, f"not copied: {path}: {reason}")
    if copied.num_failed:
        raise IncompleteError(
            f"--sort-into {sort_into}: {copied.num_failed:,} photos could not be copied, the first "
            f"{copied.failures[0][0]}: {copied.failures[0][1]}; the answers are in the table; once "
            "that is mended, the same command copies what is missing"
        )


def _print(context: JobContext, tally: Landed, csv_file: str) -> None:
    found = ", ".join(f"{status} {count:,}" for status, count in tally.statuses.most_common())
    table = Table()
    table.add_column("photo")
    table.add_column("category")
    table.add_column("probability", justify="right")
    for row in tally.first:
        name = row[t.PATH].rsplit("/", 1)[-1]
        if row[t.CATEGORY] is None:
            table.add_row(name, f"– {row[t.STATUS]}", "")
        else:
            mark = "? " if row[t.STATUS] == STATUS_UNSURE else ""
            table.add_row(name, mark + row[t.CATEGORY], f"{row[t.PROBABILITY]:.3f}")
    context.console.print(titled(f"{NAME}: {found}", table))
    context.console.print(f"all of them: {csv_file}", highlight=False, soft_wrap=True)


JOB = classify_job()
