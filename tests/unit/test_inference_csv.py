"""The predictions as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from croplake import tables as t
from croplake.inference.csv_out import write_csv


def prediction(path: str, **values: Any) -> dict[str, Any]:  # noqa: ANN401
    return dict.fromkeys(t.PREDICTIONS.columns) | {t.PATH: path, t.STATUS: "ok"} | values


def test_guesses_have_columns_of_their_own_best_first(tmp_path: Path) -> None:
    rows = [
        prediction(
            "/a, b/ü.jpg",
            width_px=40,
            height_px=20,
            category="Noodle",
            probability=0.75,
            probabilities={"Bread": 0.25, "Noodle": 0.75},
        ),
        prediction("/n.txt", status="not_a_photo", detail='7 bytes that begin with b"\n"'),
    ]
    assert write_csv(rows, str(tmp_path / "new" / "p.csv"), top=3) == 2
    text = (tmp_path / "new" / "p.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == (
        "path,status,detail,width_px,height_px,category,probability,"
        "category_2,probability_2,category_3,probability_3"
    )
    first, second = csv.DictReader(text.splitlines(keepends=True))
    assert list(first.values()) == [
        "/a, b/ü.jpg",
        "ok",
        "",
        "40",
        "20",
        "Noodle",
        "0.750000",
        "Bread",
        "0.250000",
        "",
        "",
    ]
    assert second["detail"] == '7 bytes that begin with b"\n"'
    assert second["category"] == second["probability"] == ""


def test_a_run_that_breaks_off_leaves_the_older_file_as_it_was(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield prediction("/a.jpg")
        raise KeyboardInterrupt

    target = tmp_path / "p.csv"
    target.write_text("older")
    with pytest.raises(KeyboardInterrupt):
        write_csv(broken(), str(target), top=1)
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]
