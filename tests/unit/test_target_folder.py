"""Places within folders, however the addresses of both are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from croplake.errors import SettingsError
from croplake.target_folder import check_target, is_below


@pytest.mark.parametrize(
    ("place", "folder", "is_in_it"),
    [
        ("s3://bucket/lake/out", "s3a://bucket/lake", True),
        ("s3a://bucket/lake/", "s3://bucket/lake", True),
        ("s3a://bucket/lake2", "s3a://bucket/lake", False),
        ("s3a://bucket", "s3a://bucket/lake", False),
        ("/photos/a b/c", "file:///photos/a%20b", True),
        ("/photos/../photos/a", "/photos", True),
        ("/photo", "/photos", False),
        ("/a", "/", True),
    ],
)
def test_a_place_is_in_a_folder_however_both_are_written(
    place: str, folder: str, is_in_it: bool
) -> None:
    assert is_below(place, folder) == is_in_it


def test_links_do_not_hide_the_lake(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "link").symlink_to("lake")
    lake = (tmp_path / "lake").as_uri()
    with pytest.raises(SettingsError, match="is in the lake; expected a folder elsewhere"):
        check_target("--into", str(tmp_path / "link" / "out"), lake, own_folder="parts")
