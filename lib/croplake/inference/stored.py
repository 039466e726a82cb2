"""Photos on S3 and HDFS: addresses as people write them, whatever signs are in their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pyarrow.fs as pafs

from croplake import storage

_STORED: Final = re.compile(r"((?:s3a?|hdfs)://[^/]*)(?:/(.*))?", re.IGNORECASE | re.DOTALL)
MAGIC: Final = re.compile(r"[*?[]")
"""What makes a glob of an address."""


def is_stored(path: str) -> bool:
    """Whether a path is an address that the storage layer reads, and no local one."""
    return _STORED.fullmatch(path) is not None


class Store:
    """Files below one root (`s3a://BUCKET`, `hdfs://HOST`); names are taken as they are."""

    def __init__(self, address: str) -> None:
        root, _ = split_address(address)
        self._files, (self._base,) = storage.on_filesystem([root])

    def open(self, path: str) -> pafs.NativeFile:
        """A readable file; a context manager."""
        return self._files.open_input_file(self._at(path))

    def is_file(self, path: str) -> bool:
        """Whether a file is there."""
        return bool(self._files.get_file_info(self._at(path)).type == pafs.FileType.File)

    def below(self, folder: str) -> Iterator[str]:
        """Paths of all files below a folder; none where it is not."""
        selector = pafs.FileSelector(self._at(folder), allow_not_found=True, recursive=True)
        start = len(self._base) + 1
        for info in self._files.get_file_info(selector):
            if info.is_file:
                yield info.path[start:] if self._base else info.path

    def _at(self, path: str) -> str:
        return f"{self._base}/{path}".rstrip("/") if path else self._base or "/"


def split_address(address: str) -> tuple[str, str]:
    """Root and path: `s3a://bucket` and `a/b#1.jpg`."""
    found = _STORED.fullmatch(address)
    if found is None:
        raise ValueError(f"{address} is no address of a storage")
    root, path = found.groups()
    scheme, rest = root.split("://", 1)
    return f"{scheme.lower()}://{rest}", path or ""


def list_stored(pattern: str) -> list[str]:
    """The photos that a file, a folder or a glob stands for, sorted.

    Hidden files and folders, whose names begin with a dot, are skipped in folders and by `*`.

    Args:
        pattern: an address of the storage.

    Returns:
        Addresses; none where nothing is there.

    Raises:
        OSError: the storage refuses.
    """
    root, path = split_address(pattern)
    store = Store(pattern)
    if path and not path.endswith("/") and store.is_file(path):
        return [f"{root}/{path}"]
    folder = path.rstrip("/")
    found = [name for name in store.below(folder) if not is_hidden(name[len(folder) :])]
    if not found and MAGIC.search(folder):
        steps = folder.split("/")
        first = next(place for place, step in enumerate(steps) if MAGIC.search(step))
        matches = re.compile(glob_regex(steps), re.DOTALL)
        found = [
            name
            for name in store.below("/".join(steps[:first]))
            if (match := matches.match(name)) and not is_hidden(name[match.end() :])
        ]
    return [f"{root}/{name}" for name in sorted(found)]


def is_hidden(path: str) -> bool:
    """Whether a relative path leads through or to what is skipped."""
    return any(step.startswith(".") for step in path.split("/"))


def glob_regex(steps: list[str]) -> str:
    """Matches what a glob stands for: the file itself, or a folder on the way to it."""
    parts = []
    for place, step in enumerate(steps):
        is_last = place == len(steps) - 1
        if step == "**":
            parts.append(
                r"(?:[^/.][^/]*(?:/|$))*" if not is_last else r"[^/.][^/]*(?:/[^/.][^/]*)*"
            )
        else:
            parts.append(_step_regex(step) + ("" if is_last else "/"))
    return "".join(parts) + r"(?=/|$)"


def _step_regex(step: str) -> str:
    out, place = "" if step.startswith(".") else r"(?!\.)", 0
    while place < len(step):
        sign = step[place]
        place += 1
        if sign == "*":
            out += "[^/]*"
        elif sign == "?":
            out += "[^/]"
        elif sign == "[" and (end := step.find("]", place + 1)) > 0:
            inside = step[place:end].replace("\\", r"\\")
            inside = "^" + inside[1:] if inside.startswith("!") else inside
            out, place = f"{out}[{inside}]", end + 1
        else:
            out += re.escape(sign)
    return out
