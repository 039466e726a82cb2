"""Executor code: the bytes of a photo, from a disk or from a host."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from urllib.parse import unquote_to_bytes, urlsplit

from croplake.fetching.getter import Getter
from croplake.fetching.outcome import PhotoError, Status
from croplake.inference.listing import is_address

LoadBytes = Callable[[str], bytes]
"""Path or address in, the file's bytes out; raises PhotoError."""


def photo_loader(getter: Getter, *, max_bytes: int) -> LoadBytes:
    """Reads local photos and downloads the others.

    Args:
        getter: HTTP, with its own limits.
        max_bytes: a longer file is not read.

    Returns:
        A function of a path, a `file://` address or an http(s) address.
    """

    def load(path: str) -> bytes:
        return getter.get(path) if is_address(path) else read_local(path, max_bytes=max_bytes)

    return load


def read_local(path: str, *, max_bytes: int) -> bytes:
    """Reads a local photo.

    Args:
        path: a path, or a `file://` address.
        max_bytes: a longer file is not read.

    Returns:
        The file's bytes.

    Raises:
        PhotoError: `not_found`, `too_many_bytes`, or `unreadable` (no permission, no plain
            file, a fault of the disk).
    """
    if path.startswith("file://"):
        path = os.fsdecode(unquote_to_bytes(urlsplit(path).path))
    try:
        found = os.stat(path)
        # Reading a pipe would wait for ever.
        if not stat.S_ISREG(found.st_mode):
            raise PhotoError(Status.UNREADABLE, "not a plain file")
        if found.st_size > max_bytes:
            detail = f"{found.st_size} bytes, the limit is {max_bytes}"
            raise PhotoError(Status.TOO_MANY_BYTES, detail)
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PhotoError(Status.NOT_FOUND, str(error.strerror)) from error
    except OSError as error:
        raise PhotoError(Status.UNREADABLE, str(error.strerror or error)) from error
