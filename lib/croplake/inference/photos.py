"""Executor code of the classification: Arrow batches of photos in, Arrow batches of answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from croplake import tables as t
from croplake.fetching.outcome import PhotoError, Status
from croplake.fetching.upright import Upright
from croplake.inference.ahead import in_batches_ahead
from croplake.inference.model import STATUS_NOT_FINITE
from croplake.inference.network import Photo, Probabilities, Squares
from croplake.inference.reading import LoadBytes, check_length

STATUS_PREDICTION_FAILED: Final = "prediction_failed"
"""The network refused the batch; the detail names the exception."""
STATUS_UNSURE: Final = "unsure"
"""The best guess is below `classify.min_probability`; the row has it all the same."""
ANSWERED: Final = (t.STATUS_OK, STATUS_UNSURE)
"""The statuses of photos that the network has an answer for."""
CONTENT: Final = "content"
IS_SHARED_NAME: Final = "is_shared_name"
PHOTOS_SCHEMA: Final = pa.schema(
    [(t.PATH, pa.string()), (CONTENT, pa.binary()), (IS_SHARED_NAME, pa.bool_())]
)
"""One row is a photo: where it lies, or what it is called and its file's bytes; and whether another
one of the run has the same file name."""

DecodePhoto = Callable[[bytes], Upright]
"""A file's bytes in; raises PhotoError."""


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
        transfers: photos that a task reads or downloads, and decodes, at once.
        min_probability: a best guess below it is `unsure`.
    """

    run_id: str
    model_id: str
    top: int
    batch_size: int
    transfers: int = 1
    min_probability: float = 0.0


@dataclass(frozen=True)
class Opened:
    """A photo ready for the network, or why it is not.

    Attributes:
        path: its path or address, or its name.
        status: `ok` or the reason.
        detail: of the reason.
        width_px: of the photo.
        height_px: of the photo.
        square_HWC: for the network.
        small_HWC: for a page, where one wants it.
        data: the file's bytes, where somebody wants them.
        is_shared_name: whether another photo of the run has the same file name.
    """

    path: str
    status: str
    detail: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    square_HWC: Squares | None = None
    small_HWC: Photo | None = None
    data: bytes | None = None
    is_shared_name: bool = False


class Sink(Protocol):
    """Who else is told of every photo, in the order of the rows."""

    def take(self, photo: Opened, row: dict[str, Any]) -> None:
        """One photo with its row of `predictions`."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def classify_photos(
    batches: Iterable[pa.RecordBatch],
    run: ClassifyRun,
    classifier: PhotoClassifier,
    *,
    load_bytes: LoadBytes,
    decode: DecodePhoto,
    max_bytes: int,
    shrink: Callable[[Photo], Photo] | None = None,
    keeps_data: bool = False,
    sinks: Sequence[Sink] = (),
    clock: Callable[[], datetime] = _utc_now,
) -> Iterator[pa.RecordBatch]:
    """Classifies every photo of a partition.

    Photos of the next batch are read and decoded while the network has one.

    Args:
        batches: of `PHOTOS_SCHEMA`; photos without content are read by their path.
        run: the run's settings.
        classifier: the model.
        load_bytes: reads or downloads; called from `run.transfers` threads at once.
        decode: decodes within limits; called from the same threads.
        max_bytes: a longer file is not decoded, be it loaded or given.
        shrink: makes the small picture that sinks get, from the decoded one; same threads.
        keeps_data: whether sinks get the files' bytes.
        sinks: told of every photo before its row is given on.
        clock: stamps the rows.

    Yields:
        Batches in the schema of `predictions`, one row per row in, in their order. `status` is
        `ok`, `unsure`, or the reason why there is no category, with the `detail`; `probabilities`
        holds the `run.top` best categories, best first. No exception of a photo, a host or the
        network leaves this function; those of sinks do.
    """

    def open_one(row: tuple[str, bytes | None, bool]) -> Opened:
        path, content, is_shared_name = row
        try:
            data = load_bytes(path) if content is None else content
            check_length(len(data), max_bytes=max_bytes)
            seen = decode(data)
            return Opened(
                path,
                t.STATUS_OK,
                None,
                seen.width_px,
                seen.height_px,
                classifier.fit_photo(seen.image_HWC),
                None if shrink is None else shrink(seen.image_HWC),
                data if keeps_data else None,
                is_shared_name,
            )
        except PhotoError as error:
            return Opened(path, str(error.status), error.detail)
        # One odd file must not cost the partition's other rows.
        except Exception as error:
            return Opened(path, Status.UNEXPECTED, f"{type(error).__name__}: {error}")

    rows = (row for batch in batches for row in zip(*_columns(batch), strict=True))
    for opened in in_batches_ahead(
        rows,
        open_one,
        batch_size=run.batch_size,
        num_threads=run.transfers,
        size_of=_num_bytes,
    ):
        now, out = clock(), []
        for photo, best in _predict(opened, run, classifier):
            out.append(_row(photo, best, run, now))
            for sink in sinks:
                sink.take(photo, out[-1])
        yield pa.RecordBatch.from_pylist(out, schema=t.PREDICTIONS.schema)


def _num_bytes(photo: Opened) -> int:
    return len(photo.data or b"")


def _columns(batch: pa.RecordBatch) -> list[list[Any]]:
    return [batch.column(name).to_pylist() for name in PHOTOS_SCHEMA.names]


def _predict(
    opened: list[Opened], run: ClassifyRun, classifier: PhotoClassifier
) -> list[tuple[Opened, dict[str, float]]]:
    """Each photo with its best categories, best first; without any where there is no answer."""
    squares = [photo.square_HWC for photo in opened if photo.square_HWC is not None]
    if not squares:
        return [(photo, {}) for photo in opened]
    try:
        answers = iter(classifier.predict(np.stack(squares)))
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"
        return [(_refused(photo, STATUS_PREDICTION_FAILED, failed), {}) for photo in opened]
    judged: list[tuple[Opened, dict[str, float]]] = []
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


def _refused(photo: Opened, status: str, detail: str) -> Opened:
    """The photo with a failure of the network; one that could not be opened keeps its reason."""
    if photo.square_HWC is None:
        return photo
    return Opened(photo.path, status, detail, photo.width_px, photo.height_px)


def _best(answer: Probabilities, categories: tuple[str, ...], top: int) -> dict[str, float]:
    order = np.argsort(-answer, kind="stable")[:top]
    return {categories[index]: float(answer[index]) for index in order}


def _row(photo: Opened, best: dict[str, float], run: ClassifyRun, now: datetime) -> dict[str, Any]:
    category = next(iter(best), None)
    is_unsure = category is not None and best[category] < run.min_probability
    return {
        t.RUN_ID: run.run_id,
        t.PATH: photo.path,
        t.MODEL_ID: run.model_id,
        t.STATUS: STATUS_UNSURE if is_unsure else photo.status,
        t.DETAIL: photo.detail,
        t.WIDTH_PX: photo.width_px,
        t.HEIGHT_PX: photo.height_px,
        t.CATEGORY: category,
        t.PROBABILITY: None if category is None else best[category],
        t.PROBABILITIES: list(best.items()) if best else None,
        t.PREDICTED_AT: now,
    }
