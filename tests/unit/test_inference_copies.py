"""Copies of photos: their names, what lies in the way, what a rerun does."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.fs as pafs
import pytest
from PIL import Image
from pyspark import TaskContext

from croplake import storage
from croplake import tables as t
from croplake.fetching.http import HttpLimits
from croplake.fetching.shares import Budgets
from croplake.inference.copies import (
    Copies,
    CopyPlan,
    add_name_keys,
    file_name,
    name_key,
    sort_folders,
)
from croplake.inference.photos import ClassifyRun, Opened
from croplake.inference.task import ClassifyTask, read_copy_reports
from tests.unit.test_inference_photos import batch_of


def png(colour: str) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (2, 2), colour).save(target, "PNG")
    return target.getvalue()


RED, BLUE = png("red"), png("blue")


def mark(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def copy(into: Path, *photos: tuple[str, bytes], is_shared: bool = False, **row: Any) -> Copies:  # noqa: ANN401
    copies = Copies(CopyPlan(into.as_uri(), sort_folders(["Boat", "Fish"])))
    for path, data in photos:
        opened = Opened(path, "ok", data=data, is_shared_name=is_shared)
        copies.take(opened, {t.STATUS: "ok", t.CATEGORY: "Boat"} | row)
    copies.close()
    return copies


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_photos_keep_their_names_in_the_folders_of_their_categories(tmp_path: Path) -> None:
    into = tmp_path / "a=b läke 100%"
    copies = copy(into, ("/x/Ä 100% = 1\n.png", RED), ("/x/2.png", BLUE))
    assert (copies.num_copied, copies.num_failed) == (2, 0)
    assert tree(into) == {"Boat/Ä 100% = 1\n.png": RED, "Boat/2.png": BLUE}


def test_unsure_photos_have_a_folder_and_failures_none(tmp_path: Path) -> None:
    copy(tmp_path, ("/x/1.png", RED), status="unsure")
    assert copy(tmp_path, ("/x/2.png", b"?"), status="not_a_photo").num_copied == 0
    assert tree(tmp_path) == {"unsure/1.png": RED}


def test_photos_of_one_name_are_told_apart_by_their_content(tmp_path: Path) -> None:
    photos = [("/x/1.png", RED), ("/y/1.png", BLUE), ("/z/1.png", RED)]
    expected = {f"Boat/1-{mark(RED)}.png": RED, f"Boat/1-{mark(BLUE)}.png": BLUE}
    copy(tmp_path / "one", *photos, is_shared=True)
    copy(tmp_path / "other", *photos[::-1], is_shared=True)
    assert tree(tmp_path / "one") == tree(tmp_path / "other") == expected


def test_a_rerun_changes_nothing(tmp_path: Path) -> None:
    copy(tmp_path, ("/x/1.png", RED))
    before = (tmp_path / "Boat" / "1.png").stat()
    assert copy(tmp_path, ("/x/1.png", RED)).num_copied == 1
    # By now another folder has a photo of that name; this one lies there all the same.
    copy(tmp_path, ("/x/1.png", RED), ("/y/1.png", BLUE), is_shared=True)
    assert tree(tmp_path) == {"Boat/1.png": RED, f"Boat/1-{mark(BLUE)}.png": BLUE}
    after = (tmp_path / "Boat" / "1.png").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "Boat").mkdir()
    (tmp_path / "Boat" / "1.png").write_bytes(b"mine")
    (tmp_path / "Boat" / "2.png").symlink_to("nowhere")
    copy(tmp_path, ("/x/1.png", RED), ("/x/2.png", BLUE))
    assert tree(tmp_path) == {
        "Boat/1.png": b"mine",
        f"Boat/1-{mark(RED)}.png": RED,
        f"Boat/2-{mark(BLUE)}.png": BLUE,
    }


def test_copies_are_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(RED)
    copy(tmp_path / "into", (str(tmp_path / "1.png"), RED))
    (copied,) = (tmp_path / "into" / "Boat").iterdir()
    assert copied.stat().st_nlink == 1
    assert copied.stat().st_ino != (tmp_path / "1.png").stat().st_ino


def test_a_photo_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "Boat").write_bytes(b"a file where a folder should be")
    copies = copy(
        tmp_path, ("/x/1.png", RED), ("/x/2.png", RED), ("/x/3.png", RED), category="Fish"
    )
    assert copies.num_failed == 0
    copies = copy(tmp_path, ("/x/1.png", RED), ("/x/2.png", RED))
    assert (copies.num_copied, copies.num_failed) == (0, 2)
    assert copies.failures[0][0] == "/x/1.png"
    assert "Boat" in copies.failures[0][1]


def test_a_name_that_a_folder_cannot_have_is_mended(tmp_path: Path) -> None:
    data = RED
    paths = [
        "http://h/a/photo?id=3",
        "http://h/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "http://h/",
        "s3a://bucket/..",
        "s3a://bucket/con.png",
        "http://h/" + "x" * 400 + ".png",
        "/x/" + "ü" * 126 + ".png",
    ]
    copy(tmp_path, *((path, data + path.encode()) for path in paths))
    assert sorted(tree(tmp_path)) == sorted(
        [
            "Boat/photo.png",
            "Boat/passwd.png",
            f"Boat/photo-{mark(data + paths[2].encode())}.png",
            f"Boat/photo-{mark(data + paths[3].encode())}.png",
            "Boat/photo con.png",
            f"Boat/{'x' * 120}.png",
            f"Boat/{'ü' * 113}.png",
        ]
    )


def test_a_name_that_is_not_unicode_stays_as_it_is(tmp_path: Path) -> None:
    copy(tmp_path, ("file:///x/caf%E9%25.png", RED))
    (copied,) = (tmp_path / "Boat").iterdir()
    assert os.fsencode(copied.name) == b"caf\xe9%.png"


def test_a_long_name_is_not_cut_in_the_middle_of_a_letter(tmp_path: Path) -> None:
    copy(tmp_path, ("/x/" + "a" + "ü" * 126 + ".png", RED))
    (copied,) = (tmp_path / "Boat").iterdir()
    assert copied.name == "a" + "ü" * 112 + ".png"


def test_in_a_bucket_names_are_unicode_and_else_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    (tmp_path / "in" / "Boat").mkdir(parents=True)
    monkeypatch.setattr(storage, "on_filesystem", lambda uris: (files, ["in"]))
    copies = Copies(CopyPlan("s3a://bucket/in", sort_folders(["Boat"])))
    expected = {
        "file:///x/caf%E9.png": "caf\\xe9.png",
        "/x/_1.png": "_1.png",
        f"/x/{'ü' * 70}.png": f"{'ü' * 70}.png",
        f"http://h/{'x' * 150}": f"{'x' * 120}.png",
    }
    for path in expected:
        copies.take(Opened(path, "ok", data=RED), {t.STATUS: "ok", t.CATEGORY: "Boat"})
    copies.close()
    assert (copies.num_copied, copies.failures) == (len(expected), [])
    assert {file.name for file in tmp_path.rglob("*.png")} == {*expected.values()}


def test_a_task_that_put_the_same_photo_there_meanwhile_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def be_late(part: str, at: str) -> None:
        link(part, at)
        monkeypatch.setattr(os, "link", link)
        link(part, at)

    monkeypatch.setattr(os, "link", be_late)
    copies = copy(tmp_path, ("/x/1.png", RED), is_shared=True)
    assert (copies.num_copied, copies.failures) == (1, [])
    assert tree(tmp_path) == {f"Boat/1-{mark(RED)}.png": RED}


def test_a_task_that_spark_tries_again_tells_of_its_copies_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    task = ClassifyTask(
        model="",
        run=ClassifyRun("r", "m", top=1, batch_size=1, transfers=1),
        limits=HttpLimits(1, 1, 5, 1000),
        budgets=Budgets({}),
        num_tasks=2,
        max_pixels=1,
        scratch=str(scratch),
        copies=CopyPlan(str(tmp_path / "into"), {}),
    )
    monkeypatch.setattr(
        "croplake.inference.task.load_classifier", lambda _: SimpleNamespace(side_px=8)
    )
    monkeypatch.setattr(
        "croplake.inference.copies.Copies.close", lambda self: setattr(self, "num_copied", 3)
    )
    for partition in (0, 1, 1):
        monkeypatch.setattr(
            TaskContext, "get", lambda number=partition: SimpleNamespace(partitionId=lambda: number)
        )
        assert list(task(iter(()))) == []
    assert read_copy_reports(str(scratch)).num_copied == 6


def test_names_that_some_file_system_takes_for_one_have_one_key() -> None:
    keys = {name_key(path) for path in ("/a/É.JPG", "/b/e\u0301.jpg", "http://h/%C3%A9")}
    assert len(keys) == 1
    assert name_key("/a/e.jpg") not in keys
    assert len({name_key(f"/a/{'x' * 240}{number}.jpg") for number in range(2)}) == 1, "both cut"
    assert file_name("/a/b\\c.jpg") == "b\\c.jpg"
    assert file_name("file://photo.jpg") == "photo.jpg"  # no address: its row says so
    (batch,) = add_name_keys([batch_of(["/a/1.jpg", "file:///x/caf%E9.png"])])
    assert batch.column("name_key").to_pylist() == ["1.jpg", "caf\\xe9.png"]


@pytest.mark.parametrize("category", ["unsure", "Unsure", "not_sorted.csv"])
def test_no_category_has_the_folder_of_unsure_photos(category: str) -> None:
    folders = sort_folders([category, "Boat/Ship", "boat"])
    assert folders[category].startswith(f"{category}-")
    assert folders["boat"] == "boat"
    assert folders["Boat/Ship"].startswith("Boat_Ship-")
