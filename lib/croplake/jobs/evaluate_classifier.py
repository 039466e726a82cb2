"""Measures a model on a split of the snapshot it was trained from: examples → evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage, summary
from croplake import tables as t
from croplake.catalog.classes import read_classes
from croplake.catalog.picker import pick_classes
from croplake.conf import Settings
from croplake.errors import CroplakeError, InputDataError, SettingsError
from croplake.evaluation.answers import Counts
from croplake.evaluation.evaluated import Baseline, Comparison, Evaluated, evaluation_rows
from croplake.evaluation.intervals import (
    Interval,
    PhotoSums,
    mcnemar_p,
    percentile_interval,
    resample_top1,
)
from croplake.evaluation.mistakes import category_distances, measure_mistakes
from croplake.evaluation.picture import confusion_png
from croplake.evaluation.slices import with_slices
from croplake.evaluation.summary import signed_points, summarize, summarize_comparison
from croplake.inference.examples import FIRST, SECOND
from croplake.inference.scoring import check_labels, count_pairs, measure, score, sum_photos
from croplake.inference.table_source import drop_forgotten
from croplake.jobs.context import Job, JobContext
from croplake.jobs.embed_crops import recipe_of_examples
from croplake.jobs.evaluate_pictures import mistake_pictures
from croplake.jobs.evaluated_models import Chosen, choose_models, page_name, tell_of_leaks
from croplake.jobs.pages import REPORTS, check_place, write_page
from croplake.jobs.probe_baseline import SameExamples, probe_baseline
from croplake.lake import Lake
from croplake.report.evaluation import EvaluationFigures
from croplake.report.evaluation_page import evaluation_page
from croplake.tables import Table


def run(context: JobContext) -> None:
    """`examples` of the model's version → `evaluations`, a page, a picture beside the model.

    Raises:
        InputDataError: there is nothing to measure, or nothing to measure it on.
        SettingsError: the page cannot go where it should.
        IncompleteError: the page could not be written; the table has the figures.
    """
    conf = context.settings.evaluate
    first, second = choose_models(context.lake, context.settings)
    name = page_name(first, second, conf.split)
    out = context.out or storage.join(context.lake.root, REPORTS, name)
    check_place(out)
    context.model_id = first.model_id
    examples = _examples(context, first)
    check_labels(examples, first.categories)
    notes = list(tell_of_leaks(context, examples, first, second))
    folders = second.folders if second else None
    scores = score(examples, first.folders, folders, conf.batch_size)
    # The models are asked once; what is kept of an example is a few numbers.
    answers = _sliced(context, scores, examples, first, notes).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        distances = _distances(context, first, notes)
        evaluated = _evaluate(context, answers, FIRST, first, distances)
        comparison = None
        if second is not None:
            other = _evaluate(context, answers, SECOND, second, distances)
            comparison = _compare(context, answers, evaluated, other)
        pictures = mistake_pictures(
            examples, answers, first.categories, conf, is_compared=second is not None
        )
    finally:
        answers.unpersist()
    _write_rows(context, evaluated, comparison, first.dataset)
    same = SameExamples(context.lake.reader, first.dataset, first.version)
    baseline = probe_baseline(same, conf.split)
    title = f"{first.model_id}, {conf.split}"
    png = confusion_png(evaluated.metrics, title=title)
    figures = EvaluationFigures(
        dataset=first.dataset,
        split=conf.split,
        made_at=datetime.now(UTC),
        versions=context.read,
        evaluated=evaluated,
        comparison=comparison,
        baseline=baseline,
        history=None if first.members else _history(first.folders[0]),
        confusion_png=png,
        notes=notes,
        **pictures,
    )
    _print(context, evaluated, comparison, title)
    if baseline is not None:
        _print_baseline(context, baseline, evaluated.metrics.top1)
    for note in notes:
        summary.warn(context.console, note)
    num_bytes = write_page(out, evaluation_page(figures))
    text = f"page: {out}, {num_bytes / 1e6:.1f} MB"
    context.console.print(text, highlight=False, soft_wrap=True)
    if not first.members:
        _write_picture(context, storage.join(first.folders[0], f"confusion_{conf.split}.png"), png)
    context.console.print(f"{conf.split} top-1: {evaluated.metrics.top1:.2%}", highlight=False)


def _write_picture(context: JobContext, picture: str, png: bytes) -> None:
    """The confusion matrix, which the page has, too, beside the model, which may be another's."""
    try:
        storage.write_bytes(picture, png)
    except OSError as error:
        summary.warn(context.console, f"confusion matrix: {picture} cannot be written: {error}")
    else:
        context.console.print(f"confusion matrix: {picture}", highlight=False, soft_wrap=True)


def _examples(context: JobContext, first: Chosen) -> DataFrame:
    """The split, of the first model's own snapshot.

    A later build of the dataset may have put the photos of its training elsewhere.

    Raises:
        InputDataError: the split is empty, or files of it were removed; the text names the way out.
    """
    split, version = context.settings.evaluate.split, first.version
    partition = {t.DATASET: first.dataset, t.SPLIT: split}
    lost = context.lake.reader.lost_files(t.EXAMPLES.name, version=version, partition=partition)
    if lost:
        raise InputDataError(
            f"model {first.runs[0][t.MODEL_ID]}: {len(lost)} files of the {split} split it was "
            f"trained beside (examples version {version}) are gone, as when photos in them were "
            "forgotten; train again (croplake train-classifier), and evaluate the new model"
        )
    of_split = context.read_table(t.EXAMPLES, version=version).where(
        (F.col(t.DATASET) == first.dataset) & (F.col(t.SPLIT) == split)
    )
    # An old version has forgotten photos until `lake maintain` takes its files away.
    examples = drop_forgotten(of_split, context.forgotten_photos())
    if examples.isEmpty():
        raise InputDataError(
            f"dataset {first.dataset}: its {split} split is empty, there is nothing to "
            "measure on; choose evaluate.split, or a dataset with such a split"
        )
    return examples


def _sliced(
    context: JobContext, scores: DataFrame, examples: DataFrame, first: Chosen, notes: list[str]
) -> DataFrame:
    """The answers with the slices that the lake knows enough for; the others are noted."""
    crops = boxes = None
    if t.CROPS.name in context.pinned:
        try:
            recipe_id = recipe_of_examples(context, examples, first.dataset)
            crops = context.read_table(t.CROPS).where(F.col(t.RECIPE_ID) == recipe_id)
        except InputDataError as error:
            notes.append(f"slices by the photo's source are left out: {error}")
    else:
        notes.append(f"slices by the photo's source are left out: {_lacks(t.CROPS)}")
    if t.BOXES.name in context.pinned:
        boxes = context.scan_table(t.BOXES)
    else:
        notes.append(f"slices by the box's source are left out: {_lacks(t.BOXES)}")
    return with_slices(scores, crops, boxes)


def _distances(context: JobContext, first: Chosen, notes: list[str]) -> Counts | None:
    """Steps in the class hierarchy between any two categories; None where they are not known."""
    settings = first.settings
    if t.CLASSES.name not in context.pinned or settings is None:
        old = "the settings of the model's training are of another croplake"
        why = old if t.CLASSES.name in context.pinned else _lacks(t.CLASSES)
        notes.append(f"distances of mistakes are left out: {why}")
        return None
    classes = read_classes(context.read_rows(t.CLASSES))
    mids_of: dict[str, list[str]] = {}
    try:
        for mid, category in pick_classes(settings.dataset.choice, classes).items():
            mids_of.setdefault(category, []).append(mid)
    except SettingsError as error:
        notes.append(f"distances of mistakes are left out: the catalog has changed ({error})")
        return None
    return category_distances(classes, mids_of, first.categories)


def _lacks(table: Table) -> str:
    return f"the lake has no table {table.name}"


def _evaluate(
    context: JobContext,
    answers: DataFrame,
    whose: str,
    chosen: Chosen,
    distances: Counts | None,
) -> Evaluated:
    slices = measure(answers, whose, chosen.categories)
    metrics = slices.pop("")
    return Evaluated(
        model_id=chosen.model_id,
        metrics=metrics,
        interval=_interval(context, sum_photos(answers, whose)),
        slices=slices,
        mistakes=None if distances is None else measure_mistakes(metrics.confusion, distances),
        members=chosen.members,
    )


def _compare(
    context: JobContext, answers: DataFrame, first: Evaluated, second: Evaluated
) -> Comparison:
    pairs = count_pairs(answers)
    return Comparison(
        first=first,
        second=second,
        num_both=pairs.both,
        num_only_first=pairs.only_first,
        num_only_second=pairs.only_second,
        num_neither=pairs.neither,
        interval=_interval(context, sum_photos(answers, FIRST, SECOND)),
        p_value=mcnemar_p(pairs.only_first, pairs.only_second),
    )


def _interval(context: JobContext, sums: PhotoSums | None) -> Interval:
    """Of top-1, or of two classifiers' difference; not known where there is no example."""
    if sums is None:
        return Interval(float("nan"), float("nan"))
    conf = context.settings.evaluate
    top1 = resample_top1(sums, resamples=conf.resamples, seed=conf.seed)
    return percentile_interval(top1[:, 0] - top1[:, 1] if top1.shape[1] == 2 else top1[:, 0])


def _write_rows(
    context: JobContext, evaluated: Evaluated, comparison: Comparison | None, dataset: str
) -> None:
    split = context.settings.evaluate.split
    figures = {evaluated.model_id: [*evaluated.figures()]}
    if comparison is not None:
        figures[evaluated.model_id] += comparison.figures()
        figures[comparison.second.model_id] = [*comparison.second.figures()]
    rows = [
        row
        for model_id, found in figures.items()
        for row in evaluation_rows(found, context.run_id, model_id, dataset, split)
    ]
    context.lake.add_rows(rows, t.EVALUATIONS)
    context.written[t.EVALUATIONS.name] = context.lake.version(t.EVALUATIONS)
    context.counts["examples"] = evaluated.metrics.num_examples


def _history(folder: str) -> list[Mapping[str, float]] | None:
    """What training recorded of each epoch; None where nothing can be read."""
    try:
        found = json.loads(storage.read_bytes(storage.join(folder, "history.json")))
    except (OSError, ValueError):
        return None
    is_history = isinstance(found, list) and all(isinstance(record, dict) for record in found)
    return found if is_history else None


def _print(
    context: JobContext, evaluated: Evaluated, comparison: Comparison | None, title: str
) -> None:
    context.console.print(summarize(evaluated, title=f"evaluate_classifier: {title}"))
    if comparison is not None:
        context.console.print(summarize_comparison(comparison))


def _print_baseline(context: JobContext, baseline: Baseline, top1: float) -> None:
    text = (
        f"baseline, linear on {baseline.network}: {context.settings.evaluate.split} top-1 "
        f"{baseline.top1:.2%} (the model: {signed_points(top1 - baseline.top1)} points)"
    )
    context.console.print(text, highlight=False, soft_wrap=True)


def _models_of(lake: Lake, settings: Settings) -> Any:  # noqa: ANN401  # JSON
    """The models that would be asked: `latest` is another one once a folder is gone."""
    try:
        first, second = choose_models(lake, settings)
    except CroplakeError:
        return None
    return [first.model_id, second.model_id if second else None]


JOB = Job(
    name="evaluate_classifier",
    run=run,
    writes=(t.EVALUATIONS,),
    reads=(t.CLASSES, t.BOXES, t.CROPS),
    follows=("train_classifier",),
    conf_of=lambda settings: settings.evaluate,
    state_of=_models_of,
)
