"""Which photos a user means: folders, globs, files, addresses and lists of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from croplake import storage
from croplake.errors import CroplakeError, InputDataError
from croplake.inference.stored import is_stored, list_stored

EXPECTED: Final = (
    "expected a folder, a glob or a file, local or s3a://, an http(s) address, @FILE with a list, "
    "or delta:TABLE#COLUMN"
)
TABLE: Final = "delta:"
"""What the pattern of a table begins with; see `table_source`."""


def list_photos(patterns: Sequence[str]) -> list[str]:
    """Lists the photos that patterns stand for, each once, in the patterns' order.

    A pattern is one of:

    - a folder: all files in it and below, sorted, whatever their ending (a file that is no photo
      gets a row that says so); links are followed, hidden files and folders are skipped;
    - a glob (`*`, `?`, `[…]`, `**`), sorted; a folder that it matches is taken whole;
    - a file;
    - any of these on S3 (`s3a://`, `s3://`) or HDFS, with the credentials of the environment;
    - an http or https address; one that cannot be asked gets a row that says so;
    - `@FILE`: a UTF-8 file with one pattern a line; empty lines and lines that begin with `#` are
      skipped. A plain path in it need not exist: it gets a row that says so.

    Args:
        patterns: at least one; relative paths are of the working directory.

    Returns:
        Absolute paths and addresses. A path that is not Unicode is a `file://` address.

    Raises:
        SettingsError: an address of a storage names no bucket.
        InputDataError: a pattern stands for nothing, or a folder or list cannot be read.
    """
    if not patterns:
        raise InputDataError(f"no photos named; {EXPECTED}")
    found: dict[str, None] = {}
    for pattern in patterns:
        if not pattern.strip() or "\0" in pattern:
            raise InputDataError(f"{pattern!r} names no photos; {EXPECTED}")
        photos = _of_list(pattern) if pattern.startswith("@") else _of_pattern(pattern)
        if not photos:
            raise InputDataError(f"{pattern}: no photos there; {EXPECTED}")
        found.update(dict.fromkeys(photos))
    return list(found)


def plain_patterns(patterns: Sequence[str]) -> Iterator[str]:
    """The patterns, and in place of a list those that stand in it.

    Raises:
        InputDataError: a list cannot be read, or names a table.
    """
    for pattern in patterns:
        if pattern.startswith("@"):
            yield from (entry for _, entry in _entries(pattern))
        else:
            yield pattern


def is_address(path: str) -> bool:
    """Whether a listed photo is to be downloaded; the address may still be a wrong one."""
    return path.lower().startswith(("http:", "https:"))


def locate(photo: str) -> str:
    """The absolute path or the address of one photo, whether it is there or not."""
    if not photo or is_address(photo) or not storage.is_local(photo):
        return photo
    return _listed(str(expanded(photo)))


def expanded(pattern: str) -> Path:
    """A local path; `~` is the user's home, unless something of that name is there."""
    path = storage.local_path(pattern)
    return path if os.path.lexists(path) else Path(os.path.expanduser(path))


def _entries(pattern: str) -> list[tuple[int, str]]:
    """The patterns of a list with their lines."""
    file = pattern[1:]
    try:
        content = storage.read_bytes(file) if is_stored(file) else expanded(file).read_bytes()
        # Not splitlines: a name may hold any of the other signs that end a line.
        lines = content.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputDataError(f"{pattern}: the list cannot be read: {error}") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        entry = line.strip(" \t\r")
        if not entry or entry.startswith("#"):
            continue
        if entry.startswith(TABLE):
            raise InputDataError(f"{pattern}, line {number}: {entry}: a table is named by itself")
        entries.append((number, entry))
    return entries


def _of_list(pattern: str) -> list[str]:
    photos: list[str] = []
    for number, entry in _entries(pattern):
        try:
            of_entry = _of_pattern(entry)
        except CroplakeError as error:
            raise InputDataError(f"{pattern}, line {number}: {error}") from error
        if not of_entry and not glob.has_magic(entry):
            of_entry = [locate(entry)]
        if not of_entry:
            raise InputDataError(f"{pattern}, line {number}: {entry}: no photos there")
        photos += of_entry
    return photos


def _of_pattern(pattern: str) -> list[str]:
    if is_address(pattern):
        return [pattern]
    if is_stored(pattern):
        try:
            return list_stored(pattern)
        except OSError as error:
            raise InputDataError(f"{pattern}: cannot be read: {error}") from error
    if not storage.is_local(pattern):
        raise InputDataError(f"{pattern}: photos are not read from there; {EXPECTED}")
    path = str(expanded(pattern))
    # A file may be called photo[1].jpg: what is there comes before what it might match.
    if os.path.lexists(path):
        return list(_below(path))
    matches = sorted(glob.glob(path, recursive=True))
    return [photo for match in matches for photo in _below(match)]


def _below(path: str) -> Iterator[str]:
    """All that is no folder: of a pipe or of a link to nothing, its row says so."""
    if not os.path.isdir(path):
        yield _listed(path)
        return
    seen = set()
    for folder, folders, files in os.walk(path, onerror=_refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link has led here again
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield _listed(os.path.join(folder, name))


def _refuse(error: OSError) -> None:
    raise InputDataError(f"{error.filename}: the folder cannot be read: {error.strerror}")


def _listed(path: str) -> str:
    absolute = os.path.abspath(path)
    try:
        absolute.encode()
    except UnicodeEncodeError:
        return Path(absolute).as_uri()
    return absolute
