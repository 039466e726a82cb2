"""Executor code: which Parquet files hold rows of given photos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from croplake import storage
from croplake import tables as t

FILES_SCHEMA: Final = pa.schema([(t.PATH, pa.string())])


def files_with_photos(
    batches: Iterable[pa.RecordBatch], *, folder: str, image_ids: frozenset[str]
) -> Iterator[pa.RecordBatch]:
    """Keeps of a list of files those with a row of one of the photos.

    Args:
        batches: in `FILES_SCHEMA`, paths below the folder.
        folder: address of a table with the column `image_id`.
        image_ids: of the photos.

    Returns:
        Batches in the same schema. A file that cannot be read to its end (a writer was killed while
        it wrote it) may hold anything, so it is among them.
    """
    wanted = pa.array(sorted(image_ids), pa.string())
    for batch in batches:
        found = [path for path in batch.column(0).to_pylist() if _holds_one(folder, path, wanted)]
        yield pa.record_batch([pa.array(found, pa.string())], schema=FILES_SCHEMA)


def _holds_one(folder: str, path: str, wanted: pa.Array) -> bool:
    with storage.open_below(folder, path) as content:
        try:
            file = pq.ParquetFile(content)
            for index in range(file.num_row_groups):
                ids = file.read_row_group(index, columns=[t.IMAGE_ID]).column(0)
                if pc.any(pc.is_in(ids, value_set=wanted)).as_py():
                    return True
        except pa.ArrowException:
            return True
    return False
