"""Class folders, as `keras.utils.image_dataset_from_directory` and many others read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from croplake import storage
from croplake import tables as t
from croplake.export.credit_csv import read_first_column, write_csv
from croplake.export.placing import place_pictures, whole_file
from croplake.export.plan import Manifest, Shard
from croplake.export.rows import DETAILS, KEY, Row, details, file_name

ATTRIBUTION: Final = "attribution"
"""The folder of the CSVs: outside those of the splits, whose every folder is a class."""
FILE: Final = "file"
COLUMNS: Final = (FILE, *(name for name in DETAILS if name != KEY))


def write_shard(into: str, manifest: Manifest, shard: Shard, rows: Iterable[Row]) -> str:
    """Writes `<split>/<category>/<key>.jpg`, and `attribution/<shard>.csv` once all are there.

    Args:
        into: address of the export.
        manifest: of the export.
        shard: which.
        rows: of the shard.

    Returns:
        The path of its last file.
    """
    folders = manifest.folders

    def path_of(row: Row) -> str:
        return f"{row[t.SPLIT]}/{folders[row[t.CATEGORY]]}/{file_name(row)}"

    def credits() -> Iterator[dict[str, Any]]:
        for row in place_pictures(into, rows, path_of):
            told = details(row)
            del told[KEY]
            yield {FILE: path_of(row)} | told

    last = _credits_path(shard)
    with whole_file(into, last) as part:
        write_csv(part, COLUMNS, credits())
    return last


def picture_paths(into: str, shard: Shard) -> list[str]:
    """The paths of a finished shard's pictures, as its CSV has them."""
    return read_first_column(storage.read_bytes(storage.join(into, _credits_path(shard))))


def _credits_path(shard: Shard) -> str:
    return f"{ATTRIBUTION}/{shard.name}.csv"
