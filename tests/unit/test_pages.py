"""Where a page can go, and where it cannot: each refusal says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from croplake.errors import IncompleteError, SettingsError
from croplake.jobs.pages import check_place, write_page


def test_a_page_is_written_into_folders_that_are_made(tmp_path: Path) -> None:
    out = str(tmp_path / "a=b läke 100%" / "new" / "page.html")
    check_place(out)
    assert write_page(out, "<p>Pfützen</p>") == 15
    assert Path(out).read_text(encoding="utf-8") == "<p>Pfützen</p>"
    check_place(out)
    write_page(out, "anew")
    assert Path(out).read_text() == "anew"


def test_a_folder_in_the_pages_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a folder; expected the file"):
        check_place(str(tmp_path))


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"file is no folder; expected one"):
        check_place(str(tmp_path / "file" / "new" / "page.html"))


def test_a_folder_that_cannot_be_written_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system says it: root, whom CI may run as, is refused nowhere."""
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "closed")
    with pytest.raises(SettingsError, match="cannot be written to"):
        check_place(str(tmp_path / "closed" / "page.html"))


def test_a_place_elsewhere_is_not_looked_at() -> None:
    check_place("s3a://nobodys-bucket/page.html")


def test_a_page_that_cannot_be_written_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IncompleteError, match=r"could not be written .* run the same command"):
        write_page(str(tmp_path / "file" / "page.html"), "text")
