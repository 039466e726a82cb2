"""Files on any root: a local path, `file://`, `s3://`, `s3a://` or `hdfs://`.

Credentials and endpoints come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
`HADOOP_CONF_DIR`, …).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

import pyarrow.fs as pafs

from croplake.errors import SettingsError

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
"""What tells an address from a path: `photo:1.jpg` is a file's name."""
_FILE: Final = re.compile(r"file:(?://[^/]*|(?!//))(/.*)", re.IGNORECASE | re.DOTALL)
"""A local address. `#` and `?` end no path here: files are called so."""
_STORED: Final = re.compile(
    r"(s3a?(?=://[^/])|hdfs)://([^/]*)(?:/(.*))?", re.IGNORECASE | re.DOTALL
)
ROOTS: Final = "a local path, file:///FOLDER, s3a://BUCKET, s3://BUCKET or hdfs://HOST"
"""Where files may lie."""
_PART: Final = ".part"
_PART_NAME: Final = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(_PART)}")
_MAY_PASS: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN)
)
"""What a file system says that may take the same file later."""
_REFUSALS: Final = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "NO_SUCH_BUCKET",
    "SIGNATURE_DOES_NOT_MATCH",
)
"""What S3 says that will not; it has no numbers for its errors."""


@dataclass(frozen=True)
class FoundFile:
    """A file below an address.

    Attributes:
        path: relative to that address.
        bytes: its size.
        changed_at: when it was last written, UTC.
    """

    path: str
    bytes: int
    changed_at: datetime


def cache_folder(name: str) -> Path:
    """A folder of this user and machine for what can be had again."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "croplake" / name


def stamp(uri: str) -> str | None:
    """What mostly changes with a file: its size and when it was written; None without a file."""
    files, path = _open(uri)
    info = files.get_file_info(path)
    return f"{info.size} bytes of {info.mtime}" if info.type == pafs.FileType.File else None


def fingerprint(uri: str) -> str:
    """What changes with a file's content: its SHA-256 where it is local, else its `stamp`."""
    if is_local(uri):
        with local_path(uri).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return str(stamp(uri))


def is_local(uri: str) -> bool:
    """Whether an address or path lies on a mounted file system."""
    return _FILE.fullmatch(uri) is not None or _SCHEME.match(uri) is None


def local_path(uri: str) -> Path:
    """The path of a local address.

    Raises:
        ValueError: the address is not local.
    """
    if found := _FILE.fullmatch(uri):
        # By bytes: names need not be Unicode.
        return Path(os.fsdecode(unquote_to_bytes(os.fsencode(found[1]))))
    if not is_local(uri):
        raise ValueError(f"{uri} is not on a local file system")
    return Path(uri)


def check_address(uri: str) -> None:
    """Makes sure that an address or path is one of those that this module reads.

    Raises:
        SettingsError: it is not; the text names those that are.
    """
    if not uri or (not is_local(uri) and _STORED.fullmatch(uri) is None):
        raise SettingsError(f"{uri!r}: files are not kept there; expected {ROOTS}")


def absolute(uri: str) -> str:
    """The address with its scheme: `build/lake` becomes `file:///…/build/lake`.

    Raises:
        SettingsError: as `check_address`.
    """
    check_address(uri)
    if is_local(uri):
        return local_path(uri).resolve().as_uri()
    return uri.rstrip("/")


def for_spark(uri: str) -> str:
    """The address as Hadoop reads it: `s3a://`, and no percent signs for other characters."""
    if is_local(uri):
        return f"file://{local_path(uri).resolve()}"
    return re.sub("^s3a?://", "s3a://", uri, flags=re.IGNORECASE)


def join(uri: str, *parts: str) -> str:
    """An address below another.

    Args:
        uri: address or path.
        parts: names and relative paths, as they are: below `file://` they are percent-encoded.
    """
    names = [part.strip("/") for part in parts]
    if _FILE.fullmatch(uri):
        names = [quote_from_bytes(os.fsencode(name)) for name in names]
    return "/".join([uri.rstrip("/"), *names])


def names_in(uri: str) -> list[str]:
    """The names of all files and folders that lie in a folder, sorted; none where it is not."""
    files, path = _open(uri)
    found = files.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in found)


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    files, path = _open(uri)
    return bool(files.get_file_info(path).type != pafs.FileType.NotFound)


def size_bytes(uri: str) -> int | None:
    """The size of a file; None where there is none."""
    files, path = _open(uri)
    info = files.get_file_info(path)
    return int(info.size) if info.type == pafs.FileType.File else None


def read_bytes(uri: str) -> bytes:
    """The whole content of a file."""
    files, path = _open(uri)
    with files.open_input_stream(path) as stream:
        return bytes(stream.read())


def open_input(uri: str) -> pafs.NativeFile:
    """A readable binary stream of a file; a context manager."""
    files, path = _open(uri)
    return files.open_input_stream(path, compression=None, buffer_size=1 << 20)


def open_random(uri: str) -> pafs.NativeFile:
    """A readable, seekable binary file; a context manager."""
    files, path = _open(uri)
    return files.open_input_file(path)


def open_output(uri: str) -> pafs.NativeFile:
    """A writable binary stream that makes or truncates a file; a context manager."""
    if is_local(uri):
        local_path(uri).parent.mkdir(parents=True, exist_ok=True)
    files, path = _open(uri)
    return files.open_output_stream(path)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file whole; a reader sees the old one or the new one, never a part."""
    if is_local(uri):
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _growing(target) as part:
            part.write_bytes(data)
        return
    files, path = _open(uri)
    with files.open_output_stream(path) as stream:
        stream.write(data)


@contextmanager
def _growing(target: Path) -> Iterator[Path]:
    """Where a file grows, which has its own name once it is whole, or is gone again."""
    # Not beside its own name: that may be as long as names can be.
    part = target.with_name(f".{uuid.uuid4().hex}{_PART}")
    try:
        yield part
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def is_part(path: str) -> bool:
    """Whether a file is one that was growing when its writer was killed, or still is."""
    return _PART_NAME.fullmatch(path.rsplit("/", 1)[-1]) is not None


def upload_file(source: Path, uri: str) -> None:
    """Copies a local file to any root; on local roots it appears whole."""
    if is_local(uri):
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _growing(target) as part:
            shutil.copyfile(source, part)
        return
    files, path = _open(uri)
    with source.open("rb") as content, files.open_output_stream(path) as stream:
        shutil.copyfileobj(content, stream, 1 << 20)


def upload_folder(source: Path, uri: str) -> None:
    """Copies every file of a local folder below an address."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        upload_file(file, join(uri, file.relative_to(source).as_posix()))


def list_files(uri: str) -> list[str]:
    """Addresses of all files below an address, sorted; none where it does not exist."""
    files, path = _open(uri)
    selector = pafs.FileSelector(path, allow_not_found=True, recursive=True)
    found = [info.path for info in files.get_file_info(selector) if info.is_file]
    return sorted(join(uri, name.removeprefix(path)) for name in found)


def files_below(uri: str) -> list[FoundFile]:
    """All files below an address, sorted by path; none where it does not exist."""
    files, path = _open(uri)
    selector = pafs.FileSelector(path, allow_not_found=True, recursive=True)
    found = [
        FoundFile(info.path.removeprefix(path).lstrip("/"), info.size, info.mtime)
        for info in files.get_file_info(selector)
        if info.is_file
    ]
    return sorted(found, key=lambda file: file.path)


def on_filesystem(uris: list[str]) -> tuple[pafs.FileSystem, list[str]]:
    """Files of one root as pyarrow's datasets take them: their file system, and paths on it."""
    opened = [_open(uri) for uri in uris]
    return opened[0][0], [path for _, path in opened]


def open_below(uri: str, path: str) -> pafs.NativeFile:
    """A readable, seekable file that `files_below` found; a context manager."""
    files, folder = _open(uri)
    return files.open_input_file(f"{folder}/{path}")


def remove_below(uri: str, path: str) -> None:
    """Removes a file that `files_below` found."""
    files, folder = _open(uri)
    files.delete_file(f"{folder}/{path}")


@contextmanager
def local_file(uri: str) -> Iterator[Path]:
    """A file as a local one: itself where it is local, else a copy that goes with the block.

    Yields:
        Its path, with the name that it has at `uri`.

    Raises:
        OSError: it is not there, or cannot be read or copied.
    """
    if is_local(uri):
        path = local_path(uri)
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="croplake-") as folder:
        path = Path(folder, uri.rsplit("/", 1)[-1])
        with open_input(uri) as content, path.open("wb") as copy:
            shutil.copyfileobj(content, copy, 1 << 20)
        yield path


def is_refusal(error: OSError) -> bool:
    """Whether a place would say the same again; else it was full, or did not answer."""
    if error.errno is None:
        return any(name in str(error) for name in _REFUSALS)
    return error.errno not in _MAY_PASS


def remove(uri: str) -> None:
    """Removes a file or a folder with all in it; nothing there is fine."""
    files, path = _open(uri)
    match files.get_file_info(path).type:
        case pafs.FileType.File:
            files.delete_file(path)
        case pafs.FileType.Directory:
            files.delete_dir(path)


def _open(uri: str) -> tuple[pafs.FileSystem, str]:
    check_address(uri)
    found = _STORED.fullmatch(uri)
    if found is None:
        # pyarrow takes a relative `photo:1.jpg` for an address.
        return pafs.LocalFileSystem(), os.path.abspath(local_path(uri))
    scheme, root, path = found[1].lower(), found[2], found[3] or ""
    if scheme == "hdfs":
        return _hdfs(root), f"/{path}"
    s3 = _s3(os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("AWS_REGION"))
    return s3, f"{root}/{path}" if path else root


@cache
def _s3(endpoint: str | None, region: str | None) -> pafs.FileSystem:
    """One client for all files: it keeps its connections."""
    return pafs.S3FileSystem(
        endpoint_override=urlsplit(endpoint).netloc if endpoint else None,
        scheme=urlsplit(endpoint).scheme if endpoint else "https",
        region=region,
    )


@cache
def _hdfs(name_node: str) -> pafs.FileSystem:
    """HDFS without Java: pyarrow's own needs Hadoop's libraries where Python runs."""
    try:
        from croplake.hdfs import Hdfs
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"hdfs://{name_node}: HDFS is read by hdfs-native, which is not installed "
            f"({error}); pip install 'croplake[hdfs]' on all machines"
        ) from error
    host, _, port = name_node.partition(":")
    return pafs.PyFileSystem(pafs.FSSpecHandler(Hdfs(host or None, int(port) if port else None)))
