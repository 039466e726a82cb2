"""Executor code: crops that do not decode to what their row says."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa
from PIL import Image

from croplake import tables as t

BROKEN_SCHEMA: Final = pa.schema([("key", pa.string())])


def broken_pictures(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Decodes crops whole.

    Args:
        batches: with `box_id`, `jpeg`, `width_px`, `height_px`.

    Returns:
        Batches in `BROKEN_SCHEMA`: of each broken one its box and what is wrong.
    """
    for batch in batches:
        keys = []
        for row in batch.to_pylist():
            wrong = _what_is_wrong(row[t.JPEG] or b"", row[t.WIDTH_PX], row[t.HEIGHT_PX])
            if wrong is not None:
                keys.append(f"{row[t.BOX_ID]}: {wrong}")
        yield pa.record_batch([pa.array(keys, pa.string())], schema=BROKEN_SCHEMA)


def _what_is_wrong(data: bytes, width_px: int | None, height_px: int | None) -> str | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            found = image.size
    except Exception as error:  # whatever Pillow makes of bytes that are no picture
        return f"does not decode ({type(error).__name__})"
    if found != (width_px, height_px):
        return f"is {found[0]} × {found[1]} px, its row says {width_px} × {height_px}"
    return None
