"""One photo: its sources in order, one download, all its boxes cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import pyarrow as pa

from croplake import tables as t
from croplake.fetching.crop import Recipe
from croplake.fetching.http import Answer
from croplake.fetching.outcome import RETRIED_IN_RUN, TRANSIENT, PhotoError, Status
from croplake.fetching.request import Deadline, OnDone, Request, StoppedError

BOXES_FIELD: Final = "photo_boxes"
LISTED_FIELD: Final = "is_listed"
AT_HAND_FIELD: Final = "at_hand"
AT_HAND_TYPE: Final = pa.struct(
    [("uri", pa.string()), ("offset_bytes", pa.int64()), ("num_bytes", pa.int64())]
)
"""Where a photo lies that need not be downloaded: bytes of a file, or of a tar."""

_FROM_CATALOG: Final = (
    t.ORIGINAL_URL,
    t.THUMBNAIL_URL,
    t.ORIGINAL_SIZE_BYTES,
    t.ORIGINAL_MD5_BASE64,
)
TASK_SCHEMA: Final = pa.schema(
    [
        (t.IMAGE_ID, pa.string()),
        (t.SUBSET, pa.string()),
        (LISTED_FIELD, pa.bool_()),
        (AT_HAND_FIELD, AT_HAND_TYPE),
        *((name, t.PHOTOS.schema.field(name).type) for name in _FROM_CATALOG),
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

_FIRST_WAIT_S: Final = 0.5
"""Before a source that failed is asked again; the host's own wishes come on top."""


@dataclass(frozen=True)
class FetchRules:
    """What holds for every photo of a run.

    Attributes:
        recipe: how crops are cut.
        sources: `at_hand`, `mirror`, `original`, `thumbnail`, in the order they are tried.
        mirror_url: template with `{subset}` and `{image_id}`.
        max_photo_pixels: decoding limit.
        run_id: written into every row.
        photo_timeout_s: for all of a photo's sources and tries together.
        rounds: how often a photo's sources are tried, those that may recover.
        check_originals: whether an original must have the size and MD5 that the catalog gives.
    """

    recipe: Recipe
    sources: tuple[str, ...]
    mirror_url: str
    max_photo_pixels: int
    run_id: str
    photo_timeout_s: float = 60.0
    rounds: int = 2
    check_originals: bool = True


class AtHand(NamedTuple):
    """Bytes of a file that hold a photo."""

    uri: str
    offset_bytes: int
    num_bytes: int


class Source(NamedTuple):
    """A place where a photo may be had: an address, or bytes at hand."""

    name: str
    place: str | AtHand


class Sources(Protocol):
    """What fetching needs of networks and files; both report the end to a callback, once."""

    def submit(self, request: Request) -> None:
        """Begins a download."""

    def read(self, place: AtHand, on_done: OnDone) -> None:
        """Begins a read."""


def photo_sources(task: dict[str, Any], rules: FetchRules) -> list[Source]:
    """Where a photo may be had, in order.

    Flickr turns its resized pictures itself, so the thumbnail's frame is the boxes' only where the
    rotation is known to be 0.

    Args:
        task: a row of `TASK_SCHEMA`.
        rules: sources and the mirror's template.
    """
    found: list[Source] = []
    for name in rules.sources:
        if name == "at_hand" and task[AT_HAND_FIELD]:
            found.append(Source(name, AtHand(**task[AT_HAND_FIELD])))
        elif name == "mirror":
            place = {"subset": task[t.SUBSET], "image_id": task[t.IMAGE_ID]}
            found.append(Source(name, rules.mirror_url.format(**place)))
        elif name == "original" and task[t.ORIGINAL_URL]:
            found.append(Source(name, task[t.ORIGINAL_URL]))
        elif name == "thumbnail" and task[t.THUMBNAIL_URL] and task[t.ROTATION_DEG] == 0:
            found.append(Source(name, task[t.THUMBNAIL_URL]))
    return found


class PhotoTask:
    """A photo on its way: asks one source after the other until one gives its bytes.

    Its methods are never called by two threads at once: it is either with the sources or with the
    thread that decodes.

    Attributes:
        row: of `TASK_SCHEMA`.
        source: of the answer.
        answer: bytes to be decoded; None where the photo has come to its end without.
        is_stopped: the run ended before it was begun: it leaves no rows.
    """

    def __init__(
        self,
        row: dict[str, Any],
        rules: FetchRules,
        sources: Sources,
        on_ready: Callable[[PhotoTask], None],
    ) -> None:
        self.row = row
        self.source: str | None = None
        self.answer: Answer | None = None
        self.is_stopped = False
        self._rules, self._sources, self._on_ready = rules, sources, on_ready
        self._left = photo_sources(row, rules) if row[LISTED_FIELD] else []
        self._deadline = Deadline(rules.photo_timeout_s)
        self._round = 1
        self._failures: dict[Source, PhotoError] = {}
        self._asked: Source | None = None

    def ask_next(self) -> None:
        """Asks the next source; calls `on_ready` in whatever thread its answer comes."""
        if not self._left and not self._begin_round():
            self.answer = None
            self._on_ready(self)
            return
        self._asked = asked = self._left.pop(0)
        if isinstance(asked.place, AtHand):
            self._sources.read(asked.place, self._on_done)
            return
        is_original = asked.name == "original" and self._rules.check_originals
        request = Request(
            asked.place,
            self._deadline,
            self._on_done,
            part_of_rest=0.5 if self._left else 1.0,
            expected_bytes=self.row[t.ORIGINAL_SIZE_BYTES] if is_original else None,
            wait_s=_FIRST_WAIT_S * (self._round - 1),
        )
        self._sources.submit(request)

    @property
    def was_answered(self) -> bool:
        """Whether some host said something of this photo, and not merely that it cannot now."""
        if self.source is not None:
            return True
        found = (error.http_status or 500 for error in self._failures.values())
        return any(status < 500 and status != 429 for status in found)

    def failed(self, error: PhotoError) -> None:
        """The source that was asked is of no use; asks the next."""
        if self._asked is not None and not (
            error.status is Status.HOST_PAUSED and self._asked in self._failures
        ):
            self._failures[self._asked] = error
        self.ask_next()

    def failure(self) -> tuple[PhotoError, str | None]:
        """Why no source gave a photo, and the source that decided."""
        if not self.row[LISTED_FIELD]:
            detail = "the photos CSV has no row for it, so its licence and links are unknown"
            return PhotoError(Status.PHOTO_NOT_LISTED, detail), None
        if not self._failures:
            detail = f"none of {', '.join(self._rules.sources)} has a place for it"
            return PhotoError(Status.NO_SOURCE, detail), None
        # A failure that may pass decides, so that the photo is tried again.
        passing = [item for item in self._failures.items() if item[1].status in TRANSIENT]
        source, last = (passing or list(self._failures.items()))[-1]
        detail = "; ".join(
            f"{source.name} {error.status}: {error.detail}"
            for source, error in self._failures.items()
        )
        return PhotoError(last.status, detail, last.http_status), source.name

    def _begin_round(self) -> bool:
        """Puts the sources that may have recovered up again; False where there are none."""
        if self._round >= self._rules.rounds:
            return False
        self._round += 1
        self._left = [
            source for source, error in self._failures.items() if error.status in RETRIED_IN_RUN
        ]
        return bool(self._left)

    def _on_done(self, ended: Answer | PhotoError) -> None:
        if isinstance(ended, StoppedError):
            self.is_stopped = True
            self._on_ready(self)
        elif isinstance(ended, PhotoError):
            self.failed(ended)
        else:
            self.source = self._asked.name if self._asked is not None else None
            self.answer = ended
            self._on_ready(self)
