"""Looks for the crops that are most like a photo: embeddings → one HTML page; writes no table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.dataset as pads
from pyspark.sql import Row
from pyspark.sql import functions as F  # noqa: N812
from rich.table import Table

from croplake import storage, summary
from croplake import tables as t
from croplake.errors import InputDataError, SettingsError
from croplake.inference.listing import is_address
from croplake.inference.neighbour_index import open_index
from croplake.inference.neighbours import ExactSearch, Neighbour, Search, find_nearest
from croplake.inference.vectors import StoredVectors, find_networks
from croplake.jobs.context import JobContext
from croplake.jobs.pages import REPORTS, check_place, write_page
from croplake.jobs.report_crops import read_crops
from croplake.jobs.similar_photo import Asked, ask
from croplake.report.credit import licence_name, readable
from croplake.report.gallery import GalleryCrop
from croplake.report.measures import FILE_KEY, key_of_file
from croplake.report.similar_page import AskedPhoto, FoundCrop, SimilarFigures, similar_page
from croplake.summary import titled

MOST: Final = 1000
"""Crops that a page may show."""

_READS: Final = (t.EMBEDDINGS, t.CROPS, t.EXAMPLES, t.CLASSES)
_SHOWN: Final = 20


def run(context: JobContext, *, photo: str, top: int, dataset: str | None = None) -> None:
    """A photo, and the embeddings of the lake → one HTML file.

    Args:
        context: of the look.
        photo: path, address or `box_id`.
        top: how many crops.
        dataset: only examples of this one; None is all crops.

    Raises:
        SettingsError: a wrong argument, or the page cannot go where it should.
        InputDataError: there are no embeddings, or it is no photo.
        IncompleteError: its host does not give it now, or the page could not be written.
    """
    lake = context.lake
    if not 1 <= top <= MOST:
        raise SettingsError(f"--top {top}: expected a number from 1 to {MOST}")
    out = context.out or storage.join(lake.root, REPORTS, _page_name(photo))
    check_place(out)
    context.pinned = {table.name: lake.version(table) for table in _READS if lake.exists(table)}
    stored = _stored(context)
    asked = ask(context, photo, stored)
    wanted = pads.field(t.BOX_ID) != photo
    wanted &= ~pads.field(t.IMAGE_ID).isin(pa.array(sorted(context.forgotten_ids()), pa.string()))
    if dataset is not None:
        wanted &= pads.field(t.BOX_ID).isin(_members(context, dataset))
    search, is_exact = _search(context, stored, len(asked.vector), wanted)
    nearest = find_nearest(search, asked.vector, top)
    crops = _crops(context, nearest, dataset)
    asked_photo = _asked_photo(context, asked)
    # Asked again: somebody may have been told to forget one while we looked.
    forgotten = context.forgotten_ids()
    found = [
        FoundCrop(crops[near.box_id], near.distance)
        for near in nearest
        if near.box_id in crops and near.image_id not in forgotten
    ]
    if asked_photo.crop is not None and asked_photo.crop.image_id in forgotten:
        raise InputDataError(f"{photo}: its photo was to be forgotten")
    figures = SimilarFigures(
        asked=asked_photo,
        found=found,
        network=stored.network,
        num_vectors=stored.num_rows,
        is_exact=is_exact,
        dataset=dataset,
        versions=context.pinned,
        made_at=datetime.now(UTC),
    )
    num_bytes = write_page(out, similar_page(figures))
    _print(context, figures, num_lost=len(nearest) - len(found))
    text = f"find_similar: {out}, {num_bytes / 1e6:.1f} MB"
    context.console.print(text, highlight=False, soft_wrap=True)


def _page_name(photo: str) -> str:
    """A file's name that tells the photo, whatever it is called."""
    stem = PurePosixPath(re.split(r"[?#]", photo)[0] if is_address(photo) else photo).stem
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:40]
    digest = hashlib.sha256(photo.encode(errors="surrogateescape")).hexdigest()[:8]
    return "_".join(filter(None, ("similar", slug, digest))) + ".html"


def _stored(context: JobContext) -> StoredVectors:
    """The embeddings that `similar.network` means.

    Raises:
        InputDataError: there are none.
        SettingsError: there are none of this network; the text names those there are.
    """
    lake, wanted = context.lake, context.settings.similar.network
    version = context.pinned.get(t.EMBEDDINGS.name)
    networks = [] if version is None else find_networks(lake.reader, version)
    if not networks:
        raise InputDataError(
            f"{lake.root}: the lake has no embeddings; croplake probe-examples makes those of "
            "its crops"
        )
    for stored in networks:
        if wanted == "newest" or stored.network.startswith(wanted):
            return stored
    named = ", ".join(repr(stored.network) for stored in networks)
    raise SettingsError(f"similar.network: no embeddings of {wanted!r}; there are {named}")


def _members(context: JobContext, dataset: str) -> pa.Array:
    """The box ids of a dataset's examples.

    Raises:
        InputDataError: it has none.
    """
    box_ids = pa.array([], pa.string())
    if t.EXAMPLES.name in context.pinned:
        version = context.pinned[t.EXAMPLES.name]
        rows = context.lake.reader.dataset(t.EXAMPLES.name, version=version)
        where = (pads.field(t.DATASET) == dataset) & (pads.field(t.SPLIT) != t.REJECTED_SPLIT)
        box_ids = rows.to_table([t.BOX_ID], filter=where).column(t.BOX_ID).combine_chunks()
    if not len(box_ids):
        raise InputDataError(f"--dataset {dataset}: the lake has no examples of it")
    return box_ids


def _search(
    context: JobContext, stored: StoredVectors, num_features: int, wanted: pads.Expression
) -> tuple[Search, bool]:
    """What names the nearest that are wanted, and whether it compares with all of them."""
    conf = context.settings.similar
    if stored.num_rows <= conf.exact_up_to:
        return ExactSearch(lambda: stored.blocks(num_features, wanted=wanted)), True

    def tell(text: str) -> None:
        context.console.print(text, style="dim", highlight=False, soft_wrap=True)

    index = open_index(
        stored, num_features, max_bytes=conf.max_index_bytes, tell=tell, wanted=wanted
    )
    return index, False


def _crops(
    context: JobContext, wanted: Sequence[Neighbour], dataset: str | None
) -> dict[str, GalleryCrop]:
    """Pictures and credit of crops, by `box_id`; of those that the lake still has."""
    if not wanted or t.CROPS.name not in context.pinned:
        return {}
    box_ids = [near.box_id for near in wanted]
    key = key_of_file(F.col("_metadata.file_name")).alias(FILE_KEY)
    is_one = F.col(t.HAS_CROP) & F.col(t.BOX_ID).isin(box_ids)
    columns = (t.BOX_ID, t.RECIPE_ID, t.LABEL_MID, key)
    rows = context.read_table(t.CROPS).where(is_one).select(*columns).collect()
    categories = _categories(context, box_ids, {row[t.LABEL_MID] for row in rows}, dataset)
    recipes = {(near.box_id, near.recipe_id) for near in wanted}
    found: dict[str, GalleryCrop] = {}
    for recipe_id in {recipe for _, recipe in recipes}:
        chosen = [
            Row(
                **{
                    t.BOX_ID: row[t.BOX_ID],
                    t.CATEGORY: categories.get(row[t.BOX_ID]) or categories[row[t.LABEL_MID]],
                    FILE_KEY: row[FILE_KEY],
                }
            )
            for row in rows
            if row[t.RECIPE_ID] == recipe_id and (row[t.BOX_ID], recipe_id) in recipes
        ]
        found |= read_crops(context, chosen, recipe_id)
    return found


def _categories(
    context: JobContext, box_ids: Sequence[str], mids: set[str], dataset: str | None
) -> dict[str, str]:
    """What crops are called: by `box_id` as an example's category, by `label_mid` as their class.

    Where several datasets have an example, the one that was asked for gives the name, or else the
    settings' own.
    """
    names: dict[str, str] = dict(zip(mids, mids, strict=True))
    if t.CLASSES.name in context.pinned:
        classes = context.read_rows(t.CLASSES)
        names |= {row[t.LABEL_MID]: row[t.CLASS_NAME] for row in classes}
    if t.EXAMPLES.name in context.pinned:
        of_dataset = dataset or context.settings.dataset.name
        where = (pads.field(t.DATASET) == of_dataset) & pads.field(t.BOX_ID).isin(box_ids)
        version = context.pinned[t.EXAMPLES.name]
        rows = context.lake.reader.dataset(t.EXAMPLES.name, version=version)
        examples = rows.to_table([t.BOX_ID, t.CATEGORY], filter=where).to_pylist()
        names |= {row[t.BOX_ID]: row[t.CATEGORY] for row in examples}
    return names


def _asked_photo(context: JobContext, asked: Asked) -> AskedPhoto:
    if asked.recipe_id is None:
        return AskedPhoto(asked.name, asked.jpeg or b"", asked.width_px, asked.height_px)
    itself = Neighbour(asked.name, "", asked.recipe_id, 0.0)
    crop = _crops(context, [itself], None).get(asked.name)
    if crop is None:
        raise InputDataError(f"{asked.name}: the lake does not have this crop any more")
    return AskedPhoto(asked.name, crop.jpeg or b"", crop.width_px or 0, crop.height_px or 0, crop)


def _print(context: JobContext, figures: SimilarFigures, *, num_lost: int) -> None:
    table = Table()
    table.add_column("distance", justify="right")
    for name in ("category", "photo", "licence", "author", "title"):
        table.add_column(name, overflow="fold", no_wrap=name == "photo")
    for one in figures.found[:_SHOWN]:
        crop = one.crop
        table.add_row(
            f"{one.distance:.3f}",
            crop.category,
            crop.image_id,
            licence_name(crop.license),
            readable(crop.author) or "–",
            readable(crop.title) or "–",
        )
    title = (
        f"find_similar: {len(figures.found):,} of {figures.num_vectors:,} crops, by "
        f"{figures.network}"
    )
    context.console.print(titled(title, table))
    if num_lost:
        summary.warn(context.console, f"{num_lost:,} crops are not in the lake any more")
