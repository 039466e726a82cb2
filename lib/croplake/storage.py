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
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pafs

from croplake.errors import SettingsError

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
    return urlsplit(uri).scheme in ("", "file")


def local_path(uri: str) -> Path:
    """The path of a local address.

    Raises:
        ValueError: the address is not local.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme:
        raise ValueError(f"{uri} is not on a local file system")
    return Path(uri)


def absolute(uri: str) -> str:
    """The address with its scheme: `build/lake` becomes `file:///…/build/lake`."""
    if is_local(uri):
        return local_path(uri).resolve().as_uri()
    return uri.rstrip("/")


def for_spark(uri: str) -> str:
    """The address as Hadoop reads it: `s3a://`, and no percent signs for other characters."""
    if is_local(uri):
        return f"file://{local_path(uri).resolve()}"
    return re.sub("^s3://", "s3a://", uri)


def join(uri: str, *parts: str) -> str:
    """An address below another."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


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


def move(uri: str, to: str) -> None:
    """Renames a file on the same root; what was at `to` is replaced."""
    files, path = _open(uri)
    files.move(path, _open(to)[1])


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file whole; a reader sees the old one or the new one, never a part."""
    if is_local(uri):
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        part.write_bytes(data)
        part.replace(target)
        return
    files, path = _open(uri)
    with files.open_output_stream(path) as stream:
        stream.write(data)


def upload_file(source: Path, uri: str) -> None:
    """Copies a local file to any root; on local roots it appears whole."""
    if is_local(uri):
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        shutil.copyfile(source, part)
        part.replace(target)
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


def fetch_folder(uri: str, into: Path) -> Path:
    """A folder as a local one: itself where it is local, else a copy in `into`."""
    if is_local(uri):
        return local_path(uri)
    for file in list_files(uri):
        target = into / file.removeprefix(uri).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read_bytes(file))
    return into


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
    if is_local(uri):
        return pafs.LocalFileSystem(), str(local_path(uri))
    parts = urlsplit(uri)
    if parts.scheme in ("s3", "s3a"):
        s3 = _s3(os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("AWS_REGION"))
        # A key may hold what ends an address' path: `#` and `?`.
        return s3, uri.partition("://")[2]
    if parts.scheme == "hdfs":
        return _hdfs(parts.netloc), parts.path
    files, path = pafs.FileSystem.from_uri(uri)
    return files, str(path)


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
