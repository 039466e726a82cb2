"""Addresses and paths of any name, and what a place's errors mean."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from croplake import storage
from croplake.errors import SettingsError
from croplake.storage import is_refusal

ODD_NAMES = ("ü b", "50%", "50%25", "#1?x=ü&y.keras", "photo:1.jpg", os.fsdecode(b"caf\xe9"))
"""None of these ends a path, begins an address, or is percent-encoded."""


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_of_any_name_is_the_same_by_path_and_by_address(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    address = storage.absolute(str(tmp_path / name))
    assert storage.join(storage.absolute(str(tmp_path)), name) == address
    assert storage.local_path(address) == tmp_path / name
    storage.write_bytes(storage.join(address, name), b"content")
    assert (tmp_path / name / name).read_bytes() == b"content"


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if name.isprintable()])
def test_what_a_folder_of_any_name_lists_can_be_read(name: str, tmp_path: Path) -> None:
    file = tmp_path / name / "below" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"content")
    for folder in (str(tmp_path / name), (tmp_path / name).as_uri()):
        (listed,) = storage.list_files(folder)
        assert storage.read_bytes(listed) == b"content"
        assert storage.local_path(listed) == file


def test_a_local_address_may_be_written_without_percent_signs(tmp_path: Path) -> None:
    (tmp_path / "a b#1?.jpg").write_bytes(b"content")
    assert storage.read_bytes(f"file://{tmp_path}/a b#1?.jpg") == b"content"
    assert storage.read_bytes(f"FILE:{tmp_path}/a%20b%231%3F.jpg") == b"content"


def test_a_name_without_a_host_or_with_a_colon_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photo:1.jpg", "file:1.jpg", "s3a:1.jpg"):
        Path(name).write_bytes(b"content")
        assert storage.is_local(name)
        assert storage.absolute(name) == storage.join(tmp_path.as_uri(), name)
        assert storage.size_bytes(name) == 7


@pytest.mark.parametrize(
    "uri", ["", "gs://b/net.keras", "s3a://", "s3:///b", "http://[", "file://"]
)
def test_an_address_where_no_file_can_be_is_told_with_those_that_do(uri: str) -> None:
    said = rf"^'{uri.replace('[', '.')}': files are not kept there; .*s3a://BUCKET.* or hdfs://HOST"
    for ask in (storage.exists, storage.read_bytes, storage.absolute, storage.list_files):
        with pytest.raises(SettingsError, match=said):
            ask(uri)


def test_a_file_is_written_whole_though_its_name_is_as_long_as_names_can_be(tmp_path: Path) -> None:
    long = tmp_path / ("ä" * 125 + ".html")
    storage.write_bytes(str(long), b"page")
    storage.upload_file(long, str(tmp_path / "copies" / long.name))
    assert (tmp_path / "copies" / long.name).read_bytes() == b"page"
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [long.name] * 2


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "page.html"
    target.write_bytes(b"old")
    seen = []

    def fill_up(path: Path, *_: object) -> None:
        with path.open("wb") as file:
            file.write(b"half")
        seen.append(storage.is_part(path.as_uri()))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    monkeypatch.setattr(shutil, "copyfile", lambda source, part: fill_up(part))
    with pytest.raises(OSError, match="No space"):
        storage.write_bytes(str(target), b"new")
    with pytest.raises(OSError, match="No space"):
        storage.upload_file(target, str(target))
    assert seen == [True, True]
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert target.read_bytes() == b"old"
    assert not storage.is_part("/a/.part")
    assert not storage.is_part("/a/page.part")


def test_a_local_file_is_itself_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "net #1.keras"
    file.write_bytes(b"weights")
    with storage.local_file(file.as_uri()) as path:
        assert path == file
    with pytest.raises(FileNotFoundError, match=r"gone\.keras"), storage.local_file("gone.keras"):
        pass


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), True),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError("When uploading: AWS Error ACCESS_DENIED during PutObject operation"), True),
        (OSError("When uploading: AWS Error NO_SUCH_BUCKET during PutObject operation"), True),
        (OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7"), False),
    ],
)
def test_a_refusal_is_told_from_what_may_pass(error: OSError, is_final: bool) -> None:
    assert is_refusal(error) == is_final
