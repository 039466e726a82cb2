"""Executor code: a few crops out of the lake's files, made small."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from croplake import storage
from croplake import tables as t

FILES_SCHEMA: Final = pa.schema([(t.PATH, pa.string())])
THUMBNAILS_SCHEMA: Final = pa.schema(
    [
        t.CROPS.schema.field(name)
        for name in (t.BOX_ID, t.IMAGE_ID, t.JPEG, t.WIDTH_PX, t.HEIGHT_PX, *t.ATTRIBUTION)
    ]
)

EXAMPLES_SCHEMA: Final = pa.schema([t.EXAMPLES.schema.field(t.EXAMPLE_ID), *THUMBNAILS_SCHEMA])

QUALITY: Final = 80
_LEAST_BYTES: Final = 300
"""What a JPEG takes whatever is in it: its headers and tables."""
_LEAST_BYTES_PER_PIXEL: Final = 0.1
"""Of a picture of this quality with little in it; most photos have twice that."""


def read_thumbnails(
    batches: Iterable[pa.RecordBatch], *, box_ids: frozenset[str], side_px: int
) -> Iterator[pa.RecordBatch]:
    """Takes chosen crops out of files of `crops`.

    Pictures are read of those row groups only that hold a chosen one.

    Args:
        batches: in `FILES_SCHEMA`, addresses of files with crops of one recipe.
        box_ids: of the chosen crops.
        side_px: greatest side of what comes out.

    Returns:
        Batches in `THUMBNAILS_SCHEMA`, one row a chosen crop; without a picture and its sides where
        it does not decode.
    """
    chosen = pa.array(sorted(box_ids), pa.string())
    for batch in batches:
        for address in batch.column(0).to_pylist():
            with storage.open_random(address) as content:
                file = pq.ParquetFile(content)
                for group in range(file.num_row_groups):
                    rows = _chosen_rows(file, group, chosen)
                    small = [row | make_small(row[t.JPEG], side_px) for row in rows]
                    yield pa.RecordBatch.from_pylist(small, schema=THUMBNAILS_SCHEMA)


def shrink_examples(batches: Iterable[pa.RecordBatch], *, side_px: int) -> Iterator[pa.RecordBatch]:
    """Makes the pictures of chosen examples small.

    Args:
        batches: with the columns `example_id`, `box_id`, `image_id`, `image`, and the attribution.
        side_px: greatest side of what comes out.

    Returns:
        Batches in `EXAMPLES_SCHEMA`, one row a row; without a picture and its sides where it does
        not decode.
    """
    for batch in batches:
        rows = [row | make_small(row.pop(t.IMAGE), side_px) for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, schema=EXAMPLES_SCHEMA)


def _chosen_rows(file: pq.ParquetFile, group: int, chosen: pa.Array) -> list[dict[str, Any]]:
    ids = file.read_row_group(group, columns=[t.BOX_ID]).column(0)
    is_chosen = pc.is_in(ids, value_set=chosen)
    if not pc.any(is_chosen).as_py():
        return []
    rows = file.read_row_group(group, columns=THUMBNAILS_SCHEMA.names).filter(is_chosen)
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


def expected_bytes(width_px: int, height_px: int, side_px: int) -> int:
    """About the least that a crop takes once it is small, so that room is told before it is read.

    Args:
        width_px: of the crop.
        height_px: of the crop.
        side_px: greatest side of what comes out.
    """
    scale = min(1.0, side_px / max(width_px, height_px))
    num_pixels = width_px * scale * height_px * scale
    return _LEAST_BYTES + round(num_pixels * _LEAST_BYTES_PER_PIXEL)


def make_small(jpeg: bytes | None, side_px: int) -> dict[str, Any]:
    """Encodes a crop anew.

    Args:
        jpeg: as the lake has it.
        side_px: greatest side; a smaller crop keeps its own.

    Returns:
        `jpeg`, `width_px`, `height_px`; all None where there is no picture in the bytes.
    """
    try:
        with Image.open(io.BytesIO(jpeg or b""), formats=("JPEG",)) as image:
            image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
            small = image.convert("RGB")
    except Exception:  # whatever Pillow makes of bytes that are no picture: the page says so
        return {t.JPEG: None, t.WIDTH_PX: None, t.HEIGHT_PX: None}
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=QUALITY, optimize=True)
    return {t.JPEG: encoded.getvalue(), t.WIDTH_PX: small.width, t.HEIGHT_PX: small.height}
