"""Photos that need not be downloaded: `{ImageID}.jpg` in folders or in tar files, on any storage.

A tar is not unpacked: its headers say where each photo lies in it, and those bytes alone are read.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from croplake import storage
from croplake.errors import InputDataError
from croplake.fetching.http import Answer
from croplake.fetching.outcome import PhotoError, Status
from croplake.fetching.photo_task import AtHand
from croplake.fetching.request import OnDone

_PHOTO_NAME: Final = re.compile(r"(?:^|/)([0-9a-f]{16})\.(?:jpe?g|png)$", re.IGNORECASE)
_PACKED: Final = re.compile(r"\.(?:tar\.\w+|tgz|tbz2?|txz|zip)$", re.IGNORECASE)
_THREADS: Final = 8


def image_id_of(path: str) -> str | None:
    """The photo's id that a file's name gives, None where the file is no photo of Open Images."""
    found = _PHOTO_NAME.search(path)
    return found[1].lower() if found else None


def check_place(place: str) -> None:
    """Refuses a place that cannot hold photos to be read one by one.

    Raises:
        InputDataError: it is not there, or a packed archive.
    """
    _check_not_packed(place)
    if not storage.exists(place):
        raise InputDataError(f"{place}: no such folder or tar file (fetch.at_hand)")


def _check_not_packed(place: str) -> None:
    if _PACKED.search(place):
        raise InputDataError(
            f"{place}: a packed archive cannot be read in parts; unpack it into a folder or into a "
            "plain .tar, or put it elsewhere"
        )


def list_photos(place: str) -> Iterator[tuple[str, AtHand]]:
    """The photos of a folder, with all folders and tar files below it, or of one tar file.

    Args:
        place: address or path.

    Yields:
        Photo id, and where its bytes lie.

    Raises:
        InputDataError: a tar file is damaged or cut off, or there is a packed archive.
    """
    if place.lower().endswith(".tar"):
        yield from _photos_of_tar(place)
        return
    for file in storage.list_files(storage.absolute(place)):
        if file.lower().endswith(".tar"):
            yield from _photos_of_tar(file)
        elif (image_id := image_id_of(file)) is not None:
            yield image_id, AtHand(file, 0, -1)
        else:
            _check_not_packed(file)


def _photos_of_tar(uri: str) -> Iterator[tuple[str, AtHand]]:
    uri = storage.absolute(uri)
    try:
        with storage.open_random(uri) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                image_id = image_id_of(member.name) if member.isreg() else None
                if image_id is not None:
                    yield image_id, AtHand(uri, member.offset_data, member.size)
            # tarfile takes a damaged header for the end; the true end is a block of zeros.
            stream.seek(tar.offset)
            if bytes(stream.read(tarfile.BLOCKSIZE)) != bytes(tarfile.BLOCKSIZE):
                raise InputDataError(
                    f"{uri}: damaged or cut off at byte {tar.offset:,}; expected a plain tar file, "
                    "whole"
                )
    except tarfile.TarError as error:
        raise InputDataError(f"{uri}: {error}; expected a plain tar file, whole") from error


class FileReads:
    """Reads photos at hand in threads of its own; a context manager that ends them."""

    def __init__(self, *, max_bytes: int, wait_for_room: Callable[[], None] = lambda: None) -> None:
        self._max_bytes, self._wait_for_room = max_bytes, wait_for_room
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="at_hand")

    def __enter__(self) -> FileReads:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def read(self, place: AtHand, on_done: OnDone) -> None:
        """Reads a photo's bytes; `on_done` is told in one of the threads."""
        self._pool.submit(self._read, place, on_done)

    def _read(self, place: AtHand, on_done: OnDone) -> None:
        self._wait_for_room()
        try:
            ended: Answer | PhotoError = Answer(self._bytes(place), None, place.uri)
        except PhotoError as error:
            ended = error
        except FileNotFoundError:
            ended = PhotoError(Status.NOT_FOUND, f"{place.uri}: it was there when listed")
        except Exception as error:
            detail = f"{place.uri}: {type(error).__name__}: {error}"
            ended = PhotoError(Status.UNREADABLE, detail)
        on_done(ended)

    def _bytes(self, place: AtHand) -> bytes:
        num_bytes = place.num_bytes
        with storage.open_random(place.uri) as file:
            if num_bytes < 0:
                num_bytes = file.size()
            if num_bytes > self._max_bytes:
                detail = f"{place.uri}: {num_bytes} bytes, the limit is {self._max_bytes}"
                raise PhotoError(Status.TOO_MANY_BYTES, detail)
            file.seek(place.offset_bytes)
            data = bytes(file.read(num_bytes))
        if len(data) != num_bytes:
            detail = f"{place.uri}: {len(data)} of {num_bytes} bytes at {place.offset_bytes}"
            raise PhotoError(Status.INCOMPLETE, detail)
        return data
