"""Photos that need not be downloaded: listing places, reading files and parts of tars."""

from __future__ import annotations

import io
import queue
import tarfile
import threading
from pathlib import Path

import pytest

from croplake.errors import InputDataError
from croplake.fetching.at_hand import FileReads, check_place, image_id_of, list_photos
from croplake.fetching.http import Answer
from croplake.fetching.outcome import PhotoError
from croplake.fetching.photo_task import AtHand

pytestmark = pytest.mark.timeout(60)
ONE, TWO = "00000000000000a1", "00000000000000a2"


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def read(place: AtHand, *, max_bytes: int = 1000) -> Answer | PhotoError:
    ended: queue.SimpleQueue[Answer | PhotoError] = queue.SimpleQueue()
    with FileReads(max_bytes=max_bytes) as files:
        files.read(place, ended.put)
        return ended.get(timeout=20)


def contents(place: Path) -> dict[str, bytes]:
    """What listing a place and reading all it lists gives."""
    found = {}
    for image_id, at_hand in list_photos(str(place)):
        answer = read(at_hand)
        assert isinstance(answer, Answer)
        found[image_id] = answer.body
    return found


def told(place: AtHand, *, max_bytes: int = 1000) -> tuple[str, str]:
    error = read(place, max_bytes=max_bytes)
    assert isinstance(error, PhotoError)
    return str(error.status), error.detail


@pytest.mark.parametrize(
    ("path", "image_id"),
    [
        (f"{ONE}.jpg", ONE),
        (f"train/{ONE}.JPEG", ONE),
        (f"train/{ONE.upper()}.png", ONE),
        (f"x{ONE}.jpg", None),
        (f"{ONE}.txt", None),
        (f"{ONE}.jpg.part", None),
        ("a1.jpg", None),
    ],
)
def test_a_photo_is_known_by_its_files_name(path: str, image_id: str | None) -> None:
    assert image_id_of(path) == image_id


def test_a_folder_gives_its_photos_those_of_its_folders_and_of_its_tars(tmp_path: Path) -> None:
    folder = tmp_path / "a=b 100% ü"
    (folder / "deep" / "down").mkdir(parents=True)
    (folder / f"{ONE}.jpg").write_bytes(b"one")
    (folder / "deep" / "down" / f"{TWO}.png").write_bytes(b"two")
    (folder / "readme.txt").write_text("no photo")
    write_tar(folder / "deep" / "more.tar", {f"train/{ONE[:-1]}3.jpg": b"three"})
    assert contents(folder) == {ONE: b"one", TWO: b"two", f"{ONE[:-1]}3": b"three"}


def test_a_tar_gives_its_photos_without_being_unpacked(tmp_path: Path) -> None:
    files = {f"train/{ONE}.jpg": b"one" * 99, "readme": b"no photo", f"./{TWO}.jpg": b"two"}
    tar = write_tar(tmp_path / "train.TAR", files)
    assert contents(tar) == {ONE: b"one" * 99, TWO: b"two"}
    assert [path.name for path in tmp_path.iterdir()] == ["train.TAR"]


def test_links_and_folders_in_a_tar_are_no_photos(tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo(f"{ONE}.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        folder = tarfile.TarInfo(f"{TWO}.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert contents(path) == {}


@pytest.mark.parametrize("keep", [700, 1500])
def test_a_damaged_tar_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    tar = write_tar(tmp_path / "cut.tar", {f"{ONE}.jpg": b"1" * 600, f"{TWO}.jpg": b"2" * 600})
    tar.write_bytes(tar.read_bytes()[:keep])
    with pytest.raises(InputDataError, match=r"cut\.tar: .*expected a plain tar file, whole"):
        list(list_photos(str(tar)))


def test_a_tar_with_a_damaged_header_is_refused_by_name(tmp_path: Path) -> None:
    """tarfile itself takes that for the end, and would leave out the photos behind it."""
    files = {f"{ONE[:-1]}{number}.jpg": b"1" * 600 for number in range(5)}
    tar = write_tar(tmp_path / "odd.tar", files)
    data = bytearray(tar.read_bytes())
    data[2 * (512 + 1024) + 20] ^= 1
    tar.write_bytes(data)
    with pytest.raises(InputDataError, match=r"odd\.tar: damaged or cut off at byte 3,072"):
        list(list_photos(str(tar)))


def test_a_packed_archive_in_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / f"{ONE}.jpg").write_bytes(b"1")
    (tmp_path / "train_0.tar.gz").write_bytes(b"x")
    with pytest.raises(InputDataError, match=r"train_0\.tar\.gz: a packed archive"):
        list(list_photos(str(tmp_path)))


def test_a_file_that_is_no_tar_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "odd.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(InputDataError, match=r"odd\.tar: .*expected a plain tar file, whole"):
        list(list_photos(str(tmp_path)))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.TAR.XZ", "a.tbz2", "a.zip"])
def test_a_packed_archive_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputDataError, match="unpack it into a folder or into a plain"):
        check_place(str(tmp_path / name))


def test_a_tar_that_is_packed_in_secret_is_refused(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "secret.tar", {f"{ONE}.jpg": b"one"}, "w:gz")
    with pytest.raises(InputDataError, match="expected a plain tar file, whole"):
        list(list_photos(str(tar)))


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="no such folder or tar file"):
        check_place(str(tmp_path / "nowhere"))
    check_place(str(tmp_path))


def test_a_file_that_went_after_it_was_listed_is_not_found(tmp_path: Path) -> None:
    gone = AtHand(str(tmp_path / f"{ONE}.jpg"), 0, -1)
    status, detail = told(gone)
    assert status == "not_found"
    assert "it was there when listed" in detail


def test_a_tar_that_was_cut_after_it_was_listed_is_incomplete(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", {f"{ONE}.jpg": b"1" * 600})
    ((_, place),) = list_photos(str(tar))
    tar.write_bytes(tar.read_bytes()[:700])
    status, detail = told(place)
    assert status == "incomplete"
    assert "188 of 600 bytes at 512" in detail


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / f"{ONE}.jpg").mkdir()
    status, detail = told(AtHand(str(tmp_path / f"{ONE}.jpg"), 0, 10))
    assert status == "unreadable"
    assert f"{ONE}.jpg: " in detail
    assert "Error" in detail


@pytest.mark.parametrize("num_bytes", [-1, 600])
def test_a_file_over_the_limit_is_not_read(tmp_path: Path, num_bytes: int) -> None:
    (tmp_path / f"{ONE}.jpg").write_bytes(b"1" * 600)
    status, detail = told(AtHand(str(tmp_path / f"{ONE}.jpg"), 0, num_bytes), max_bytes=599)
    assert status == "too_many_bytes"
    assert "600 bytes, the limit is 599" in detail


def test_reading_waits_for_room(tmp_path: Path) -> None:
    (tmp_path / f"{ONE}.jpg").write_bytes(b"one")
    room, ended = threading.Event(), queue.SimpleQueue[Answer | PhotoError]()

    def wait_for_room() -> None:
        assert room.wait(20)

    with FileReads(max_bytes=1000, wait_for_room=wait_for_room) as files:
        files.read(AtHand(str(tmp_path / f"{ONE}.jpg"), 0, -1), ended.put)
        assert ended.empty()
        room.set()
        answer = ended.get(timeout=20)
    assert isinstance(answer, Answer)
    assert (answer.body, answer.http_status) == (b"one", None)
