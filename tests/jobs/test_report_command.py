"""Where the page goes, what is refused, what else a report changes: nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from croplake import storage
from croplake.cli import main
from croplake.jobs.entry import main as job_main
from croplake.storage import local_path
from tests.jobs.rich_lake import report
from tests.jobs.small_lake import (
    PHOTO_A,
    PHOTO_D,
    SmallLake,
)


def test_a_look_writes_the_page_and_nothing_else(
    rich: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> dict[str, bytes]:
        files = [path for path in rich.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(rich.folder)): path.read_bytes() for path in files}

    before = state()
    report(rich)
    said = capsys.readouterr().out
    assert f"report_dataset: {rich.lake.root}/reports/fruit.html, 0.0 MB" in said
    after = state()
    assert after.pop("reports/fruit.html").startswith(b"<!doctype html>")
    assert after == before


def test_what_cannot_be_reported_is_an_error_with_a_way_out(
    rich: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["report-dataset", "--conf", rich.conf]
    assert main([*command, "--set", "dataset.name=nuts"]) == 4
    assert "selected_boxes has no box of dataset nuts; select_boxes" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert f"--out {tmp_path}: is a folder; expected the file" in capsys.readouterr().err
    assert main([*command, "--set", f"lake.root={tmp_path}/none"]) == 4
    assert "has no table selected_boxes" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    rich: SmallLake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # There is no such dataset either, which nobody finds out: the place is looked at first.
    command = ["report-dataset", "--conf", rich.conf, "--set", "dataset.name=nuts", "--out"]
    file = tmp_path / "file"
    file.write_text("no folder")
    for below in ("x.html", "a/b/x.html"):
        assert main([*command, str(file / below)]) == 2
        said = capsys.readouterr().err
        assert f"--out {file / below}: {file} is no folder; expected one, or nothing yet" in said
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert main([*command, str(tmp_path / "a" / "x.html")]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path} cannot be written to; expected a folder that can" in said
    assert not (tmp_path / "a").exists()


def test_a_page_that_fails_to_be_written_is_incomplete(
    rich: SmallLake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(uri: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_bytes", fail)
    assert main(["report-dataset", "--conf", rich.conf]) == 3
    said = capsys.readouterr().err
    assert "reports/fruit.html: the page could not be written ([Errno 28] No space left" in said
    assert "choose another place by --out" in said


def test_the_entry_of_spark_submit_takes_the_same_arguments(
    rich: SmallLake, tmp_path: Path
) -> None:
    out = (tmp_path / "a=b läke.html").as_uri()
    assert job_main("report_dataset", ["--conf", rich.conf, "--out", out]) == 0
    assert "Dataset fruit" in local_path(out).read_text(encoding="utf-8")


@pytest.mark.full
def test_forgetting_a_photo_removes_the_pages_that_show_it(
    rich: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    report(rich)
    pages = rich.folder / "reports"
    (pages / "other.html").write_text(f"photo {PHOTO_D}")
    assert main(["lake", "forget", "--conf", rich.conf, PHOTO_A]) == 0
    assert "reports/fruit.html" in capsys.readouterr().out
    assert [page.name for page in pages.iterdir()] == ["other.html"]
    assert PHOTO_A not in report(rich).text
