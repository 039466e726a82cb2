"""Exports of a small lake, and what they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from croplake import tables as t
from croplake.cli import main
from tests.jobs.small_lake import SmallLake, copy_small_lake

TITLE = 'A "pear", he said;\r\n=SUM(1) – 梨'
UNKNOWN: dict[str, Any] = {t.LICENSE: None, t.AUTHOR: None, t.AUTHOR_URL: None}


def make_odd_lake(original: SmallLake, folder: Path) -> SmallLake:
    """The small lake with a test split whose pictures say little of themselves, and a reject."""
    small = copy_small_lake(original, folder)
    digits = {t.IMAGE_ID: "0000000000000010", t.TITLE: "2009", t.SPLIT: "test"}
    told = {t.TITLE: TITLE, t.IS_OCCLUDED: -1}
    turned_down = {t.SPLIT: t.REJECTED_SPLIT, t.IMAGE: None, t.REJECT_REASON: "too_small_px"}
    small.add(
        t.EXAMPLES,
        small.example("a1") | digits | UNKNOWN | {t.EXAMPLE_ID: "1" * 32},
        small.example("a2") | told | {t.EXAMPLE_ID: "2" * 32},
        small.example("b1") | turned_down | {t.EXAMPLE_ID: "3" * 32},
    )
    return small


def export(small: SmallLake, format: str, into: Path | str, *arguments: str) -> int:
    given = ["--format", format, "--into", str(into), *arguments]
    return main(["export-examples", "--conf", small.conf, *given])


def tree(folder: Path) -> dict[str, bytes]:
    """Files of an export, but for its locks."""
    files = [path for path in folder.rglob("*") if path.is_file() and "_locks" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
