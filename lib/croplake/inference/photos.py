"""Executor code of the classification: Arrow batches of paths in, Arrow batches of answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from croplake import tables as t
from croplake.fetching.outcome import PhotoError, Status
from croplake.inference.model import STATUS_NOT_FINITE
from croplake.inference.network import Photo, Probabilities, Squares
from croplake.inference.reading import LoadBytes

STATUS_PREDICTION_FAILED: Final = "prediction_failed"
"""The network refused the batch; the detail names the exception."""

DecodePhoto = Callable[[bytes], Photo]
"""A file's bytes in, uint8 RGB of shape (height, width, 3) out; raises PhotoError."""


class PhotoClassifier(Protocol):
    """What classification needs of `croplake.inference.model.Classifier`."""

    @property
    def categories(self) -> tuple[str, ...]:
        """C names, in the order of the probabilities."""

    def fit_photo(self, photo_HWC: Photo) -> Squares:
        """The photo as the network takes it, shape (side, side, 3)."""

    def predict(self, squares_NHWC: Squares) -> Probabilities:
        """Probabilities, shape (N, C)."""


@dataclass(frozen=True)
class ClassifyRun:
    """What the rows of one run have in common; the first two stand in every row.

    Attributes:
        run_id: of the run.
        model_id: of the model.
        top: categories kept for a photo.
        batch_size: photos of one prediction.
        transfers: photos that a task reads or downloads at once.
    """

    run_id: str
    model_id: str
    top: int
    batch_size: int
    transfers: int = 1


@dataclass(frozen=True)
class _Opened:
    """A photo ready for the network, or why it is not."""

    path: str
    status: str
    detail: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    square_HWC: Squares | None = None


def _utc_now() -> datetime:
    return datetime.now(UTC)


def classify_paths(
    batches: Iterable[pa.RecordBatch],
    run: ClassifyRun,
    classifier: PhotoClassifier,
    *,
    load_bytes: LoadBytes,
    decode: DecodePhoto,
    clock: Callable[[], datetime] = _utc_now,
) -> Iterator[pa.RecordBatch]:
    """Classifies every photo of a partition.

    Args:
        batches: with the column `path`.
        run: the run's settings.
        classifier: the model.
        load_bytes: reads or downloads; called from `run.transfers` threads at once.
        decode: decodes within limits; called from the same threads.
        clock: stamps the rows.

    Yields:
        Batches in the schema of `predictions`, one row per row in, in their order. `status` is `ok`
        or the reason why there is no category, with the `detail`; `probabilities` holds the
        `run.top` best categories, best first. No exception of a photo, a host or the network
        leaves this function.
    """
    paths = (path for batch in batches for path in batch.column(t.PATH).to_pylist())

    def open_one(path: str) -> _Opened:
        return _open_photo(path, load_bytes, decode, classifier)

    with ThreadPoolExecutor(run.transfers, thread_name_prefix="photos") as pool:
        while chunk := list(islice(paths, run.batch_size)):
            opened = _predict(list(pool.map(open_one, chunk)), run, classifier)
            now = clock()
            rows = [_row(photo, answer, run, now) for photo, answer in opened]
            yield pa.RecordBatch.from_pylist(rows, schema=t.PREDICTIONS.schema)


def _open_photo(
    path: str, load_bytes: LoadBytes, decode: DecodePhoto, classifier: PhotoClassifier
) -> _Opened:
    try:
        photo_HWC = decode(load_bytes(path))
        height_px, width_px = photo_HWC.shape[:2]
        square_HWC = classifier.fit_photo(photo_HWC)
    except PhotoError as error:
        return _Opened(path, str(error.status), error.detail)
    # One odd file must not cost the partition's other rows.
    except Exception as error:
        return _Opened(path, Status.UNEXPECTED, f"{type(error).__name__}: {error}")
    return _Opened(path, t.STATUS_OK, None, width_px, height_px, square_HWC)


def _predict(
    opened: list[_Opened], run: ClassifyRun, classifier: PhotoClassifier
) -> list[tuple[_Opened, dict[str, float]]]:
    """Each photo with its best categories, best first; without any where there is no answer."""
    squares = [photo.square_HWC for photo in opened if photo.square_HWC is not None]
    if not squares:
        return [(photo, {}) for photo in opened]
    try:
        answers = iter(classifier.predict(np.stack(squares)))
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"
        return [(_refused(photo, STATUS_PREDICTION_FAILED, failed), {}) for photo in opened]
    judged: list[tuple[_Opened, dict[str, float]]] = []
    for photo in opened:
        if photo.square_HWC is None:
            judged.append((photo, {}))
            continue
        answer = next(answers)
        if np.isfinite(answer).all():
            judged.append((photo, _best(answer, classifier.categories, run.top)))
        else:
            detail = "the model's answer is not a number; has its training diverged?"
            judged.append((_refused(photo, STATUS_NOT_FINITE, detail), {}))
    return judged


def _refused(photo: _Opened, status: str, detail: str) -> _Opened:
    """The photo with a failure of the network; one that could not be opened keeps its reason."""
    if photo.square_HWC is None:
        return photo
    return _Opened(photo.path, status, detail, photo.width_px, photo.height_px)


def _best(answer: Probabilities, categories: tuple[str, ...], top: int) -> dict[str, float]:
    order = np.argsort(-answer, kind="stable")[:top]
    return {categories[index]: float(answer[index]) for index in order}


def _row(photo: _Opened, best: dict[str, float], run: ClassifyRun, now: datetime) -> dict[str, Any]:
    category = next(iter(best), None)
    return {
        t.RUN_ID: run.run_id,
        t.PATH: photo.path,
        t.MODEL_ID: run.model_id,
        t.STATUS: photo.status,
        t.DETAIL: photo.detail,
        t.WIDTH_PX: photo.width_px,
        t.HEIGHT_PX: photo.height_px,
        t.CATEGORY: category,
        t.PROBABILITY: None if category is None else best[category],
        t.PROBABILITIES: list(best.items()) if best else None,
        t.PREDICTED_AT: now,
    }
