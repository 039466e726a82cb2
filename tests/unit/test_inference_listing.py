"""Which photos a pattern stands for."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from croplake.errors import CroplakeError, InputDataError
from croplake.fetching.outcome import PhotoError
from croplake.inference.listing import list_photos
from croplake.inference.reading import photo_loader, read_local
from croplake.inference.stored import list_stored


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", "notes.txt", ".hidden.jpg", "deep/c.jpg", ".cache/d.jpg"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path


def names(photos: list[str], folder: Path) -> list[str]:
    return [os.path.relpath(photo, folder) for photo in photos]


def test_a_folder_stands_for_all_its_files_sorted_but_hidden_ones(album: Path) -> None:
    found = names(list_photos([str(album)]), album)
    assert found == ["a.png", "b.jpg", "notes.txt", "deep/c.jpg"]


def test_links_of_a_folder_are_followed_once_and_what_is_no_file_is_named(tmp_path: Path) -> None:
    album, other = tmp_path / "album", tmp_path / "other"
    for folder in (album, other):
        folder.mkdir()
    (other / "a.jpg").touch()
    (album / "linked").symlink_to(other)
    (album / "up").symlink_to(album)
    (album / "z_again").symlink_to(other)
    (album / "nothing.jpg").symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(album / "pipe.jpg")
    names = ("nothing.jpg", "pipe.jpg", "linked/a.jpg")
    assert list_photos([str(album)]) == [str(album / name) for name in names]
    for name in ("nothing.jpg", "pipe.jpg"):
        assert list_photos([str(album / name)]) == [str(album / name)]


def test_a_glob_stands_for_its_matches_and_may_reach_down(album: Path) -> None:
    assert names(list_photos([f"{album}/*.jpg"]), album) == ["b.jpg"]
    assert names(list_photos([f"{album}/**/*.jpg"]), album) == ["b.jpg", "deep/c.jpg"]
    assert names(list_photos([f"{album}/d*"]), album) == ["deep/c.jpg"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(album: Path) -> None:
    (album / "a[1].jpg").write_bytes(b"")
    (album / "a1.jpg").write_bytes(b"")
    assert names(list_photos([f"{album}/a[1].jpg"]), album) == ["a[1].jpg"]


def test_every_photo_is_listed_once_and_in_the_order_of_the_patterns(album: Path) -> None:
    url = "https://example.org/x.jpg"
    found = list_photos([url, f"{album}/b.jpg", str(album), f"{album}/deep/../b.jpg", url])
    assert found[:2] == [url, str(album / "b.jpg")]
    assert len(found) == 5


@pytest.mark.parametrize("name", ["photo:1.jpg", "a#1?.jpg", "50%25.jpg"])
def test_a_name_that_looks_like_an_address_is_that_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "list").write_text(f"{name}\nphoto:2.jpg\n")
    assert list_photos([name]) == [str(tmp_path / name)]
    assert list_photos([name.replace(".jpg", ".*")]) == [str(tmp_path / name)]
    assert list_photos(["@list"]) == [str(tmp_path / name), str(tmp_path / "photo:2.jpg")]
    assert read_local(str(tmp_path / name), max_bytes=100) == name.encode()


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "'' names no photos; expected a folder"),
        ("a\0b", r"'a\\x00b' names no photos; expected"),
        ("gs://b/photos", "gs://b/photos: photos are not read from there; expected a folder"),
        ("s3a://", "'s3a://': files are not kept there; expected"),
        ("@list", "@list, line 2: 's3a://': files are not kept there; expected"),
    ],
)
def test_a_pattern_where_no_photo_can_be_is_told_with_what_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_text("http://h/1.jpg\ns3a://\n")
    with pytest.raises(CroplakeError, match=f"^{said}"):
        list_photos([pattern])


def test_relative_paths_are_made_absolute(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(album)
    assert list_photos(["b.jpg"]) == [str(album / "b.jpg")]
    assert list_photos([(album / "b.jpg").as_uri()]) == [str(album / "b.jpg")]


def test_a_list_holds_patterns_addresses_and_paths_that_need_not_exist(album: Path) -> None:
    lines = ["# my photos", "", f"{album}/*.png", "http://h/1.jpg", f"  {album}/gone.jpg  "]
    (album / "list").write_text("\n".join(lines))
    found = list_photos([f"@{album}/list"])
    assert found == [str(album / "a.png"), "http://h/1.jpg", str(album / "gone.jpg")]


def test_a_glob_in_a_list_that_matches_nothing_names_its_line(album: Path) -> None:
    (album / "list").write_text(f"{album}/a.png\n{album}/*.gif\n")
    with pytest.raises(InputDataError, match=r"@.*list, line 2: .*\*\.gif: no photos there"):
        list_photos([f"@{album}/list"])


@pytest.mark.parametrize("pattern", ["gone.jpg", "*.gif", "empty", "@gone.txt", "@blank.txt"])
def test_a_pattern_that_stands_for_nothing_is_named(
    album: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.chdir(album)
    (album / "empty").mkdir()
    (album / "blank.txt").write_text("\n# nothing\n")
    with pytest.raises(InputDataError) as caught:
        list_photos(["a.png", pattern])
    assert str(caught.value).startswith(f"{pattern}: ")


def test_no_pattern_and_an_unknown_kind_of_address_say_what_is_expected() -> None:
    with pytest.raises(InputDataError, match="no photos named; expected a folder"):
        list_photos([])
    with pytest.raises(InputDataError, match="ftp://host/photos: photos are not read from there"):
        list_photos(["ftp://host/photos"])


def test_a_file_name_that_is_not_unicode_comes_through_to_its_bytes(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"coffee")
    (photo,) = list_photos([str(tmp_path)])
    photo.encode()
    assert photo.endswith("/caf%E9.jpg")
    assert read_local(photo, max_bytes=100) == b"coffee"


def test_a_path_with_a_hash_or_a_percent_sign_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "50%25 #1?.jpg"
    file.write_bytes(b"half")
    assert read_local(list_photos([str(tmp_path)])[0], max_bytes=100) == b"half"


def test_a_file_that_cannot_be_read_has_a_named_reason(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 11)
    os.mkfifo(tmp_path / "pipe")
    reasons = {}
    for name in ("long", "pipe", "gone", "long/below"):
        with pytest.raises(PhotoError) as caught:
            read_local(str(tmp_path / name), max_bytes=10)
        reasons[name] = caught.value.status
    assert reasons == {
        "long": "too_many_bytes",
        "pipe": "unreadable",
        "gone": "not_found",
        "long/below": "not_found",
    }


def test_addresses_go_to_the_getter_and_paths_to_the_disk(tmp_path: Path) -> None:
    class Echo:
        def get(self, url: str) -> bytes:
            return url.encode()

    (tmp_path / "a").write_bytes(b"disk")
    load = photo_loader(Echo(), max_bytes=10)
    assert load("HTTPS://h/a") == b"HTTPS://h/a"
    assert load(str(tmp_path / "a")) == b"disk"


def test_a_list_ends_its_lines_with_line_feeds_only(album: Path) -> None:
    odd = "line\u2028separator\x0bphoto.jpg"
    (album / "list").write_bytes(f"{album}/a.png\r\n{album}/{odd}\n".encode())
    assert list_photos([f"@{album}/list"]) == [str(album / "a.png"), f"{album}/{odd}"]


def test_an_address_that_cannot_be_asked_is_listed_all_the_same() -> None:
    odd = ["http://[::1", "https:", "http://h:port/a.jpg"]
    assert list_photos([*odd, *odd]) == odd


def test_a_tilde_is_the_home_folder(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(album))
    (album / "list").write_text("~/gone.jpg\n~/d*\n")
    (album / "x[1].jpg").write_bytes(b"")
    assert list_photos(["~/b.jpg", "~/x[1].jpg"]) == [f"{album}/b.jpg", f"{album}/x[1].jpg"]
    assert list_photos(["@~/list"]) == [f"{album}/gone.jpg", f"{album}/deep/c.jpg"]


def test_a_table_in_a_list_is_refused(album: Path) -> None:
    (album / "list").write_text("delta:photos\n")
    with pytest.raises(InputDataError, match="line 1: delta:photos: a table is named by itself"):
        list_photos([f"@{album}/list"])


@pytest.mark.parametrize("path", ["", "a.jpg", "photo:1.jpg", "gs://b/a.jpg", "file://", "/a\0b"])
def test_a_path_from_a_table_where_no_photo_can_be_has_a_named_reason(path: str) -> None:
    with pytest.raises(PhotoError) as caught:
        photo_loader(_NoNetwork(), max_bytes=10)(path)
    assert caught.value.status == "bad_address"
    assert "expected an absolute path, or an address" in caught.value.detail


def test_an_address_without_a_bucket_has_a_named_reason() -> None:
    with pytest.raises(PhotoError, match="bad_address: 's3a://': files are not kept there"):
        photo_loader(_NoNetwork(), max_bytes=10)("s3a://")


class _NoNetwork:
    def get(self, url: str) -> bytes:
        raise AssertionError(url)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jpg", ["b#1?.jpg"]),
        ("d*", ["deep/c.jpg", "deep/er/d.jpg"]),
        ("**/*.jpg", ["b#1?.jpg", "deep/c.jpg", "deep/er/d.jpg"]),
        ("**", ["a.png", "b#1?.jpg", "deep/c.jpg", "deep/er/d.jpg"]),
        ("deep/[c-d].jp?", ["deep/c.jpg"]),
        ("deep/**/[!c].jpg", ["deep/er/d.jpg"]),
        (".h*", [".hidden.jpg"]),
        ("e*", []),
    ],
)
def test_a_glob_of_a_storage_means_what_a_local_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, names: list[str]
) -> None:
    files = ("a.png", "b#1?.jpg", "deep/c.jpg", "deep/er/d.jpg", ".hidden.jpg", "deep/.no/x.jpg")
    for name in files:
        file = tmp_path / "bucket" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    on_disk = [str(tmp_path / "bucket")]
    monkeypatch.setattr("croplake.storage.on_filesystem", lambda uris: (LocalFileSystem(), on_disk))
    assert list_stored(f"s3a://bucket/{pattern}") == [f"s3a://bucket/{name}" for name in names]
    local = [file for file in glob.glob(f"{on_disk[0]}/{pattern}", recursive=True)]
    found = {photo for match in local for photo in list_photos([match])} if names else set(local)
    assert found == {f"{on_disk[0]}/{name}" for name in names}
