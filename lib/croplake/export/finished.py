"""Which shards of an export are finished: their markers, and the files that these speak of."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from croplake import storage
from croplake.export import folders, imagefolder
from croplake.export.plan import Format, Manifest, Shard
from croplake.export.task import Marker, marker_path

_PICTURE_PATHS: Final[Mapping[Format, Callable[[str, Shard], list[str]]]] = {
    "folders": folders.picture_paths,
    "imagefolder": imagefolder.picture_paths,
}
"""What names a shard's pictures, in formats whose every picture is a file of its own."""
_READS: Final = 16
"""Shards that are looked at at once: an object store takes its time for each file."""


def finished_shards(into: str, manifest: Manifest) -> dict[int, Marker]:
    """The markers of the shards whose files are all there, by their ids.

    The export is listed once: a question for each of its pictures would take a bucket hours, and
    NFS answers such a one from what it knew before other machines wrote.

    Args:
        into: address of the export.
        manifest: of the export.
    """
    sizes = {file.path: file.bytes for file in storage.files_below(into)}
    with ThreadPoolExecutor(_READS) as pool:
        markers = pool.map(partial(_marker, into, manifest.format, sizes), manifest.shards)
        found = {shard.id: marker for shard, marker in zip(manifest.shards, markers, strict=True)}
    return {shard_id: marker for shard_id, marker in found.items() if marker is not None}


def _marker(into: str, format: Format, sizes: Mapping[str, int], shard: Shard) -> Marker | None:
    """A shard's marker; None where it has none, or where what it says is not what is there."""
    path = marker_path(shard)
    if path not in sizes:
        return None
    try:
        marker = Marker.from_bytes(storage.read_bytes(storage.join(into, path)))
        if sizes.get(marker.last) != marker.last_bytes:
            return None
        if format in _PICTURE_PATHS:
            paths = _PICTURE_PATHS[format](into, shard)
            found = [sizes[path] for path in paths if path in sizes]
            if (len(found), sum(found)) != (marker.rows, marker.image_bytes):
                return None
    except (csv.Error, KeyError, TypeError, ValueError):
        return None  # what cannot be read proves nothing
    return marker
