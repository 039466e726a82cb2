"""CSVs that ingest_catalog refuses, and that nothing has changed then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from croplake import open_lake
from croplake import tables as t
from croplake.catalog.formats import BOXES_HEADER, PHOTOS_HEADER
from croplake.catalog.reading import write_rows
from croplake.errors import IncompleteError, InputDataError
from tests.jobs.world import box_row, hand_made_settings, rows_of, run, write_csv

A, B = "00000000000000aa", "00000000000000bb"


def test_a_hopeless_first_file_leaves_no_row(spark: SparkSession, tmp_path: Path) -> None:
    rows = [box_row(A), *[box_row(A, "/m/0no")] * 200]
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, rows)
    settings = hand_made_settings(tmp_path)
    with pytest.raises(InputDataError, match="200 of 201 rows cannot be read"):
        run(spark, "ingest_catalog", settings)
    assert not open_lake(settings.lake.root).exists("boxes")


def test_a_wrong_header_is_refused_by_name(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path / "boxes.csv", PHOTOS_HEADER, [])
    with pytest.raises(InputDataError) as error:
        run(spark, "ingest_catalog", hand_made_settings(tmp_path))
    assert f"{tmp_path}/boxes.csv: wrong header" in str(error.value)
    assert "missing  Source, LabelName" in str(error.value)


def test_a_file_that_breaks_off_inside_a_row_is_refused_by_name(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [box_row(A), box_row(B)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputDataError, match=r"boxes\.csv: truncated, its last row ends after"):
        run(spark, "ingest_catalog", hand_made_settings(tmp_path))


def test_a_file_of_mostly_unreadable_rows_is_refused_before_anything_is_replaced(
    spark: SparkSession, tmp_path: Path
) -> None:
    settings = hand_made_settings(tmp_path)
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [box_row(A)])
    run(spark, "ingest_catalog", settings)
    bad = [box_row(A, "/m/0nobody") for _ in range(200)]
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [*bad, *[box_row(B)] * 1000])
    with pytest.raises(InputDataError, match=r"200 of 1200 rows cannot be read \(unknown_class"):
        run(spark, "ingest_catalog", settings)
    assert [row[t.IMAGE_ID] for row in rows_of(settings, "boxes")] == [A]


def test_the_same_file_for_two_subsets_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    catalog = hand_made_settings(tmp_path).catalog.model_dump(mode="json")
    catalog["boxes"] |= {"test": str(tmp_path / "copy.csv")}
    for name in ("boxes.csv", "copy.csv"):
        write_csv(tmp_path / name, BOXES_HEADER, [box_row(A)])
    settings = hand_made_settings(tmp_path, catalog=catalog)
    with pytest.raises(InputDataError, match=r"has the same content as .*(copy|boxes)\.csv"):
        run(spark, "ingest_catalog", settings)
    assert not open_lake(settings.lake.root).exists("boxes")


def test_a_missing_file_is_named(spark: SparkSession, tmp_path: Path) -> None:
    settings = hand_made_settings(tmp_path)
    (tmp_path / "photos.csv").unlink()
    with pytest.raises(InputDataError, match=r"photos\.csv: no such file"):
        run(spark, "ingest_catalog", settings)


def test_a_file_that_changes_while_it_is_read_changes_nothing(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [box_row(A)])
    settings = hand_made_settings(tmp_path)

    def write_late(*args: Any) -> Any:  # noqa: ANN401
        write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [box_row(A), box_row(B)])
        return write_rows(*args)

    monkeypatch.setattr("croplake.jobs.ingest_parts.write_rows", write_late)
    with pytest.raises(IncompleteError, match=r"boxes\.csv: changed while it was read"):
        run(spark, "ingest_catalog", settings)
    assert not open_lake(settings.lake.root).exists("boxes")
