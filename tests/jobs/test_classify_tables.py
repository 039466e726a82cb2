"""`croplake classify-photos` on Delta tables: those of others, and the lake's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.cli import main
from tests.jobs.classify import BLUE, RED, SCRIPT, arguments, host, jpeg, page_of
from tests.jobs.small_lake import ATTRIBUTION, PHOTO_A, PHOTO_B, SmallLake
from tests.jobs.world import rows_of


def test_photos_of_delta_tables_come_by_path_and_by_bytes(
    spark: SparkSession, small: SmallLake, colour_model: str, album: Path, tmp_path: Path
) -> None:
    paths = [(f"{album}/b/grey.jpg",), (f"{album}/b/grey.jpg",), (None,), ("relative.jpg",)]
    write_delta(spark, paths, "file string", tmp_path / "a#1 ä=%")
    held = [("one", jpeg(RED)), ("two", None), ("ü/../3.jpg", jpeg(BLUE, (500, 20)))]
    write_delta(spark, held, "path string, content binary", tmp_path / "bytes")
    into = tmp_path / "sorted"
    patterns = (f"delta:{tmp_path}/a#1 ä=%#file", f"delta:{tmp_path}/bytes", f"{album}/b/grey.jpg")
    command = [
        *arguments(small, colour_model, *patterns, min_probability="0"),
        "--sort-into",
        str(into),
    ]
    assert main(command) == 0
    table = f"delta:{(tmp_path / 'bytes').as_uri()}#"
    found = {row[t.PATH]: row[t.STATUS] for row in rows_of(small.settings, "predictions")}
    assert found == {
        f"{album}/b/grey.jpg": "ok",
        "": "bad_address",
        "relative.jpg": "bad_address",
        f"{table}one": "ok",
        f"{table}two": "empty",
        f"{table}ü/../3.jpg": "ok",
    }
    assert len(rows_of(small.settings, "predictions")) == len(found)
    names = [file.name.split("-")[0] for file in sorted(into.rglob("*.jpg"))]
    assert sorted(names) == ["3", "grey.jpg", "one"]


def write_delta(
    spark: SparkSession, rows: list[tuple[Any, ...]], schema: str, folder: Path
) -> None:
    spark.createDataFrame(rows, schema).write.format("delta").save(str(folder))


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (
            "delta:{0}/t#nothing",
            "the table has no column nothing, expected paths (string) or bytes",
        ),
        ("delta:{0}/t#number", "column number is int, expected paths (string) or bytes (binary); "),
        ("delta:{0}/t", "none of the columns content, path, url; name one with #COLUMN; it has "),
        ("delta:{0}/t#photo", "the table has no column path, expected a string that names the ph"),
        ("delta:{0}/t#photo,name", "2 photos are called 'x' in column name; a photo's name must"),
        (
            "delta:{0}/t#name,number",
            "column name has paths and addresses, which are names themselv",
        ),
        (
            "delta:crops#jpeg,box_id",
            "photos of the lake's crops have names of their own; leave out",
        ),
        ("delta:{0}/none", "no Delta table is there; expected delta:TABLE"),
        ("delta:boxes", "the lake's boxes has no photos; expected delta:TABLE"),
        ("delta:{0}/void#photo,name", "no photos there, the table has no row with one"),
    ],
)
def test_a_table_that_is_not_what_was_meant_is_told_with_its_columns(
    small: SmallLake,
    tables: Path,
    capsys: pytest.CaptureFixture[str],
    pattern: str,
    said: str,
    colour_model: str,
) -> None:
    assert main(arguments(small, colour_model, pattern.format(tables))) == 4
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    columns = "number int, name string, photo binary"
    write_delta(spark, [(1, "x", b"1"), (2, "x", b"2")], columns, folder / "t")
    write_delta(spark, [], columns, folder / "void")
    return folder


def test_photos_of_the_lake_are_credited_and_none_that_was_forgotten_is_asked_for(
    small: SmallLake, colour_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photo_e = f"{14:016x}"
    with host() as address:
        for image_id, name in ((photo_e, "red.jpg"), (f"{15:016x}", "gone.jpg")):
            row = {t.IMAGE_ID: image_id, t.SUBSET: "train", **ATTRIBUTION, t.TITLE: SCRIPT}
            small.add(t.PHOTOS, row | {t.ORIGINAL_URL: f"{address}/{name}"})
        small.add(t.FORGOTTEN_PHOTOS, {t.IMAGE_ID: f"{15:016x}"})
        command = arguments(small, colour_model, "delta:photos", "delta:crops", min_probability="0")
        assert main([*command, "--set", "fetch.private_hosts=[127.0.0.1]"]) == 0
    rows = rows_of(small.settings, "predictions")
    paths = {row[t.PATH].rsplit("/", 1)[-1]: row[t.STATUS] for row in rows}
    crops = ("a1", "a2", "b1", "b2", "c1", "c2")
    assert paths == {"red.jpg": "ok"} | {f"{box_id}.jpg": "ok" for box_id in crops}
    page = page_of(small)
    assert page.text.count("CC BY 2.0") == 7
    assert f"photo {photo_e}" in page.text
    # What was forgotten later goes from the page, the table and the CSV, and what a writer that
    # was killed has left of one, if in the middle of a letter.
    part = small.folder / "predictions_csv" / f".{'0a' * 16}.part"
    part.write_bytes("path\nü".encode()[:-1])
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A, photo_e]) == 0
    said = capsys.readouterr().out
    assert "page removed, it showed them" in said
    left = {row[t.PATH].rsplit("/", 1)[-1] for row in rows_of(small.settings, "predictions")}
    assert left == {"b1.jpg", "b2.jpg", "c1.jpg", "c2.jpg"}
    (file,) = (small.folder / "predictions_csv").iterdir()
    text = file.read_text()
    assert PHOTO_B in text
    assert PHOTO_A not in text
    assert "red.jpg" not in text
