"""Files that appear below a folder whole or not at all, on any storage."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from croplake import storage
from croplake import tables as t
from croplake.export.plan import OWN_FOLDER
from croplake.export.rows import Row

PARTS: Final = f"{OWN_FOLDER}/parts"
"""Where files grow on a local root: what a killed run leaves is there, and nowhere else."""
_UPLOADS: Final = 16


@contextmanager
def whole_file(into: str, path: str) -> Iterator[Path]:
    """A file to write, which is at its place once the block has ended without an error.

    Args:
        into: address of the export.
        path: of the file below it.

    Yields:
        Where to write it, on a local file system.
    """
    if storage.is_local(into):
        # A path, not an address: names of folders are not percent-encoded.
        root = storage.local_path(into)
        part = root / PARTS / uuid.uuid4().hex
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory(prefix="croplake-export-") as folder:
        part = Path(folder, "part")
        yield part
        storage.upload_file(part, storage.join(into, path))


def place_bytes(into: str, path: str, content: bytes) -> None:
    """Puts a small file at its place; see `whole_file`."""
    if storage.is_local(into):
        with whole_file(into, path) as part:
            part.write_bytes(content)
    else:
        storage.write_bytes(storage.join(into, path), content)


def place_file(into: str, path: str, file: Path) -> None:
    """Puts a copy of a local file at its place; see `whole_file`."""
    with whole_file(into, path) as part:
        shutil.copyfile(file, part)


def place_pictures(into: str, rows: Iterable[Row], path_of: Callable[[Row], str]) -> Iterator[Row]:
    """Puts the picture of each row at its place.

    Args:
        into: address of the export.
        rows: of `ROWS_SCHEMA`.
        path_of: the picture's path below `into`.

    Yields:
        The rows in their order, each once its picture is there.
    """
    # An object store takes its time for each file, whatever its size.
    threads = 1 if storage.is_local(into) else _UPLOADS
    under_way: deque[tuple[Row, Future[None]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for row in rows:
            under_way.append((row, pool.submit(place_bytes, into, path_of(row), row[t.IMAGE])))
            if len(under_way) > 2 * threads:
                yield _placed(under_way)
        while under_way:
            yield _placed(under_way)


def _placed(under_way: deque[tuple[Row, Future[None]]]) -> Row:
    row, future = under_way.popleft()
    future.result()
    return row
