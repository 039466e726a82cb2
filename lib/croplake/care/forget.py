"""Forgetting photos: a person asked for theirs to go, and never to be fetched again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from markupsafe import escape
from pyspark.sql import Row

from croplake import storage, summary
from croplake import tables as t
from croplake.care.exports import exports_that_may_show
from croplake.care.losses import note_losses
from croplake.care.pins import find_readers
from croplake.care.vacuum import TABLES_WITH_BYTES, VacuumPlan, plan_vacuum, vacuum
from croplake.errors import IncompleteError, SettingsError
from croplake.examples.layout import read_layout, writer_properties
from croplake.inference.csv_out import PREDICTIONS_CSV, drop_rows
from croplake.inference.neighbour_index import drop_indexes
from croplake.jobs.context import Job, JobContext
from croplake.jobs.pages import REPORTS
from croplake.selection.rules import FORGOTTEN
from croplake.session import session_properties
from croplake.tables import Table

_IMAGE_ID: Final = re.compile(r"[0-9a-f]{16}")


def forget_job(image_ids: Sequence[str], *, at_once: bool = False) -> Job:
    """Forgetting of photos as a run.

    What derives from a photo, and what becomes of it:

    - `crops`, `examples`, `embeddings`, `near_duplicates`: its rows go, whatever recipe, dataset or
      network; their bytes go with the next `lake maintain` (or `at_once`), out of versions that
      models were trained on, too.
    - `selected_boxes`: its boxes stay as rows, with the reject reason `forgotten`, so that every
      box is still accounted for; `select_boxes` gives them that reason from now on.
    - Indexes that `find_similar` keeps on this machine for the lake are removed; on others they are
      made anew, without it, before the next answer.
    - Pages in the lake's `reports` folder that show the photo, or name its id or an address that
      the catalog has of it, are removed; they can be made anew. Those that were written elsewhere
      are not known.
    - Exports that show it are named, as far as `runs` knows of them, and so are those of which the
      lake cannot tell any more; their files are the user's.
    - `forgotten_photos` holds the ids, so that `fetch_crops` never asks for them again.
    - The catalog (`photos`, `boxes`) stays: it is a copy of lists that others publish, and would be
      back with the next `ingest_catalog`.
    - `evaluations` are counts over a whole split, from which no photo can be told; they stay.
    - `predictions`, and their CSVs in the lake: rows whose path has the photo's id in it, or is the
      photo's address, go. What else the lake's user had classified is known by its path alone, and
      stays; so do the copies of `--sort-into`, which are the user's.
    - A model keeps what it has learned: only training anew makes it forget. Those that were trained
      on the photo are named.

    Args:
        image_ids: of Open Images, 16 hexadecimal digits each, in any case.
        at_once: removes the files with their bytes in the same run.

    Raises:
        SettingsError: what is given is no image id; the text names all that are not.
    """
    ids = sorted({image_id.lower() for image_id in image_ids})
    wrong = [image_id for image_id in ids if not _IMAGE_ID.fullmatch(image_id)]
    if wrong:
        raise SettingsError(
            f"not an image id: {', '.join(map(repr, wrong))}; an id of Open Images is 16 "
            "hexadecimal digits, e.g. 000a1249af2bc5f0; nothing was done"
        )
    return Job(
        name="forget",
        run=partial(_forget, image_ids=ids, at_once=at_once),
        writes=(
            t.FORGOTTEN_PHOTOS,
            t.SELECTED_BOXES,
            t.NEAR_DUPLICATES,
            t.EMBEDDINGS,
            t.EXAMPLES,
            t.CROPS,
            t.PREDICTIONS,
        ),
        conf_of=lambda settings: ids,
        of_dataset=False,
    )


def _forget(context: JobContext, *, image_ids: list[str], at_once: bool) -> None:
    """Each step is a commit of its own; the first alone keeps the photos from being fetched.

    A run that breaks off is mended by the same command again.
    """
    _note(context, image_ids)
    is_theirs = f"{t.IMAGE_ID} IN ({', '.join(map(repr, image_ids))})"
    known = _known(context, is_theirs)
    if context.lake.exists(t.SELECTED_BOXES):
        not_yet = f"{is_theirs} AND {t.REJECT_REASON} IS DISTINCT FROM '{FORGOTTEN}'"
        _count(context, t.SELECTED_BOXES, not_yet)
        if context.counts[t.SELECTED_BOXES.name]:
            context.lake.update(t.SELECTED_BOXES, not_yet, {t.REJECT_REASON: f"'{FORGOTTEN}'"})
            context.written[t.SELECTED_BOXES.name] = context.lake.version(t.SELECTED_BOXES)
    for table in (t.NEAR_DUPLICATES, t.EMBEDDINGS, t.EXAMPLES, t.CROPS):
        if context.lake.exists(table):
            _delete(context, table, is_theirs)
    addresses = _addresses(context, is_theirs)
    _forget_predictions(context, [*image_ids, *_of_files(addresses)])
    summary.print_counts(context.console, "forget: rows", context.counts)
    unknown = [image_id for image_id in image_ids if image_id not in known]
    if unknown:
        context.console.print(
            f"not in the lake, noted all the same: {', '.join(unknown)}", soft_wrap=True
        )
    landing_urls = [row[t.LANDING_URL] for row in addresses if row[t.LANDING_URL]]
    _remove_pages(context, [*image_ids, *_of_files(addresses)], landing_urls)
    drop_indexes(context.lake.path(t.EMBEDDINGS))
    _name_exports(context, is_theirs)
    _settle_bytes(context, frozenset(image_ids), at_once=at_once)


def _addresses(context: JobContext, is_theirs: str) -> list[Row]:
    """Where the photos are on the web, as far as the catalog knows."""
    if not context.lake.exists(t.PHOTOS):
        return []
    theirs = context.lake.scan(t.PHOTOS).where(is_theirs)
    return theirs.select(t.ORIGINAL_URL, t.THUMBNAIL_URL, t.LANDING_URL).collect()


def _of_files(addresses: Iterable[Row]) -> list[str]:
    """The addresses of the photos themselves, without those of pages about them."""
    return [
        row[name] for row in addresses for name in (t.ORIGINAL_URL, t.THUMBNAIL_URL) if row[name]
    ]


def _forget_predictions(context: JobContext, marks: Sequence[str]) -> None:
    """Answers about the photos, in the table and in its CSVs: a path has a mark of theirs."""
    if not context.lake.exists(t.PREDICTIONS):
        return
    quoted = ", ".join(
        "'{}'".format(mark.replace("\\", "\\\\").replace("'", "\\'")) for mark in marks
    )
    _delete(context, t.PREDICTIONS, f"exists(array({quoted}), mark -> contains({t.PATH}, mark))")
    for file in storage.list_files(storage.join(context.lake.root, PREDICTIONS_CSV)):
        # What grew when its writer was killed may end in the middle of a letter.
        if storage.is_part(file):
            storage.remove(file)
        elif drop_rows(file, marks):
            context.console.print(f"rows removed, they were theirs: {file}", soft_wrap=True)


def _remove_pages(context: JobContext, marks: Iterable[str], landing_urls: Iterable[str]) -> None:
    """A page names each crop's photo by its id; what it was asked about, as it was given."""
    patterns = [re.escape(str(escape(mark))) for mark in marks]
    # `…/photos/ann/12` is another photo than `…/photos/ann/1`.
    patterns += [re.escape(str(escape(url))) + r"(?!\w)" for url in landing_urls]
    # One by one: such an expression is looked for as fast as a text is, one of all of them is not.
    compiled = [re.compile(pattern.encode()) for pattern in patterns]
    for page in storage.list_files(storage.join(context.lake.root, REPORTS)):
        content = storage.read_bytes(page)
        if any(pattern.search(content) for pattern in compiled):
            storage.remove(page)
            context.console.print(f"page removed, it showed them: {page}", soft_wrap=True)


def _name_exports(context: JobContext, is_theirs: str) -> None:
    """Says which exports may show them; those files are the user's."""
    for export in exports_that_may_show(context.lake, is_theirs):
        summary.warn(context.console, f"was exported, may show them, is yours to remove: {export}")


def _note(context: JobContext, image_ids: Iterable[str]) -> None:
    before = context.forgotten_ids()
    now = datetime.now(UTC)
    rows = [
        {t.IMAGE_ID: image_id, t.FORGOTTEN_AT: now, t.RUN_ID: context.run_id}
        for image_id in image_ids
        if image_id not in before
    ]
    context.counts["photos noted"] = len(rows)
    if rows:
        context.lake.add_rows(rows, t.FORGOTTEN_PHOTOS)
        context.written[t.FORGOTTEN_PHOTOS.name] = context.lake.version(t.FORGOTTEN_PHOTOS)


def _known(context: JobContext, is_theirs: str) -> set[str]:
    """Which of the photos the lake has ever heard of."""
    known: set[str] = set()
    for table in (t.PHOTOS, t.SELECTED_BOXES, t.CROPS, t.EXAMPLES):
        if context.lake.exists(table):
            found = context.lake.read(table).where(is_theirs).select(t.IMAGE_ID).distinct()
            known |= {row[t.IMAGE_ID] for row in found.collect()}
    return known


def _count(context: JobContext, table: Table, where: str) -> None:
    context.counts[table.name] = context.lake.read(table).where(where).count()


def _delete(context: JobContext, table: Table, is_theirs: str) -> None:
    _count(context, table, is_theirs)
    if not context.counts[table.name]:
        return
    if table is t.EXAMPLES:
        _delete_examples(context, is_theirs)
    else:
        context.lake.delete(table, is_theirs)
    context.written[table.name] = context.lake.version(table)


def _delete_examples(context: JobContext, is_theirs: str) -> None:
    """Shards that lose a row keep row groups of the size they had, for the workers to share out."""
    theirs = context.lake.read(t.EXAMPLES).where(is_theirs)
    datasets = [row[t.DATASET] for row in theirs.select(t.DATASET).distinct().collect()]
    for dataset in sorted(datasets):
        of_train = {t.DATASET: dataset, t.SPLIT: "train"}
        files = context.lake.reader.files(t.EXAMPLES.name, partition=of_train)
        largest = read_layout(files).largest_row_group_bytes
        limit = largest or context.settings.examples.row_group_bytes
        with session_properties(context.spark, writer_properties(limit)):
            context.lake.delete(t.EXAMPLES, f"{t.DATASET} = '{dataset}' AND {is_theirs}")


def _settle_bytes(context: JobContext, image_ids: frozenset[str], *, at_once: bool) -> None:
    """Removes what still holds bytes of the photos, or says when that will be.

    Raises:
        IncompleteError: a running job still reads some of it.
    """
    pins = find_readers(context.lake)
    waiting, num_files = [], 0
    for table in TABLES_WITH_BYTES:
        if not context.lake.exists(table):
            continue
        hours = context.settings.maintain.retention_hours
        plan = plan_vacuum(
            context.spark,
            context.lake,
            table,
            pins.of(table),
            retention_hours=hours,
            image_ids=image_ids,
        )
        only_theirs = VacuumPlan(forgotten=plan.forgotten)
        if at_once:
            gone = vacuum(context.spark, context.lake, table, only_theirs, retention_hours=hours)
            note_losses(context.lake, plan.losing)
            context.counts[f"{table.name}: files removed"] = len(gone)
        num_files += len(plan.forgotten)
        waiting += [f"{table.name} version {pin.version}, {pin.reader}" for pin in plan.waiting]
        for pin in plan.losing:
            summary.warn(
                context.console,
                f"{pin.reader} was trained on {table.name} version {pin.version}, which "
                f"{'has lost' if at_once else 'will lose'} files; train anew to make it forget",
            )
    if at_once:
        context.console.print(f"files with their bytes, removed: {num_files:,}", highlight=False)
    else:
        context.console.print(
            f"files that still hold their bytes: {num_files:,}; they go with the next croplake "
            "lake maintain (or now: the same command with --vacuum)",
            highlight=False,
            soft_wrap=True,
        )
    if at_once and waiting:
        raise IncompleteError(
            f"files stay while a job reads them: {'; '.join(waiting)}; run croplake lake maintain "
            "when it has ended"
        )
