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
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from numpy.typing import NDArray

from croplake import storage
from croplake.errors import IncompleteError, SettingsError
from croplake.inference.embedding import Vectors
from croplake.inference.neighbours import Neighbour, neighbours_of, unit
from croplake.inference.vectors import StoredVectors

_FORMAT: Final = "1"
_INDEX: Final = "index.faiss"
_KEYS: Final = "keys.arrow"
_MAKING: Final = ".making-"
"""Begins the names of folders in which an index grows."""
_GIVEN_UP_S: Final = 24 * 3600.0
_SAMPLE_PER_LIST: Final = 40
"""Vectors that a centre is placed by."""
_TRIED: Final = 32
"""Of its own vectors an index is asked about so many, to learn how many lists it must look into."""
_NEAREST: Final = 20
_WANTED_RECALL: Final = 0.98


@dataclass(frozen=True)
class IndexSearch:
    """Asks an index; see `neighbours.Search`.

    Attributes:
        folder: that holds it.
        wanted: condition on the columns of `vectors.KEYS` of what may be found; None is all.
    """

    folder: Path
    wanted: pads.Expression | None = None

    def nearest(self, query: Vectors, count: int) -> list[Neighbour]:
        """See `neighbours.Search`; a few of the nearest may be missing, distances are rounded."""
        faiss = import_faiss()
        index = faiss.read_index(str(self.folder / _INDEX), faiss.IO_FLAG_MMAP)
        is_wanted = self._is_wanted()
        num_wanted = index.ntotal if is_wanted is None else np.count_nonzero(is_wanted)
        if not num_wanted:
            return []
        limits = {}
        if is_wanted is not None:
            limits["sel"] = faiss.IDSelectorBitmap(np.packbits(is_wanted, bitorder="little"))
        # The rarer what is wanted, the further from the photo are the lists with the nearest of it.
        num_lists = min(math.ceil(index.nprobe * index.ntotal / num_wanted), index.nlist)
        while True:
            parameters = faiss.SearchParametersIVF(nprobe=num_lists, **limits)
            asked = min(count, num_wanted)
            squares, rows = index.search(unit(query[None])[0], asked, params=parameters)
            is_found = rows[0] >= 0
            if is_found.all() or num_lists == index.nlist:
                break
            num_lists = min(2 * num_lists, index.nlist)
        with pa.memory_map(str(self.folder / _KEYS)) as file:
            keys = pa.ipc.open_file(file).read_all().take(pa.array(rows[0][is_found]))
            return neighbours_of(keys, squares[0][is_found] / 2)

    def _is_wanted(self) -> NDArray[np.bool_] | None:
        """Of each crop in the index, bool, shape (N,); None where all are."""
        if self.wanted is None:
            return None
        keys = pads.dataset(str(self.folder / _KEYS), format="ipc")
        (column,) = keys.to_table(columns={"is_wanted": self.wanted}).columns
        return np.asarray(column.to_numpy(), bool)


def open_index(
    stored: StoredVectors,
    num_features: int,
    *,
    max_bytes: int,
    tell: Callable[[str], None],
    wanted: pads.Expression | None = None,
) -> IndexSearch:
    """The index of a network's vectors, made where it is not there or is of others.

    Args:
        stored: the vectors.
        num_features: their length.
        max_bytes: greatest size of the index.
        tell: says that one is being made.
        wanted: condition on the columns of `vectors.KEYS` of what may be found; None is all.

    Raises:
        SettingsError: faiss is not installed, or the index would be too large.
        IncompleteError: there is no room for it.
    """
    import_faiss()
    folder = _folder_of(stored.reader.path("embeddings")) / stored.digest
    contents = "\n".join((_FORMAT, *stored.files))
    place = folder / hashlib.sha256(contents.encode()).hexdigest()[:24]
    if place.is_dir():
        return IndexSearch(place, wanted)
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
    for other in folder.iterdir():
        if other != place and (not other.name.startswith(_MAKING) or _is_given_up(other)):
            shutil.rmtree(other, ignore_errors=True)
    return IndexSearch(place, wanted)


def _is_given_up(making: Path) -> bool:
    """Whether an index that is being made is so old that it has lost its process."""
    try:
        return time.time() - making.stat().st_mtime > _GIVEN_UP_S
    except FileNotFoundError:  # it is done by now
        return False


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
    # Of unit vectors the squared distance is twice the one by cosine. Inner products order alike,
    # but what a byte rounds off counts for more there.
    index = faiss.index_factory(num_features, f"IVF{num_lists},SQ8", faiss.METRIC_L2)
    index.cp.min_points_per_centroid = 1  # of fewer than 39 faiss warns
    sample = _sample(stored, num_features, num_lists * _SAMPLE_PER_LIST)
    index.train(sample)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=_MAKING) as part:
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
        index.nprobe = _lists_to_look_into(index, sample[:: max(1, len(sample) // _TRIED)])
        try:
            faiss.write_index(index, f"{part}/{_INDEX}")
        except RuntimeError as error:  # what faiss makes of a full disk
            raise OSError(str(error)) from error
        Path(part, "done").mkdir()
        for name in (_INDEX, _KEYS):
            Path(part, name).rename(Path(part, "done", name))
        try:
            os.rename(f"{part}/done", place)
        except OSError:
            if not place.is_dir():  # else another process was faster
                raise


def _lists_to_look_into(index: Any, queries: Vectors) -> int:  # noqa: ANN401
    """The fewest, by doubling, that hold nearly all of the nearest of vectors of its own."""
    num_nearest = min(_NEAREST + 1, index.ntotal)  # a vector is the nearest of itself
    index.nprobe = index.nlist
    nearest = [set(rows) for rows in index.search(queries, num_nearest)[1].tolist()]
    num_lists = 1
    while num_lists < index.nlist:
        index.nprobe = num_lists
        found = index.search(queries, num_nearest)[1].tolist()
        pairs = zip(nearest, found, strict=True)
        num_found = sum(len(wanted & set(rows)) for wanted, rows in pairs)
        if num_found >= _WANTED_RECALL * num_nearest * len(queries):
            return num_lists
        num_lists *= 2
    return int(index.nlist)


def _sample(stored: StoredVectors, num_features: int, num_wanted: int) -> Vectors:
    """Every so-manieth vector."""
    step = max(1, stored.num_rows // num_wanted)
    parts, passed = [], 0
    for _, vectors in stored.blocks(num_features):
        parts.append(unit(vectors[(-passed) % step :: step])[0])
        passed += len(vectors)
    return np.concatenate(parts)
