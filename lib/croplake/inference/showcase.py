"""Executor code: the few photos of a run that its page shows, made small while they are at hand.

Each task keeps, of every group, the photos whose paths have the least hashes, and leaves them in a
file of its own. The least of all tasks' are the run's: which photos are shown depends neither on
the number of tasks nor on their order, and none is read twice.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
from PIL import Image

from croplake import storage
from croplake import tables as t
from croplake.inference.network import Photo
from croplake.inference.photos import ANSWERED, STATUS_UNSURE, Opened
from croplake.report.thumbnails import QUALITY

ORDER: Final = "place"
"""The hash by which photos are chosen."""
SHOWN_SCHEMA: Final = pa.schema(
    [
        (ORDER, pa.string()),
        (t.PATH, pa.string()),
        (t.STATUS, pa.string()),
        (t.PROBABILITIES, pa.map_(pa.string(), pa.float64())),
        (t.WIDTH_PX, pa.int32()),
        (t.HEIGHT_PX, pa.int32()),
        (t.JPEG, pa.binary()),
    ]
)
"""One row is a shown photo; the sides are those of the small picture."""
_ENDING: Final = ".arrow"

Group = tuple[bool, str]
"""Whether the photos are unsure, and their category where they are not."""
Shown = dict[str, Any]


class Showcase:
    """The photos of one task that a page may show; a `photos.Sink`."""

    def __init__(self, num_of_group: int, side_px: int) -> None:
        """Makes an empty one.

        Args:
            num_of_group: photos of a category, and unsure ones, that are kept.
            side_px: greatest side of a small picture.
        """
        self._num_of_group, self._side_px = num_of_group, side_px
        self._groups: dict[Group, list[tuple[int, str, Shown]]] = defaultdict(list)

    def shrink(self, photo_HWC: Photo) -> Photo:
        """The small picture of a photo, uint8 RGB; a smaller photo keeps its sides."""
        height_px, width_px = photo_HWC.shape[:2]
        scale = min(1.0, self._side_px / max(height_px, width_px))
        size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        small_HWC = cv2.resize(photo_HWC, size, interpolation=cv2.INTER_AREA)
        return np.asarray(small_HWC, dtype=np.uint8)

    def take(self, photo: Opened, row: dict[str, Any]) -> None:
        """Keeps the photo if it is one of the chosen by now."""
        if row[t.STATUS] not in ANSWERED or photo.small_HWC is None:
            return
        is_unsure = row[t.STATUS] == STATUS_UNSURE
        group = self._groups[is_unsure, "" if is_unsure else row[t.CATEGORY]]
        order = hashlib.sha256(photo.path.encode()).hexdigest()[:16]
        # A heap gives the greatest of the least by the negative; equal hashes are told by paths.
        key = -int(order, 16)
        if len(group) == self._num_of_group and key <= group[0][0]:
            return
        shown = {name: row[name] for name in (t.PATH, t.STATUS, t.PROBABILITIES)}
        entry = (key, photo.path, shown | {ORDER: order} | _encode(photo.small_HWC))
        if len(group) < self._num_of_group:
            heapq.heappush(group, entry)
        else:
            heapq.heapreplace(group, entry)

    def leave(self, folder: str) -> None:
        """Writes what was kept as a file of its own into a folder of any storage."""
        rows = [shown for group in self._groups.values() for _, _, shown in group]
        if not rows:
            return
        target = io.BytesIO()
        with ipc.new_file(target, SHOWN_SCHEMA) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=SHOWN_SCHEMA))
        storage.write_bytes(storage.join(folder, uuid.uuid4().hex + _ENDING), target.getvalue())


def read_showcases(folder: str, num_of_group: int) -> dict[Group, list[Shown]]:
    """What all tasks have left, of each group as many as one may have; driver.

    Args:
        folder: as for `Showcase.leave`.
        num_of_group: as for `Showcase`.

    Returns:
        Rows of `SHOWN_SCHEMA` by group, sorted by `place`.
    """
    groups: dict[Group, dict[str, Shown]] = defaultdict(dict)
    for file in storage.list_files(folder):
        if not file.endswith(_ENDING):
            continue
        for row in _read(file):
            is_unsure = row[t.STATUS] == STATUS_UNSURE
            category = "" if is_unsure else row[t.PROBABILITIES][0][0]
            # A task that was tried again has left its photos twice.
            groups[is_unsure, category][row[t.PATH]] = row
        groups = defaultdict(dict, {g: _least(of, num_of_group) for g, of in groups.items()})
    return {group: list(rows.values()) for group, rows in sorted(groups.items())}


def _least(rows: dict[str, Shown], num: int) -> dict[str, Shown]:
    least = heapq.nsmallest(num, rows.values(), key=lambda row: (row[ORDER], row[t.PATH]))
    return {row[t.PATH]: row for row in least}


def _read(file: str) -> Iterator[Shown]:
    with ipc.open_file(pa.BufferReader(storage.read_bytes(file))) as reader:
        rows: Iterable[Shown] = reader.read_all().to_pylist()
        yield from rows


def _encode(small_HWC: Photo) -> dict[str, Any]:
    target = io.BytesIO()
    Image.fromarray(small_HWC).save(target, "JPEG", quality=QUALITY, optimize=True)
    height_px, width_px = small_HWC.shape[:2]
    return {t.JPEG: target.getvalue(), t.WIDTH_PX: width_px, t.HEIGHT_PX: height_px}
