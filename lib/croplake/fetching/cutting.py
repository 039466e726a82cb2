"""From a photo's bytes to the rows of its boxes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

from croplake import tables as t
from croplake.fetching.crop import (
    Box,
    EmptyCropError,
    Recipe,
    crop_box,
    encode_crop,
    to_pixels,
)
from croplake.fetching.http import Answer
from croplake.fetching.outcome import PhotoError, Status
from croplake.fetching.photo import DecodeBuffer, Halvings, decode_photo, look_of
from croplake.fetching.photo_task import BOXES_FIELD, FetchRules, PhotoTask


def cut_photo(
    photo: PhotoTask, rules: FetchRules, buffer: DecodeBuffer, clock: Callable[[], datetime]
) -> list[dict[str, Any]] | None:
    """Cuts all boxes of a photo that has come to its end, with or without bytes.

    Args:
        photo: given to `on_ready`.
        rules: of the run.
        buffer: the thread's own.
        clock: gives the time a row is stamped with.

    Returns:
        One row of `crops` per box of the task: `ok` with its bytes, or its reason; none where the
        run was stopped before. None where the bytes are no photo and the next source has been
        asked. Never raises for what a photo or a host did.
    """
    if photo.is_stopped:
        return []
    task = photo.row
    common = {name: task[name] for name in (t.IMAGE_ID, *t.ATTRIBUTION)}
    common |= {t.RECIPE_ID: rules.recipe.recipe_id, t.RUN_ID: rules.run_id, t.FETCHED_AT: clock()}
    if photo.answer is None:
        error, source = photo.failure()
        common |= {t.HTTP_STATUS: error.http_status, t.SOURCE: source}
        # A photo whose host was left alone was not asked for: that is no try.
        untried = 1 if error.status is Status.HOST_PAUSED else 0
        return [
            common
            | box
            | _failure(error.status, error.detail)
            | {t.ATTEMPT: box[t.ATTEMPT] - untried}
            for box in task[BOXES_FIELD]
        ]
    answer, photo.answer = photo.answer, None
    try:
        if photo.source == "original" and rules.check_originals:
            _check_md5(answer, task[t.ORIGINAL_MD5_BASE64])
        image_HWC = decode_photo(answer.body, max_pixels=rules.max_photo_pixels, buffer=buffer)
        pixels = Halvings(image_HWC)
        common |= _of_photo(pixels, answer, photo.source)
    except PhotoError as error:
        photo.failed(PhotoError(error.status, error.detail, answer.http_status))
        return None
    # A library's surprise (memory, a file its parser chokes on) costs this source, not the task.
    except Exception as error:
        detail = f"{answer.url}: {type(error).__name__}: {error}"
        photo.failed(PhotoError(Status.UNEXPECTED, detail, answer.http_status))
        return None
    return [
        common | box | _of_box(pixels, box, rules.recipe, rotation_deg=task[t.ROTATION_DEG])
        for box in task[BOXES_FIELD]
    ]


def _check_md5(answer: Answer, expected: str | None) -> None:
    """Compares an original with what the catalog says of it; a replaced photo has other boxes."""
    if not expected:
        return
    digest = hashlib.md5(answer.body, usedforsecurity=False).digest()
    found = base64.b64encode(digest).decode()
    if found != expected:
        detail = f"{answer.url}: MD5 {found}, the catalog says {expected}"
        raise PhotoError(Status.WRONG_MD5, detail, answer.http_status)


def _of_photo(photo: Halvings, answer: Answer, source: str | None) -> dict[str, Any]:
    height_px, width_px = photo.whole_HWC.shape[:2]
    look = look_of(photo.whole_HWC)
    return {
        t.SOURCE: source,
        t.HTTP_STATUS: answer.http_status,
        t.PHOTO_WIDTH_PX: width_px,
        t.PHOTO_HEIGHT_PX: height_px,
        t.PHOTO_SHA256: hashlib.sha256(answer.body).hexdigest(),
        t.PHOTO_DHASH: look.dhash,
        t.PHOTO_COLORS: look.colors,
    }


def _of_box(
    photo: Halvings, box: dict[str, Any], recipe: Recipe, *, rotation_deg: int | None
) -> dict[str, Any]:
    corners = Box(*(box[name] for name in t.CORNERS))
    height_px, width_px = photo.whole_HWC.shape[:2]
    try:
        source_box = to_pixels(corners, width_px, height_px)
        cut_HWC = crop_box(photo.whole_HWC, corners, padding_frac=recipe.padding_frac)
        is_whole = cut_HWC.shape == photo.whole_HWC.shape
        cut = photo if is_whole else Halvings(cut_HWC)
        crop = encode_crop(cut, recipe, rotation_deg=rotation_deg)
    except EmptyCropError as error:
        return _failure(Status.EMPTY_CROP, str(error))
    except Exception as error:
        return _failure(Status.UNEXPECTED, f"{type(error).__name__}: {error}")
    return {
        t.STATUS: Status.OK.value,
        t.HAS_CROP: True,
        t.JPEG: crop.jpeg,
        t.WIDTH_PX: crop.width_px,
        t.HEIGHT_PX: crop.height_px,
        t.SOURCE_BOX_WIDTH_PX: source_box.width,
        t.SOURCE_BOX_HEIGHT_PX: source_box.height,
    }


def _failure(status: Status, detail: str) -> dict[str, Any]:
    return {t.STATUS: status.value, t.HAS_CROP: False, t.DETAIL: detail, t.JPEG: None}
