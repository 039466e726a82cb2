"""Hugging Face's imagefolder: folders of pictures, each with a `metadata.csv`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from croplake import storage
from croplake import tables as t
from croplake.export.credit_csv import read_first_column, write_csv
from croplake.export.placing import place_pictures, whole_file
from croplake.export.plan import Manifest, Shard
from croplake.export.rows import DETAILS, KEY, NUMBERS, Row, details, file_name

_METADATA: Final = "metadata.csv"
FILE_NAME: Final = "file_name"
LABEL: Final = "label"
NOT_GIVEN: Final = "(none)"
"""Stands for a text that the catalog does not have: datasets takes the type of a column from its
values, and would find another one where a shard has none of them."""
_TAKEN_FOR_NONE: Final = frozenset(
    {
        *("NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "None", "NULL", "null"),
        *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    }
)
"""Texts that datasets reads as null, whatever the quotes: pandas' list. With a space behind them
they stay the names and titles that they are."""
_LEFT_OUT: Final = (KEY, t.SPLIT)
COLUMNS: Final = (
    FILE_NAME,
    *(LABEL if name == t.CATEGORY else name for name in DETAILS if name not in _LEFT_OUT),
)
FEATURES: Final = {
    "image": {"_type": "Image"},
    **{
        name: {"dtype": "int32" if name in NUMBERS else "string", "_type": "Value"}
        for name in COLUMNS
        if name != FILE_NAME
    },
}
"""The columns' types as `datasets.Features.from_dict` reads them: without them, ids and titles of
digits alone would be taken for numbers."""


def write_shard(into: str, manifest: Manifest, shard: Shard, rows: Iterable[Row]) -> str:
    """Writes `<split>/<number>/<key>.jpg`, and its `metadata.csv` once all are there.

    Args:
        into: address of the export.
        manifest: of the export.
        shard: which.
        rows: of the shard.

    Returns:
        The path of its last file.
    """
    folder = _folder(shard)

    def path_of(row: Row) -> str:
        return f"{folder}/{file_name(row)}"

    def credits() -> Iterator[dict[str, Any]]:
        for row in place_pictures(into, rows, path_of):
            told = details(row) | {FILE_NAME: file_name(row), LABEL: row[t.CATEGORY]}
            yield {name: _kept(told[name]) for name in COLUMNS}

    last = f"{folder}/{_METADATA}"
    with whole_file(into, last) as part:
        write_csv(part, COLUMNS, credits())
    return last


def picture_paths(into: str, shard: Shard) -> list[str]:
    """The paths of a finished shard's pictures, as its `metadata.csv` has them."""
    folder = _folder(shard)
    content = storage.read_bytes(storage.join(into, folder, _METADATA))
    return [f"{folder}/{name}" for name in read_first_column(content)]


def _kept(value: Any) -> Any:  # noqa: ANN401  # a text or a number
    """What datasets does not take for null."""
    if value is None:
        return NOT_GIVEN
    return f"{value} " if value in _TAKEN_FOR_NONE else value


def _folder(shard: Shard) -> str:
    return f"{shard.split}/{shard.number:06d}"
