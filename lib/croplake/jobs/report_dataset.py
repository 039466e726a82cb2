"""Writes a page about a dataset: its boxes, its crops, its examples; a look, it writes no table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.fetching.crop import Recipe
from croplake.jobs import build_examples
from croplake.jobs.context import JobContext, latest_runs
from croplake.jobs.fetch_plan import recipe_of
from croplake.jobs.near_duplicates import UNCOMPARED
from croplake.jobs.pages import REPORTS, check_place, write_page
from croplake.jobs.report_crops import (
    duplicates_of,
    galleries_of,
    gallery_crops,
    read_crops,
)
from croplake.jobs.select_boxes import dataset_labels
from croplake.lake import spark_schema
from croplake.report import measures as m
from croplake.report.charts import Bins
from croplake.report.dataset import (
    ASPECT_RATIOS,
    NO_SOURCE,
    SIDES_FRAC,
    SIDES_PX,
    Author,
    CategoryFigures,
    CreditFigures,
    DatasetFigures,
    FetchFigures,
)
from croplake.report.dataset_page import dataset_page
from croplake.tables import Table

_READS: Final = (
    t.CLASSES,
    t.PHOTOS,
    t.SELECTED_BOXES,
    t.CROPS,
    t.NEAR_DUPLICATES,
    t.EXAMPLES,
)
_MAX_LICENCES: Final = 20
_MAX_AUTHORS: Final = 10


def run(context: JobContext) -> None:
    """All that the lake has of the dataset → one HTML file.

    Raises:
        SettingsError: the page cannot go where it should, or the spec names an unknown class.
        InputDataError: no box of the dataset has been judged yet.
        IncompleteError: the page could not be written.
    """
    dataset, lake = context.settings.dataset.name, context.lake
    out = context.out or storage.join(lake.root, REPORTS, f"{dataset}.html")
    check_place(out)
    context.pinned = {table.name: lake.version(table) for table in _READS if lake.exists(table)}
    num_bytes = write_page(out, dataset_page(_measure(context)))
    text = f"report_dataset: {out}, {num_bytes / 1e6:.1f} MB"
    context.console.print(text, highlight=False, soft_wrap=True)


def _measure(context: JobContext) -> DatasetFigures:
    made_at, recipe = datetime.now(UTC), recipe_of(context.settings.fetch)
    selected = _of_dataset(context, context.read_table(t.SELECTED_BOXES))
    boxes = m.count_by(selected, t.CATEGORY, t.SUBSET, t.REJECT_REASON).collect()
    if not boxes:
        raise InputDataError(
            f"{context.lake.root}: selected_boxes has no box of dataset "
            f"{context.settings.dataset.name}; select_boxes judges them, or it has another name"
        )
    kept = selected.where(F.col(t.REJECT_REASON).isNull())
    built = _of_dataset(context, _rows(context, t.EXAMPLES))
    examples = m.count_by(built, t.CATEGORY, t.SPLIT, t.REJECT_REASON).collect()
    labels = dataset_labels(context) if t.CLASSES.name in context.pinned else []
    near_duplicates = _of_dataset(context, _rows(context, t.NEAR_DUPLICATES))
    tallied = m.tally_boxes(kept).collect()
    num_photos = kept.select(t.IMAGE_ID).distinct().count()
    fates = m.box_fates(kept, _crops(context), recipe.recipe_id).cache()
    try:
        tried = fates.where(F.col(t.HAS_CROP).isNotNull())
        tries = m.count_by(tried, t.CATEGORY, t.HAS_CROP, t.SOURCE, t.STATUS).collect()
        fetched = _fetched(tries, fates) if tries else None
        of_categories = gallery_crops(context, fates)
        of_groups = m.choose_duplicates(near_duplicates, fates).collect()
    finally:
        fates.unpersist()
    crops = read_crops(context, [*of_categories, *of_groups])
    uncompared = _uncompared(context)
    duplicates = duplicates_of(near_duplicates, of_groups, crops, uncompared or {})
    return DatasetFigures(
        dataset=context.settings.dataset.name,
        made_at=made_at,
        versions=context.pinned,
        recipe=_in_words(recipe),
        categories=_categories(labels, boxes, tries, examples),
        num_photos=num_photos,
        box_rejects=_sums(boxes, t.REJECT_REASON),
        sides_frac=_in_bins(tallied, m.SIDE_FRAC, SIDES_FRAC),
        flags={
            (row[m.WHAT], row[t.VALUE]): row[m.NUM] for row in tallied if row[m.WHAT] in t.FLAGS
        },
        fetched=fetched,
        examples=_sums(examples, t.SPLIT) if examples else None,
        example_rejects=_sums(examples, t.REJECT_REASON),
        credit=_credit(context, kept, num_photos),
        duplicates=duplicates if duplicates.num_groups or uncompared is not None else None,
        galleries=galleries_of(of_categories, crops, context.settings.report.gallery_bytes),
    )


def _rows(context: JobContext, table: Table) -> DataFrame:
    """A table's rows; none where it has not been written yet."""
    if table.name in context.pinned:
        return context.read_table(table)
    return context.spark.createDataFrame([], spark_schema(table.schema))


def _crops(context: JobContext) -> DataFrame:
    """Rows of `crops`, each with the key of the file it lies in."""
    name = F.col("_metadata.file_name") if t.CROPS.name in context.pinned else F.lit(None)
    return _rows(context, t.CROPS).withColumn(m.FILE_KEY, m.key_of_file(name))


def _of_dataset(context: JobContext, rows: DataFrame) -> DataFrame:
    return rows.where(F.col(t.DATASET) == context.settings.dataset.name)


def _sums(rows: Iterable[Row], column: str) -> dict[str, int]:
    """Counted rows by a column's values, without those where it is null."""
    sums = Counter[str]()
    for row in rows:
        if row[column] is not None:
            sums[row[column]] += row[m.NUM]
    return dict(sums)


def _in_bins(tallied: list[Row], what: str, bins: Bins) -> list[int]:
    counts = {row[t.VALUE]: row[m.NUM] for row in tallied if row[m.WHAT] == what}
    return [counts.get(place, 0) for place in range(len(bins.edges) + 1)]


def _fetched(tries: list[Row], fates: DataFrame) -> FetchFigures:
    tallied = m.tally_crops(fates).collect()
    failures = Counter[tuple[str, str]]()
    for row in tries:
        if not row[t.HAS_CROP]:
            failures[row[t.SOURCE] or NO_SOURCE, row[t.STATUS]] += row[m.NUM]
    return FetchFigures(
        num_crops=sum(row[m.NUM] for row in tries if row[t.HAS_CROP]),
        failures=failures,
        sides_px=_in_bins(tallied, m.SIDE_PX, SIDES_PX),
        aspect_ratios=_in_bins(tallied, m.ASPECT_RATIO, ASPECT_RATIOS),
    )


def _uncompared(context: JobContext) -> dict[str, int] | None:
    """What the dataset's last build left out where it looked for near-duplicates.

    Returns:
        In words, to how many; None where nobody has looked.
    """
    if t.NEAR_DUPLICATES.name not in context.pinned:
        return None
    last = latest_runs(context.lake, context.settings, (build_examples.JOB,))
    if build_examples.JOB.name not in last:
        return None
    build = last[build_examples.JOB.name]
    if json.loads(build[t.SETTINGS])["dataset"]["near_duplicates"]["rule"] != "reject":
        return None
    counts = dict(build[t.COUNTS])
    return {what: counts[what] for what in UNCOMPARED if what in counts}


def _categories(
    labels: list[str], boxes: list[Row], tries: list[Row], examples: list[Row]
) -> list[CategoryFigures]:
    """Every category that the dataset has a label or a box of."""
    kept: dict[str, Counter[str]] = {label: Counter() for label in labels}
    kept |= {row[t.CATEGORY]: Counter() for row in boxes}
    for row in boxes:
        if row[t.REJECT_REASON] is None:
            kept[row[t.CATEGORY]][row[t.SUBSET]] += row[m.NUM]
    rejected = _sums((row for row in boxes if row[t.REJECT_REASON] is not None), t.CATEGORY)
    crops = _sums((row for row in tries if row[t.HAS_CROP]), t.CATEGORY)
    in_splits = _sums((row for row in examples if row[t.REJECT_REASON] is None), t.CATEGORY)
    return [
        CategoryFigures(
            name=name,
            num_kept=kept[name],
            num_rejected=rejected.get(name, 0),
            num_crops=crops.get(name, 0),
            num_examples=in_splits.get(name, 0),
        )
        for name in sorted(kept)
    ]


def _credit(context: JobContext, kept: DataFrame, num_photos: int) -> CreditFigures | None:
    if t.PHOTOS.name not in context.pinned:
        return None
    credit = m.credits_of(kept, context.scan_table(t.PHOTOS))
    licences = m.count_by(credit, t.LICENSE).orderBy(F.desc(m.NUM), t.LICENSE)
    most = {row[t.LICENSE]: row[m.NUM] for row in licences.limit(_MAX_LICENCES).collect()}
    authors = m.count_authors(credit)
    first = authors.orderBy(F.desc(m.NUM), t.AUTHOR, t.AUTHOR_URL).limit(_MAX_AUTHORS)
    return CreditFigures(
        licences=most,
        num_other_licences=num_photos - sum(most.values()),
        num_authors=authors.count(),
        authors=[Author(row[t.AUTHOR], row[t.AUTHOR_URL], row[m.NUM]) for row in first.collect()],
    )


def _in_words(recipe: Recipe) -> str:
    return (
        f"recipe {recipe.recipe_id}, with a margin of {recipe.padding_frac:g}, at most "
        f"{recipe.max_side_px} px, JPEG quality {recipe.jpeg_quality}, resampled by "
        f"{recipe.resampler}"
    )
