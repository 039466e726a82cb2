"""What an exported picture is, and what goes along with it: the same in every format."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from croplake import tables as t

KEY: Final = "key"
"""The picture's own name: the `example_id` of an example, the `box_id` of a crop."""
SHARD: Final = "shard"

TEXTS: Final = (KEY, t.SPLIT, t.CATEGORY, t.BOX_ID, t.IMAGE_ID, t.SUBSET, *t.ATTRIBUTION)
NUMBERS: Final = (t.LABEL_INDEX, t.WIDTH_PX, t.HEIGHT_PX, *t.FLAGS)
DETAILS: Final = (
    KEY,
    t.SPLIT,
    t.LABEL_INDEX,
    t.CATEGORY,
    *t.ATTRIBUTION,
    t.IMAGE_ID,
    t.SUBSET,
    t.BOX_ID,
    t.WIDTH_PX,
    t.HEIGHT_PX,
    *t.FLAGS,
)
"""All that goes along with a picture, in the order that a person reads it."""
_TYPES: Final = dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(NUMBERS, pa.int32())
ROWS_SCHEMA: Final = pa.schema(
    [(SHARD, pa.int32()), *((name, _TYPES[name]) for name in DETAILS), (t.IMAGE, pa.binary())]
)
"""One row is a picture on its way out; `shard` is the `Shard.id` it belongs to."""

Row = dict[str, Any]
"""A row of `ROWS_SCHEMA`."""


def details(row: Row) -> dict[str, Any]:
    """All that goes along with a picture; None where the catalog does not say it."""
    return {name: row[name] for name in DETAILS}


def file_name(row: Row) -> str:
    """The picture's file name: of hexadecimal digits, nothing that a stranger wrote."""
    return f"{row[KEY]}.jpg"
