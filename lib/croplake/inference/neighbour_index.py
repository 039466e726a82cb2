"""The nearest of very many vectors, nearly exactly: an index of faiss, kept on this machine.

The vectors are sorted into lists around centres, one byte a number (IVF, SQ8). A search looks into
the lists whose centres are nearest only; the file is mapped, so it reads no others.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from croplake import storage
from croplake.errors import IncompleteError, SettingsError
from croplake.inference.embedding import Vectors
from croplake.inference.neighbours import Neighbour, neighbours_of, unit
from croplake.inference.vectors import StoredVectors

_FORMAT: Final = "1"
_INDEX: Final = "index.faiss"
_KEYS: Final = "keys.arrow"
_SAMPLE_PER_LIST: Final = 40
"""Vectors that a centre is placed by."""
_LOOKED_AT: Final = 8
"""A search looks at one in so many lists at first."""


@dataclass(frozen=True)
class IndexSearch:
    """Asks an index; see `neighbours.Search`.

    Attributes:
        folder: that holds it.
    """

    folder: Path

    def nearest(self, query: Vectors, count: int) -> list[Neighbour]:
        """See `neighbours.Search`; a few of the nearest may be missing, distances are rounded."""
        faiss = import_faiss()
        index = faiss.read_index(str(self.folder / _INDEX), faiss.IO_FLAG_MMAP)
        lists = max(1, math.ceil(index.nlist / _LOOKED_AT))
        while True:
            index.nprobe = min(lists, index.nlist)
            asked = min(count, index.ntotal)
            likeness, rows = index.search(unit(query[None])[0], asked)
            is_found = rows[0] >= 0
            if is_found.all() or index.nprobe == index.nlist:
                break
            lists *= 2
        with pa.memory_map(str(self.folder / _KEYS)) as file:
            keys = pa.ipc.open_file(file).read_all().take(pa.array(rows[0][is_found]))
            return neighbours_of(keys, 1 - likeness[0][is_found])


def open_index(
    stored: StoredVectors, num_features: int, *, max_bytes: int, tell: Callable[[str], None]
) -> IndexSearch:
    """The index of a network's vectors, made where it is not there or is of others.

    Args:
        stored: the vectors.
        num_features: their length.
        max_bytes: greatest size of the index.
        tell: says that one is being made.

    Raises:
        SettingsError: faiss is not installed, or the index would be too large.
        IncompleteError: there is no room for it.
    """
    import_faiss()
    folder = _folder_of(stored.reader.path("embeddings")) / stored.digest
    contents = "\n".join((_FORMAT, *stored.files))
    place = folder / hashlib.sha256(contents.encode()).hexdigest()[:24]
    if place.is_dir():
        return IndexSearch(place)
    if (num_bytes := stored.num_rows * num_features) > max_bytes:
        raise SettingsError(
            f"similar.max_index_bytes: the index of {stored.num_rows:,} vectors of {num_features} "
            f"numbers takes {num_bytes:,} bytes, more than {max_bytes:,}; allow for it, or raise "
            "similar.exact_up_to to look through all of them without an index"
        )
    tell(f"making an index of {stored.num_rows:,} vectors in {place}")
    try:
        _make(stored, num_features, place)
    except OSError as error:
        raise IncompleteError(
            f"{place}: the index could not be written ({error}); make room there, or set "
            "XDG_CACHE_HOME, and run the same command again"
        ) from error
    # Who still searches an older one has it mapped.
    for other in folder.iterdir():
        if other != place and not other.name.startswith("."):
            shutil.rmtree(other, ignore_errors=True)
    return IndexSearch(place)


def drop_indexes(table: str) -> None:
    """Removes this machine's indexes of a lake.

    Args:
        table: address of its embeddings.
    """
    shutil.rmtree(_folder_of(table), ignore_errors=True)


def import_faiss() -> Any:  # noqa: ANN401  # it has no types
    """The library, which is no part of a plain installation.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise SettingsError(
            f"so many crops are searched by faiss, which is not installed ({error}); pip install "
            "'croplake[similar]', or raise similar.exact_up_to to look through all of them"
        ) from error


def _folder_of(table: str) -> Path:
    name = hashlib.sha256(table.encode()).hexdigest()[:24]
    return storage.cache_folder("similar") / name


def _make(stored: StoredVectors, num_features: int, place: Path) -> None:
    faiss = import_faiss()
    num_lists = max(1, min(round(2 * math.sqrt(stored.num_rows)), stored.num_rows // 39))
    measure = faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(num_features, f"IVF{num_lists},SQ8", measure)
    index.cp.min_points_per_centroid = 1  # of fewer than 39 faiss warns
    index.train(_sample(stored, num_features, num_lists * _SAMPLE_PER_LIST))
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".making-") as part:
        with pa.OSFile(f"{part}/{_KEYS}", "wb") as file:
            writer = None
            for keys, vectors in stored.blocks(num_features):
                scaled, lengths = unit(vectors)
                is_whole = lengths > 0  # others point nowhere
                index.add(scaled[is_whole])
                keys = keys.filter(pa.array(is_whole))
                writer = writer or pa.ipc.new_file(file, keys.schema)
                writer.write_batch(keys)
            if writer is not None:
                writer.close()
        faiss.write_index(index, f"{part}/{_INDEX}")
        Path(part, "done").mkdir()
        for name in (_INDEX, _KEYS):
            Path(part, name).rename(Path(part, "done", name))
        try:
            os.rename(f"{part}/done", place)
        except OSError:
            if not place.is_dir():  # else another process was faster
                raise


def _sample(stored: StoredVectors, num_features: int, num_wanted: int) -> Vectors:
    """Every so-manieth vector."""
    step = max(1, stored.num_rows // num_wanted)
    parts, passed = [], 0
    for _, vectors in stored.blocks(num_features):
        parts.append(unit(vectors[(-passed) % step :: step])[0])
        passed += len(vectors)
    return np.concatenate(parts)
