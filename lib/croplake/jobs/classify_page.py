"""What the page about a classification shows: counted while its rows are read, with credits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from pyspark.sql import Row
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.conf.models import ReportConf
from croplake.inference.listing import is_address
from croplake.inference.photos import ANSWERED
from croplake.inference.showcase import Group, Shown
from croplake.jobs.context import JobContext
from croplake.report.gallery import address_bytes, fit_galleries
from croplake.report.predictions import Credit, Failure, ShownPhoto
from croplake.report.thumbnails import expected_bytes

_FIRST: Final = 12
_FAILURES_SHOWN: Final = 10
_IMAGE_ID: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")
_UNSURE: Final = "\x00unsure"
"""Stands beside categories; no category is called so."""
_PATH: Final = "of_path"


class Landed:
    """What a run's rows come to.

    Attributes:
        statuses: photos by status.
        categories: decided photos by category.
        failures: of each status that is a failure, the first photos.
        first: the first rows.
    """

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.categories: Counter[str] = Counter()
        self.failures: dict[str, list[Failure]] = {}
        self.first: list[dict[str, Any]] = []

    def counted(self, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """Passes rows of `predictions` on, and counts them."""
        for row in rows:
            values, status = row.asDict(), row[t.STATUS]
            self.statuses[status] += 1
            if status == t.STATUS_OK:
                self.categories[row[t.CATEGORY]] += 1
            elif status not in ANSWERED:
                some = self.failures.setdefault(status, [])
                if len(some) < _FAILURES_SHOWN:
                    some.append(Failure(row[t.PATH], row[t.DETAIL]))
            if len(self.first) < _FIRST:
                self.first.append(values)
            yield values


def num_of_group(conf: ReportConf, num_categories: int) -> int:
    """How many photos of a category, and unsure ones, the page may have room for.

    Args:
        conf: of pages.
        num_categories: of the model.
    """
    side = conf.thumbnail_side_px
    of_one = expected_bytes(side, max(1, side * 3 // 4), side)
    room = conf.gallery_bytes // (num_categories + 1) // address_bytes(of_one)
    return int(max(1, min(conf.crops_per_category, room)))


def galleries_of(
    context: JobContext, groups: Mapping[Group, Sequence[Shown]]
) -> tuple[dict[str, list[ShownPhoto]], list[ShownPhoto]]:
    """The photos that the page shows, by category, and the unsure ones.

    Args:
        context: of the run.
        groups: of `read_showcases`.
    """
    paths = [row[t.PATH] for rows in groups.values() for row in rows]
    credits = _credits(context, paths)
    photos = {
        _UNSURE if is_unsure else category: [_photo(row, credits.get(row[t.PATH])) for row in rows]
        for (is_unsure, category), rows in groups.items()
    }
    fitted = fit_galleries(photos, context.settings.report.gallery_bytes)
    unsure = fitted.pop(_UNSURE, [])
    return {category: fitted[category] for category in sorted(fitted)}, unsure


def _photo(row: Shown, credit: Credit | None) -> ShownPhoto:
    return ShownPhoto(
        path=row[t.PATH],
        guesses=row[t.PROBABILITIES],
        jpeg=row[t.JPEG],
        width_px=row[t.WIDTH_PX],
        height_px=row[t.HEIGHT_PX],
        credit=credit,
    )


def _credits(context: JobContext, paths: Sequence[str]) -> dict[str, Credit]:
    """What the catalog says of those photos that it has: by id in the path, or by address.

    A join with a few thousand rows; nothing is read where no path could be of the catalog.
    """
    by_id = {path: ids[0] for path in paths if (ids := _IMAGE_ID.findall(path))}
    by_url = [path for path in paths if path not in by_id and is_address(path)]
    if not (by_id or by_url) or not context.lake.exists(t.PHOTOS):
        return {}
    photos = context.scan_table(t.PHOTOS)
    credits: dict[str, Credit] = {}
    for column, keys in (
        (t.IMAGE_ID, by_id),
        (t.ORIGINAL_URL, dict(zip(by_url, by_url, strict=True))),
    ):
        if not keys:
            continue
        wanted = pa.table({_PATH: list(keys), column: list(keys.values())})
        found = photos.join(F.broadcast(context.spark.createDataFrame(wanted)), column, "inner")
        for row in found.select(_PATH, t.IMAGE_ID, *t.ATTRIBUTION).collect():
            path, *values = row
            credits[path] = Credit(*values)
    return credits
