"""The photo that `find_similar` is asked about: its bytes, or the crop that it is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow.dataset as pads

from croplake import tables as t
from croplake.errors import IncompleteError, InputDataError
from croplake.fetching.getter import HttpGetter
from croplake.fetching.outcome import TRANSIENT, PhotoError, Status
from croplake.fetching.shares import EqualShares
from croplake.inference.embed_spark import about_network, embed_photo
from croplake.inference.embedding import Vectors
from croplake.inference.listing import locate
from croplake.inference.reading import photo_loader
from croplake.inference.vectors import StoredVectors
from croplake.jobs.context import JobContext
from croplake.jobs.probe_network import known_network

_BOX_ID: Final = re.compile(r"[0-9a-f]{32}")
_SIDE_PX: Final = 384
"""Greatest side of the photo in the page."""


@dataclass(frozen=True)
class Asked:
    """What is looked for.

    Attributes:
        name: as it was given.
        vector: float32, shape (D,).
        jpeg: a small picture; None where it is a crop of the lake.
        width_px: of the small picture.
        height_px: of the small picture.
        recipe_id: of the crop, where it is one.
    """

    name: str
    vector: Vectors
    jpeg: bytes | None = None
    width_px: int = 0
    height_px: int = 0
    recipe_id: str | None = None


def ask(context: JobContext, photo: str, stored: StoredVectors) -> Asked:
    """Makes, or finds, the vector of what is asked for.

    Args:
        context: of the look.
        photo: path, address or `box_id`.
        stored: the vectors that it is to be compared with.

    Raises:
        InputDataError: it is no photo, or no crop that has a vector; or the network that made the
            vectors is not there any more, or gives none of this photo.
        IncompleteError: its host does not give it now.
    """
    if _BOX_ID.fullmatch(photo) and not os.path.lexists(photo):
        asked = _of_crop(photo, stored)
    else:
        asked = _of_photo(context, photo, stored)
    if not np.isfinite(asked.vector).all() or not asked.vector.any():
        raise InputDataError(
            f"{photo}: what {stored.network} says of it is zero or no number, so nothing is nearer "
            "to it than anything else"
        )
    return asked


def _of_crop(box_id: str, stored: StoredVectors) -> Asked:
    rows = stored.reader.dataset(t.EMBEDDINGS.name, version=stored.version)
    is_it = (pads.field(t.NETWORK_DIGEST) == stored.digest) & (pads.field(t.BOX_ID) == box_id)
    found = rows.to_table([t.RECIPE_ID, t.VECTOR], filter=is_it).to_pylist()
    if not found:
        raise InputDataError(
            f"{box_id}: {stored.network} has no vector of a crop with this box_id, and there is no "
            "such file; croplake probe-examples makes those of all crops of a dataset's recipe"
        )
    vector = np.asarray(found[0][t.VECTOR], np.float32)
    return Asked(box_id, vector, recipe_id=found[0][t.RECIPE_ID])


def _of_photo(context: JobContext, photo: str, stored: StoredVectors) -> Asked:
    try:
        content = _read(context, photo)
    except PhotoError as error:
        raise _refusal(photo, error.status, error.detail) from error
    network = known_network(context, stored.network)
    about = about_network(context.spark, network)
    if about.digest != stored.digest:
        raise InputDataError(
            f"{network.address}: this is not the network any more that made the embeddings "
            f"{stored.network}; run croplake probe-examples again with probe.network set to it"
        )
    row = embed_photo(
        context.spark,
        content,
        network,
        max_pixels=context.settings.fetch.max_photo_pixels,
        side_px=_SIDE_PX,
    )
    if row[t.STATUS] != t.STATUS_OK:
        raise _refusal(photo, Status(row[t.STATUS]), row[t.DETAIL])
    vector = np.asarray(row[t.VECTOR], np.float32)
    return Asked(photo, vector, row[t.JPEG], row[t.WIDTH_PX], row[t.HEIGHT_PX])


def _read(context: JobContext, photo: str) -> bytes:
    limits, shares = context.http_limits(), EqualShares(context.host_budgets())
    with HttpGetter(limits, shares, max_transfers=1) as getter:
        return photo_loader(getter, max_bytes=limits.max_bytes)(locate(photo))


def _refusal(photo: str, status: Status, detail: str | None) -> InputDataError | IncompleteError:
    text = f"{photo or repr(photo)}: {status}: {detail}"
    if status in TRANSIENT:
        return IncompleteError(f"{text}; the same command asks again")
    return InputDataError(f"{text}; expected a photo, or the box_id of a crop")
