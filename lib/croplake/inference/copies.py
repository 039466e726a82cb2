"""Executor code of `--sort-into`: photos into folders by category, while their bytes are at hand.

A photo keeps its name. Where another photo of the run has the same name, or another file lies in
its place, eight digits of its content's SHA-256 follow the name: what a photo is called depends on
the photos alone, and a rerun finds its copies there. No photo is ever overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from croplake import storage
from croplake import tables as t
from croplake.export.names import folder_names, safe_name
from croplake.fetching.photo import sniff_format
from croplake.inference.listing import TABLE, is_address
from croplake.inference.photos import ANSWERED, STATUS_UNSURE, Opened

NOT_SORTED: Final = "not_sorted.csv"
"""The list of photos that have no category, beside the folders."""
UNSURE_FOLDER: Final = STATUS_UNSURE
PARTS: Final = ".croplake-parts"
"""Where copies grow on a local root: what a killed run leaves is there."""
NAME_KEY: Final = "name_key"
NAMES_SCHEMA: Final = pa.schema([(t.PATH, pa.string()), (NAME_KEY, pa.string())])
_MAX_NAME_BYTES: Final = 230
"""File systems take 255; eight digits and a part's name need room."""
_MAX_FAILURES: Final = 100
_UPLOADS: Final = 8
_CHUNK: Final = 1 << 20
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,5}")
_ENDINGS: Final = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}


@dataclass(frozen=True)
class CopyPlan:
    """Where photos go.

    Attributes:
        into: address of the folder.
        folders: category to the folder's name.
    """

    into: str
    folders: Mapping[str, str]


class Copies:
    """Copies the photos of one task; a `photos.Sink`.

    Attributes:
        num_copied: photos that lie in their folders, those that did before among them.
        failures: of each photo that could not be written, path and reason; the first ones.
        num_failed: all of them.
    """

    def __init__(self, plan: CopyPlan) -> None:
        self._plan = plan
        self._place = _Place(plan.into)
        # An object store takes its time for each file, whatever its size.
        self._pool = None if storage.is_local(plan.into) else ThreadPoolExecutor(_UPLOADS)
        self._under_way: list[tuple[str, Future[None]]] = []
        self.num_copied = self.num_failed = 0
        self.failures: list[tuple[str, str]] = []

    def take(self, photo: Opened, row: dict[str, Any]) -> None:
        """Copies a photo that has an answer."""
        if row[t.STATUS] not in ANSWERED or photo.data is None:
            return
        is_unsure = row[t.STATUS] == STATUS_UNSURE
        folder = UNSURE_FOLDER if is_unsure else self._plan.folders[row[t.CATEGORY]]
        data, path, is_shared = photo.data, photo.path, photo.is_shared_name
        if self._pool is None:
            self._note(path, lambda: self._place.put(folder, path, data, is_shared))
            return
        if len(self._under_way) >= 2 * _UPLOADS:
            self._settle(_UPLOADS)
        put = self._pool.submit(self._place.put, folder, path, data, is_shared)
        self._under_way.append((path, put))

    def close(self) -> None:
        """Waits for the last."""
        self._settle(0)
        if self._pool is not None:
            self._pool.shutdown()

    def _settle(self, most: int) -> None:
        while len(self._under_way) > most:
            path, put = self._under_way.pop(0)
            self._note(path, put.result)

    def _note(self, path: str, put: Any) -> None:  # noqa: ANN401  # a function without arguments
        try:
            put()
            self.num_copied += 1
        except OSError as error:
            self.num_failed += 1
            if len(self.failures) < _MAX_FAILURES:
                self.failures.append((path, str(error)))


def file_name(path: str) -> str:
    """What a photo's copy is called: the last part of its path or address.

    Names of local files stay as they are, on a local root also where they are not Unicode; of
    others, signs that some file systems refuse are replaced.
    """
    is_file = path.startswith("/") or (path.startswith("file:/") and storage.is_local(path))
    if is_file:
        return storage.local_path(path).name
    inside = path
    if path.startswith(TABLE):
        inside = path.rpartition("#")[2]
    elif is_address(path):
        with contextlib.suppress(ValueError):
            inside = unquote(urlsplit(path).path)
    return safe_name(inside.rstrip("/").rsplit("/", 1)[-1], nameless="photo")


def name_key(path: str) -> str:
    """Equal for names that some file system takes for one."""
    stem, ending = _split(file_name(path))
    name = _short(stem, ending or _ENDINGS["JPEG"])  # what nearly all photos without one get
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def add_name_keys(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches with the column `path` in, of `NAMES_SCHEMA` out."""
    for batch in batches:
        paths = batch.column(t.PATH)
        keys = [_unicode(name_key(path or "")) for path in paths.to_pylist()]
        yield pa.RecordBatch.from_arrays([paths, pa.array(keys, pa.string())], schema=NAMES_SCHEMA)


def _unicode(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")


def sort_folders(categories: Sequence[str]) -> dict[str, str]:
    """The folder of each category; none is that of unsure photos."""
    names = folder_names(categories)
    taken = (UNSURE_FOLDER, NOT_SORTED)
    return {
        category: f"{name}-{hashlib.sha256(category.encode()).hexdigest()[:8]}"
        if name.casefold() in taken
        else name
        for category, name in names.items()
    }


class _Place:
    """The target folder on its file system."""

    def __init__(self, into: str) -> None:
        self._files, (self._base,) = storage.on_filesystem([into])
        self._is_local = storage.is_local(into)

    def put(self, folder: str, path: str, data: bytes, is_shared: bool) -> None:
        """Copies a photo to where nothing else is.

        Raises:
            OSError: it cannot be written.
        """
        name = _with_ending(file_name(path), data)
        if not self._is_local:
            name = _unicode(name)  # as keys in a bucket are
        marked = _marked(name, hashlib.sha256(data).hexdigest())
        if self._holds(folder, name, data) or self._holds(folder, marked, data):
            return
        if not is_shared and self._write(folder, name, data):
            return
        # Another task may have put the same photo there by now.
        if not self._write(folder, marked, data) and not self._holds(folder, marked, data):
            raise FileExistsError(f"{folder}/{marked}: another file lies there")

    def _at(self, folder: str, name: str) -> str:
        return f"{self._base}/{folder}/{name}"

    def _holds(self, folder: str, name: str, data: bytes) -> bool:
        """Whether the photo lies there already."""
        at = self._at(folder, name)
        if self._size(at) != len(data):
            return False
        # Not pyarrow's for local files: names need not be Unicode.
        with open(at, "rb") if self._is_local else self._files.open_input_stream(at) as file:
            return all(
                file.read(_CHUNK) == data[start : start + _CHUNK]
                for start in range(0, len(data), _CHUNK)
            )

    def _size(self, at: str) -> int | None:
        """Of a file; None where there is none."""
        if self._is_local:
            return os.path.getsize(at) if os.path.isfile(at) else None
        info = self._files.get_file_info(at)
        return int(info.size) if info.type == pafs.FileType.File else None

    def _write(self, folder: str, name: str, data: bytes) -> bool:
        """Writes a file, whole; False where something lies there."""
        at = self._at(folder, name)
        if self._is_local:
            return self._write_local(at, data)
        if self._files.get_file_info(at).type != pafs.FileType.NotFound:
            return False
        with self._files.open_output_stream(at) as stream:
            stream.write(data)
        return True

    def _write_local(self, at: str, data: bytes) -> bool:
        if os.path.lexists(at):
            return False
        part = os.path.join(self._base, PARTS, uuid.uuid4().hex)
        for file in (part, at):
            os.makedirs(os.path.dirname(file), exist_ok=True)
        try:
            with open(part, "wb") as content:
                content.write(data)
            return _give_name(part, at)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)


def _give_name(part: str, at: str) -> bool:
    """Puts a whole file at its place; False where something lies there."""
    try:
        # Unlike a rename it fails where another run has been faster.
        os.link(part, at)
    except FileExistsError:
        return False
    except OSError:
        if os.path.lexists(at):
            return False
        os.replace(part, at)  # on a file system without links
    return True


def _with_ending(name: str, data: bytes) -> str:
    """The name, not too long, and with an ending where an address had none."""
    stem, ending = _split(name)
    found = None if ending else sniff_format(data)
    if found is not None:
        ending = _ENDINGS.get(found, f".{found.lower()}")
    return _short(stem, ending)


def _split(name: str) -> tuple[str, str]:
    """Stem and ending; what follows a name's last dot need not be one."""
    ending = PurePosixPath(name).suffix
    return (PurePosixPath(name).stem, ending) if _EXTENSION.fullmatch(ending) else (name, "")


def _short(stem: str, ending: str) -> str:
    kept = os.fsencode(stem)[: _MAX_NAME_BYTES - len(ending)]
    # Names need not be Unicode, but are not cut in the middle of a letter where they are.
    whole = kept.decode(errors="ignore") if _unicode(stem) == stem else os.fsdecode(kept)
    return whole + ending


def _marked(name: str, digest: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}-{digest[:8]}{dot}{ending}" if dot else f"{name}-{digest[:8]}"
