"""One photo: its sources in order, one download, all its boxes cut."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from croplake import tables as t
from croplake.fetching.crop import (
    Box,
    EmptyCropError,
    Recipe,
    crop_box,
    encode_crop,
    to_pixels,
)
from croplake.fetching.getter import Getter
from croplake.fetching.outcome import TRANSIENT, PhotoError, Status
from croplake.fetching.photo import Pixels, decode_photo, dhash

BOXES_FIELD: Final = "photo_boxes"
LISTED_FIELD: Final = "is_listed"

TASK_SCHEMA: Final = pa.schema(
    [
        (t.IMAGE_ID, pa.string()),
        (t.SUBSET, pa.string()),
        (LISTED_FIELD, pa.bool_()),
        *((name, t.PHOTOS.schema.field(name).type) for name in (t.ORIGINAL_URL, t.THUMBNAIL_URL)),
        (t.ROTATION_DEG, pa.int32()),
        *((name, pa.string()) for name in t.ATTRIBUTION),
        (
            BOXES_FIELD,
            pa.list_(
                pa.struct(
                    [
                        (t.BOX_ID, pa.string()),
                        (t.LABEL_MID, pa.string()),
                        *((name, pa.float64()) for name in t.CORNERS),
                        (t.ATTEMPT, pa.int32()),
                    ]
                )
            ),
        ),
    ]
)
"""What an executor is given: a photo, where to find it, its boxes, and the number of this try."""


@dataclass(frozen=True)
class FetchRules:
    """What holds for every photo of a run.

    Attributes:
        recipe: how crops are cut.
        sources: `mirror`, `original`, `thumbnail`, in the order they are tried.
        mirror_url: template with `{subset}` and `{image_id}`.
        max_photo_pixels: decoding limit.
        run_id: written into every row.
    """

    recipe: Recipe
    sources: tuple[str, ...]
    mirror_url: str
    max_photo_pixels: int
    run_id: str


@dataclass(frozen=True)
class Photo:
    """A photo that was had: uint8 RGB pixels, shape (height, width, 3), and where from."""

    image_HWC: Pixels
    source: str
    sha256: str


class _AllSourcesFailedError(Exception):
    def __init__(self, failures: list[tuple[str, PhotoError]]) -> None:
        super().__init__()
        # A failure that may pass decides, so that the photo is tried again.
        passing = [failure for failure in failures if failure[1].status in TRANSIENT]
        self.source, self.error = (passing or failures)[-1]
        self.detail = "; ".join(
            f"{source} {error.status}: {error.detail}" for source, error in failures
        )


def photo_sources(task: dict[str, Any], rules: FetchRules) -> Iterator[tuple[str, str]]:
    """The addresses a photo may be had from, in order.

    Flickr turns its resized pictures itself, so the thumbnail's frame is the boxes' only where the
    rotation is known to be 0.

    Args:
        task: a row of `TASK_SCHEMA`.
        rules: sources and the mirror's template.

    Yields:
        Source name and address.
    """
    for source in rules.sources:
        if source == "mirror":
            place = {"subset": task[t.SUBSET], "image_id": task[t.IMAGE_ID]}
            yield source, rules.mirror_url.format(**place)
        elif source == "original" and task[t.ORIGINAL_URL]:
            yield source, task[t.ORIGINAL_URL]
        elif source == "thumbnail" and task[t.THUMBNAIL_URL] and task[t.ROTATION_DEG] == 0:
            yield source, task[t.THUMBNAIL_URL]


def fetch_photo(
    task: dict[str, Any], rules: FetchRules, getter: Getter, clock: Callable[[], datetime]
) -> list[dict[str, Any]]:
    """Downloads a photo once and cuts all its boxes.

    Args:
        task: a row of `TASK_SCHEMA`.
        rules: of the run.
        getter: HTTP.
        clock: gives the time a row is stamped with.

    Returns:
        One row of `crops` per box of the task: `ok` with its bytes, or its reason. Never raises
        for what a photo or a host did.
    """
    try:
        if not task[LISTED_FIELD]:
            detail = "the photos CSV has no row for it, so its licence and links are unknown"
            raise PhotoError(Status.PHOTO_NOT_LISTED, detail)
        photo = _first_photo(task, rules, getter)
    except PhotoError as error:
        outcome = _failure(error.status, error.detail, error.http_status)
        return [_row(task, box, rules, clock(), outcome) for box in task[BOXES_FIELD]]
    except _AllSourcesFailedError as failed:
        last = failed.error
        outcome = _failure(last.status, failed.detail, last.http_status, failed.source)
        return [_row(task, box, rules, clock(), outcome) for box in task[BOXES_FIELD]]
    common = _of_photo(photo)
    return [
        _row(task, box, rules, clock(), common | _of_box(photo, box, task, rules.recipe))
        for box in task[BOXES_FIELD]
    ]


def _first_photo(task: dict[str, Any], rules: FetchRules, getter: Getter) -> Photo:
    failures: list[tuple[str, PhotoError]] = []
    for source, url in photo_sources(task, rules):
        try:
            data = getter.get(url)
            image_HWC = decode_photo(data, max_pixels=rules.max_photo_pixels)
            return Photo(image_HWC, source, hashlib.sha256(data).hexdigest())
        except PhotoError as error:
            failures.append((source, error))
        # A library's surprise (a URL its parser chokes on, memory) costs this source, not the task.
        except Exception as error:
            detail = f"{url}: {type(error).__name__}: {error}"
            failures.append((source, PhotoError(Status.UNEXPECTED, detail)))
    if not failures:
        raise PhotoError(Status.NO_SOURCE, f"none of {', '.join(rules.sources)} has an address")
    raise _AllSourcesFailedError(failures)


def _of_photo(photo: Photo) -> dict[str, Any]:
    height_px, width_px = photo.image_HWC.shape[:2]
    return {
        t.SOURCE: photo.source,
        t.HTTP_STATUS: 200,
        t.PHOTO_WIDTH_PX: width_px,
        t.PHOTO_HEIGHT_PX: height_px,
        t.PHOTO_SHA256: photo.sha256,
        t.PHOTO_DHASH: dhash(photo.image_HWC),
    }


def _of_box(
    photo: Photo, box: dict[str, Any], task: dict[str, Any], recipe: Recipe
) -> dict[str, Any]:
    corners = Box(*(box[name] for name in t.CORNERS))
    height_px, width_px = photo.image_HWC.shape[:2]
    try:
        source_box = to_pixels(corners, width_px, height_px)
        cut_HWC = crop_box(photo.image_HWC, corners, padding_frac=recipe.padding_frac)
        crop = encode_crop(cut_HWC, recipe, rotation_deg=task[t.ROTATION_DEG])
    except EmptyCropError as error:
        return _failure(Status.EMPTY_CROP, str(error), 200, photo.source)
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        return _failure(Status.UNEXPECTED, detail, 200, photo.source)
    return {
        t.STATUS: Status.OK.value,
        t.HAS_CROP: True,
        t.JPEG: crop.jpeg,
        t.WIDTH_PX: crop.width_px,
        t.HEIGHT_PX: crop.height_px,
        t.SOURCE_BOX_WIDTH_PX: source_box.width,
        t.SOURCE_BOX_HEIGHT_PX: source_box.height,
    }


def _failure(
    status: Status, detail: str, http_status: int | None, source: str | None = None
) -> dict[str, Any]:
    return {
        t.STATUS: status.value,
        t.HAS_CROP: False,
        t.DETAIL: detail,
        t.HTTP_STATUS: http_status,
        t.SOURCE: source,
    }


def _row(
    task: dict[str, Any],
    box: dict[str, Any],
    rules: FetchRules,
    now: datetime,
    outcome: dict[str, Any],
) -> dict[str, Any]:
    row = dict.fromkeys(t.CROPS.columns)
    row |= {name: task[name] for name in (t.IMAGE_ID, *t.ATTRIBUTION)}
    row |= {name: box[name] for name in (t.BOX_ID, t.LABEL_MID, *t.CORNERS, t.ATTEMPT)}
    row |= {t.RECIPE_ID: rules.recipe.recipe_id, t.RUN_ID: rules.run_id, t.FETCHED_AT: now}
    return row | outcome
