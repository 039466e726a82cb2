"""Which photos and which folder for their copies get in each other's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from croplake.errors import SettingsError
from croplake.inference.listing import list_photos
from croplake.jobs.sort_into import check_apart, check_sort_into

FOLDERS = ("Boat", "unsure")


def check(folder: Path, into: str, pattern: str) -> None:
    """Both below a folder, unless they are addresses or lists."""
    is_whole = pattern.startswith("@") or ":" in pattern
    patterns = [pattern if is_whole else str(folder / pattern)]
    place = into if ":" in into else str(folder / into)
    check_sort_into(place, FOLDERS, patterns, (folder / "lake").as_uri())


@pytest.mark.parametrize(
    ("into", "pattern"),
    [
        ("photos/sorted", "photos"),
        ("photos/sorted/", "photos/sorted/Boat"),
        ("photos/sorted", "photos/*"),
        ("photos/sorted", "photos/**/*.jpg"),
        ("photos/sorted", "photos/*/*/*.png"),
        ("photos/sorted", "photos/s*d/[A-Z]*/IMG_?.jpg"),
        ("photos", "photos/*/*.jpg"),
        ("photos", "photos/unsure"),
    ],
)
def test_photos_that_would_be_copies_the_next_time_are_refused_the_first_time(
    tmp_path: Path, into: str, pattern: str
) -> None:
    with pytest.raises(SettingsError, match="stands for what is copied there, too"):
        check(tmp_path, into, pattern)
    (tmp_path / "list.txt").write_text(f"# mine\n{tmp_path}/else.jpg\n{tmp_path / pattern}\n")
    with pytest.raises(SettingsError, match=r"stands for what is copied there, too"):
        check(tmp_path, into, f"@{tmp_path}/list.txt")
    assert not (tmp_path / "photos").exists(), "nothing was written"
    with pytest.raises(SettingsError, match="stands for what is copied there, too"):
        check(tmp_path, f"s3://b/{into}", f"S3A://b/{pattern}")


@pytest.mark.parametrize(
    ("into", "pattern"),
    [
        ("photos", "photos/*.jpg"),
        ("photos", "photos/[0-9]*/*.jpg"),
        ("photos", "photos/Boat/1.jpg"),
        ("photos/sorted", "photos/s"),
        ("photos/.sorted", "photos"),
        ("photos/.sorted", "photos/**"),
        ("sorted", "photos/**/*.jpg"),
        ("sorted", "http://h/*/*"),
        ("sorted", "s3a://b/*/*"),
        ("sorted", "delta:/*#path"),
        ("sorted", "\0:"),
    ],
)
def test_others_are_not(tmp_path: Path, into: str, pattern: str) -> None:
    check(tmp_path, into, pattern)
    assert (tmp_path / into).is_dir()


def test_photos_that_links_lead_to_are_no_copies(tmp_path: Path) -> None:
    photos, into = tmp_path / "photos", tmp_path / "sorted"
    for folder in (photos, into / "Boat", into / "mine"):
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(b"")
    (photos / "link").symlink_to(into)
    check_sort_into(str(into), FOLDERS, [str(photos)], (tmp_path / "lake").as_uri())
    paths = list_photos([str(photos)])
    assert len(paths) == 3
    with pytest.raises(SettingsError, match=r"photos to sort in .*/photos/link/Boat, where photos"):
        check_apart(str(into), FOLDERS, paths)
    check_apart(str(into), FOLDERS, list_photos([f"{into}/mine", "http://h/Boat/1.jpg"]))
    with pytest.raises(SettingsError, match="s3://b/x/Boat"):
        check_apart("s3a://b/x", FOLDERS, ["s3://b/x/Boat/1.jpg"])
