"""The lines of a range of a file, some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from croplake import storage

_PIECE_BYTES: Final = 8 * 1024 * 1024
"""So much is parsed at once."""
_SEARCH_BYTES: Final = 64 * 1024
"""So much is looked through at once for the end of a line."""


def pieces(uri: str, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines: all that begin in a range of bytes, some at a time, with where they begin."""
    with storage.open_random(uri) as file:
        # A line begins after the end of another: the byte before the range decides of the first.
        at = _after_line(file, start - 1) if start else 0
        after_last = _after_line(file, end - 1)
        num_bytes = _PIECE_BYTES
        while at < after_last:
            file.seek(at)
            piece = file.read(min(num_bytes, after_last - at))
            if not piece:
                raise OSError(f"{uri}: became shorter while it was read")
            if at + len(piece) < after_last:
                whole = piece.rfind(b"\n") + 1
                if not whole:  # a very long line
                    num_bytes *= 2
                    continue
                piece = piece[:whole]
            yield at, piece
            at += len(piece)


def _after_line(file: pa.NativeFile, at: int) -> int:
    """Where the line ends that holds a place in a file; the file's size where none does."""
    if at >= file.size():
        return int(file.size())
    file.seek(at)
    while some := file.read(_SEARCH_BYTES):
        found = some.find(b"\n")
        if found >= 0:
            return at + int(found) + 1
        at += len(some)
    return at
