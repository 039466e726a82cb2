"""Executor code: rows in, the files of their shards out, and one row for each shard."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from croplake import storage
from croplake import tables as t
from croplake.export import folders, imagefolder, tfrecord, webdataset
from croplake.export.placing import place_bytes
from croplake.export.plan import OWN_FOLDER, Format, Manifest, Shard
from croplake.export.rows import SHARD, Row

ShardWriter = Callable[[str, Manifest, Shard, Iterable[Row]], str]
"""Writes all files of a shard, each whole; returns the path of the one that comes last."""
WRITERS: Final[Mapping[Format, ShardWriter]] = {
    "folders": folders.write_shard,
    "webdataset": webdataset.write_shard,
    "tfrecord": tfrecord.write_shard,
    "imagefolder": imagefolder.write_shard,
}
WRITTEN_SCHEMA: Final = pa.schema([(SHARD, pa.int32()), ("error", pa.string())])
"""One row is a shard that was tried; `error` is null where it is finished."""


@dataclass
class Marker:
    """What is kept of a finished shard, and proves that it is.

    Attributes:
        last: the path of its last file.
        last_bytes: that file's size.
        rows: its pictures.
        image_bytes: of all its pictures.
        licences: pictures by the address of their licence; an empty one is none.
    """

    last: str = ""
    last_bytes: int = 0
    rows: int = 0
    image_bytes: int = 0
    licences: Counter[str] = field(default_factory=Counter)

    def counting(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, counted."""
        for row in rows:
            self.rows += 1
            self.image_bytes += len(row[t.IMAGE])
            self.licences[row[t.LICENSE] or ""] += 1
            yield row

    def to_bytes(self) -> bytes:
        """As a file."""
        return json.dumps(vars(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Marker:
        """From its file."""
        values: dict[str, Any] = json.loads(content)
        return cls(**values | {"licences": Counter(values["licences"])})


def write_shards(
    batches: Iterable[pa.RecordBatch], *, into: str, manifest: Manifest
) -> Iterator[pa.RecordBatch]:
    """Writes shards.

    A shard whose files cannot be written is a row with its error; the others go on.

    Args:
        batches: of `ROWS_SCHEMA`, the rows of a shard one after the other.
        into: address of the export.
        manifest: of the export.

    Yields:
        Batches of `WRITTEN_SCHEMA`, one row a shard.

    Raises:
        ValueError: the rows of a shard are not as many as were planned.
    """
    shards = {shard.id: shard for shard in manifest.shards}
    rows = (row for batch in batches for row in batch.to_pylist())
    for number, of_shard in itertools.groupby(rows, key=lambda row: row[SHARD]):
        error = None
        try:
            _write_shard(into, manifest, shards[number], of_shard)
        except OSError as problem:
            error = f"{shards[number].name}: {problem}"
        written = {SHARD: number, "error": error}
        yield pa.RecordBatch.from_pylist([written], schema=WRITTEN_SCHEMA)


def _write_shard(into: str, manifest: Manifest, shard: Shard, rows: Iterable[Row]) -> None:
    marker = Marker()
    checked = _all_of(shard, marker, marker.counting(rows))
    marker.last = WRITERS[manifest.format](into, manifest, shard, checked)
    marker.last_bytes = storage.size_bytes(storage.join(into, marker.last)) or 0
    place_bytes(into, marker_path(shard), marker.to_bytes())


def _all_of(shard: Shard, marker: Marker, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows; an error at their end, before their file is at its place, if some are missing."""
    yield from rows
    if marker.rows != shard.rows:
        raise ValueError(f"{shard.name}: {marker.rows} rows came, {shard.rows} were planned")


def marker_path(shard: Shard) -> str:
    """Where a finished shard's marker lies below its export."""
    return f"{OWN_FOLDER}/done/{shard.name}.json"
