"""Executor code: the bytes of a photo, from a disk, a storage or a host."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from croplake import storage
from croplake.errors import SettingsError
from croplake.fetching.getter import Getter
from croplake.fetching.outcome import PhotoError, Status
from croplake.inference.listing import is_address
from croplake.inference.stored import Store, is_stored, split_address

LoadBytes = Callable[[str], bytes]
"""Path or address in, the file's bytes out; raises PhotoError."""


def photo_loader(getter: Getter, *, max_bytes: int) -> LoadBytes:
    """Reads photos that lie somewhere and downloads the others.

    Args:
        getter: HTTP, with its own limits.
        max_bytes: a longer file is not read.

    Returns:
        A function of a path, a `file://` address, an address of the storage or an http(s) address;
        any thread may call it.
    """
    stores: dict[str, Store] = {}

    def load(path: str) -> bytes:
        if is_address(path):
            return getter.get(path)
        if not is_stored(path):
            return read_local(path, max_bytes=max_bytes)
        root, inside = split_address(path)
        if root not in stores:
            try:
                stores[root] = Store(root)
            except SettingsError as error:
                raise PhotoError(Status.BAD_ADDRESS, str(error)) from error
        return read_stored(stores[root], inside, max_bytes=max_bytes)

    return load


def read_local(path: str, *, max_bytes: int) -> bytes:
    """Reads a local photo.

    Args:
        path: an absolute path, or a `file:` address.
        max_bytes: a longer file is not read.

    Returns:
        The file's bytes.

    Raises:
        PhotoError: `bad_address` (no absolute path), `not_found`, `too_many_bytes`, or
            `unreadable` (no permission, no plain file, a fault of the disk).
    """
    if storage.is_local(path):
        path = str(storage.local_path(path))
    if not os.path.isabs(path) or "\x00" in path:
        raise PhotoError(
            Status.BAD_ADDRESS,
            f"{path!r}: expected an absolute path, or an address (http, https, file, s3a, hdfs)",
        )
    try:
        found = os.stat(path)
        # Reading a pipe would wait for ever.
        if not stat.S_ISREG(found.st_mode):
            raise PhotoError(Status.UNREADABLE, "not a plain file")
        check_length(found.st_size, max_bytes=max_bytes)
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PhotoError(Status.NOT_FOUND, str(error.strerror)) from error
    except OSError as error:
        raise PhotoError(Status.UNREADABLE, str(error.strerror or error)) from error


def read_stored(store: Store, path: str, *, max_bytes: int) -> bytes:
    """Reads a photo of a storage; errors as `read_local`."""
    try:
        with store.open(path) as file:
            check_length(file.size(), max_bytes=max_bytes)
            return bytes(file.read())
    except FileNotFoundError as error:
        raise PhotoError(Status.NOT_FOUND, str(error)) from error
    except OSError as error:
        raise PhotoError(Status.UNREADABLE, str(error)) from error


def check_length(num_bytes: int, *, max_bytes: int) -> None:
    """Refuses a file that is too long; raises PhotoError (`too_many_bytes`)."""
    if num_bytes > max_bytes:
        raise PhotoError(Status.TOO_MANY_BYTES, f"{num_bytes} bytes, the limit is {max_bytes}")
