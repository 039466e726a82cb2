"""Judges every annotated box of a dataset's classes: boxes → selected_boxes."""

from __future__ import annotations

from croplake import summary
from croplake import tables as t
from croplake.catalog.classes import ClassEntry
from croplake.catalog.picker import pick_classes
from croplake.errors import InputDataError
from croplake.jobs.context import Job, JobContext, settings_hash
from croplake.selection.rules import judge_boxes, select_classes


def chosen_categories(context: JobContext) -> dict[str, str]:
    """The dataset's classes: MID to category, sorted by category.

    Raises:
        SettingsError: the spec names a class that is not there.
        InputDataError: no catalog yet.
    """
    rows = context.read_table(t.CLASSES).collect()
    counts = (t.NUM_BOXES_TRAIN, t.NUM_BOXES_VALIDATION, t.NUM_BOXES_TEST)
    classes = [
        ClassEntry(
            mid=row[t.LABEL_MID],
            name=row[t.CLASS_NAME],
            parent_mids=tuple(row[t.PARENT_MIDS]),
            num_boxes=sum(row[count] for count in counts),
        )
        for row in rows
    ]
    return pick_classes(context.settings.dataset.classes, classes)


def run(context: JobContext) -> None:
    """`boxes` → `selected_boxes` of the dataset."""
    spec = context.settings.dataset
    categories = chosen_categories(context)
    boxes = context.read_table(t.BOXES)
    judged = boxes.transform(select_classes, categories).transform(
        judge_boxes, spec, context.forgotten_photos()
    )
    of_dataset = f"{t.DATASET} = '{spec.name}'"
    version = context.lake.replace(
        judged,
        t.SELECTED_BOXES,
        where=of_dataset,
        metadata={"dataset": spec.name, "spec_hash": settings_hash(JOB, context.settings, {})},
    )
    context.written[t.SELECTED_BOXES.name] = version
    landed = context.lake.read(t.SELECTED_BOXES, version=version).where(of_dataset)
    by_reason = landed.groupBy(t.CATEGORY, t.REJECT_REASON).count().collect()
    cells = {(row[t.CATEGORY], row[t.REJECT_REASON] or "kept"): row["count"] for row in by_reason}
    for (_, reason), count in cells.items():
        context.counts[reason] = context.counts.get(reason, 0) + count
    summary.print_crosstab(context.console, "select_boxes: boxes", "category", cells, first="kept")
    if not context.counts.get("kept"):
        raise InputDataError(
            f"dataset {spec.name}: no box is left ({context.counts or 'the classes have none'}); "
            "loosen its rules"
        )
    _warn_of_bare_categories(context, set(categories.values()), cells)


def _warn_of_bare_categories(
    context: JobContext, categories: set[str], cells: dict[tuple[str, str], int]
) -> None:
    bare = sorted(categories - {category for category, reason in cells if reason == "kept"})
    if bare:
        context.console.print(f"[yellow]no box is kept of: {', '.join(bare)}")


JOB = Job(
    name="select_boxes",
    run=run,
    writes=(t.SELECTED_BOXES,),
    reads=(t.CLASSES, t.BOXES, t.FORGOTTEN_PHOTOS),
    follows=("ingest_catalog",),
    conf_of=lambda settings: settings.dataset.model_dump(
        mode="json", exclude={"min_crop_side_px", "split", "hash_shares", "on_missing_split"}
    ),
)
