"""The lake without Spark, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from croplake import open_lake
from croplake import tables as t
from croplake.errors import SettingsError
from croplake.reader import delta_address
from tests.model_lake import add_rows


def test_a_lake_of_any_name_is_read_with_the_names_of_its_partitions(tmp_path: Path) -> None:
    root = tmp_path / "my läke #1?=50%"
    rows = [{t.DATASET: "früit 1", t.SPLIT: split, t.BOX_ID: split} for split in ("train", "test")]
    add_rows(str(root), t.EXAMPLES, *rows)
    for address in (str(root), root.as_uri()):
        lake = open_lake(address)
        files = lake.files("examples", partition={t.DATASET: "früit 1", t.SPLIT: "test"})
        assert [Path(file).exists() for file in files] == [True]
        read = lake.dataset("examples").to_table([t.DATASET, t.SPLIT]).to_pylist()
        expected = [{name: row[name] for name in (t.DATASET, t.SPLIT)} for row in rows]
        assert sorted(read, key=str) == sorted(expected, key=str)
        assert lake.lost_files("examples") == []


def test_a_key_of_a_bucket_is_percent_encoded_for_delta_rs() -> None:
    assert delta_address("s3a://b/läke #1? 50%/runs") == "s3://b/l%C3%A4ke%20%231%3F%2050%25/runs"
    assert delta_address("file:///l%C3%A4ke/runs") == "file:///l%C3%A4ke/runs"


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("gs://b/lake", r"'gs://b/lake': files are not kept there; expected .*s3a://BUCKET"),
        ("/lakes/50%25", "/lakes/50%25: delta-rs reads a percent sign before two hex digits as"),
        ("s3a://b/50%25", "s3a://b/50%25: delta-rs reads a percent sign before two hex digits as"),
    ],
)
def test_where_no_lake_can_be_is_told(root: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"^{said}"):
        open_lake(root)
