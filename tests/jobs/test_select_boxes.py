from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.catalog.formats import BOXES_HEADER
from croplake.conf import Settings
from croplake.errors import InputDataError, SettingsError
from tests.jobs.world import (
    APPLE,
    FRUIT,
    PEAR,
    box_row,
    hand_made_settings,
    rows_of,
    run,
    write_csv,
)

A, B, C, D = (f"00000000000000{digit * 2}" for digit in "abcd")


def selected(
    spark: SparkSession,
    folder: Path,
    boxes: list[str],
    **dataset: Any,  # noqa: ANN401
) -> list[dict[str, Any]]:
    """Ingests the boxes, selects, and returns what landed."""
    write_csv(folder / "boxes.csv", BOXES_HEADER, boxes)
    settings = with_dataset(folder, **dataset)
    run(spark, "ingest_catalog", settings)
    run(spark, "select_boxes", settings)
    return rows_of(settings, "selected_boxes")


def with_dataset(folder: Path, **dataset: Any) -> Settings:  # noqa: ANN401
    spec = {"name": "fruit", "classes": ["Apple", "Pear"]} | dataset
    return hand_made_settings(folder, dataset=spec)


def reasons(rows: list[dict[str, Any]]) -> dict[str, str | None]:
    return {row[t.IMAGE_ID]: row[t.REJECT_REASON] for row in rows}


def test_every_box_of_the_chosen_classes_is_there_kept_or_with_its_reason(
    spark: SparkSession, tmp_path: Path
) -> None:
    boxes = [
        box_row(A),
        box_row(B, IsGroupOf="1"),
        box_row(C, XMax="0.13"),
        box_row(D, PEAR, IsDepiction="1"),
        box_row(A, FRUIT),
    ]
    rows = selected(spark, tmp_path, boxes, min_box_side_frac=0.05)
    assert reasons(rows) == {A: None, B: "group_of", C: "too_small", D: "depiction"}
    assert {row[t.CATEGORY] for row in rows} == {"Apple", "Pear"}
    assert {row[t.DATASET] for row in rows} == {"fruit"}


def test_flags_are_any_only_or_exclude_and_unknown_is_a_choice(
    spark: SparkSession, tmp_path: Path
) -> None:
    boxes = [
        box_row(A, IsOccluded="1"),
        box_row(B, IsOccluded="0"),
        box_row(C, IsOccluded="-1"),
        box_row(D, IsOccluded="1", IsInside="-1"),
    ]
    only = {"flags": {"occluded": "only"}}
    assert reasons(selected(spark, tmp_path, boxes, **only)) == {
        A: None,
        B: "not_occluded",
        C: None,
        D: None,
    }
    strict = {"flags": {"occluded": "only", "unknown": "reject"}}
    run(spark, "select_boxes", settings := with_dataset(tmp_path, **strict))
    assert reasons(rows_of(settings, "selected_boxes")) == {
        A: None,
        B: "not_occluded",
        C: "occluded_unknown",
        D: "inside_unknown",
    }


def test_a_cap_keeps_the_same_boxes_whatever_else_is_in_the_catalog(
    spark: SparkSession, tmp_path: Path
) -> None:
    boxes = [box_row(A, XMin=f"0.{number:03d}") for number in range(100, 130)]
    few = selected(spark, tmp_path, boxes, max_boxes_per_class=5)
    kept = {row[t.BOX_ID] for row in few if row[t.REJECT_REASON] is None}
    assert len(kept) == 5
    assert sum(row[t.REJECT_REASON] == "over_cap" for row in few) == 25
    more = selected(spark, tmp_path, [*reversed(boxes), box_row(B, PEAR)], max_boxes_per_class=5)
    assert {
        row[t.BOX_ID] for row in more if row[t.REJECT_REASON] is None and row[t.CATEGORY] == "Apple"
    } == kept


@pytest.mark.parametrize("classes", [["aPPLE"], [APPLE], ["*ppl*"], ["APPLE", "apple", APPLE]])
def test_classes_are_chosen_by_name_in_any_capitalisation_by_mid_or_by_keyword(
    spark: SparkSession, tmp_path: Path, classes: list[str]
) -> None:
    rows = selected(spark, tmp_path, [box_row(A), box_row(B, PEAR)], classes=classes)
    assert [(row[t.IMAGE_ID], row[t.CATEGORY]) for row in rows] == [(A, "Apple")]


def test_all_is_every_class_with_a_box(spark: SparkSession, tmp_path: Path) -> None:
    rows = selected(spark, tmp_path, [box_row(A), box_row(B, PEAR)], classes=["all"])
    assert sorted(row[t.CATEGORY] for row in rows) == ["Apple", "Pear"]


def test_an_unknown_class_stops_with_the_names_it_may_have_meant(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r'no class matches "Appel"; did you mean: Apple'):
        selected(spark, tmp_path, [box_row(A)], classes=["Appel"])


def test_a_dataset_replaces_only_itself(spark: SparkSession, tmp_path: Path) -> None:
    selected(spark, tmp_path, [box_row(A), box_row(B, PEAR)], name="first")
    settings = with_dataset(tmp_path, name="second", classes=["Pear"])
    run(spark, "select_boxes", settings)
    run(spark, "select_boxes", with_dataset(tmp_path, name="first", classes=["Apple"]))
    rows = rows_of(settings, "selected_boxes")
    assert sorted((row[t.DATASET], row[t.CATEGORY]) for row in rows) == [
        ("first", "Apple"),
        ("second", "Pear"),
    ]


def test_subsets_outside_the_dataset_are_rejected_with_their_reason(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = selected(spark, tmp_path, [box_row(A)], subsets=["test"], classes=["Apple"])
    assert reasons(rows) == {A: "subset_excluded"}


def test_a_dataset_that_keeps_nothing_is_an_error_that_counts_why(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(InputDataError, match=r"no box is left .*'group_of': 1"):
        selected(spark, tmp_path, [box_row(A, IsGroupOf="1")])


def test_without_a_catalog_the_job_names_what_comes_first(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(InputDataError, match="has no table classes; the job that writes it comes"):
        run(spark, "select_boxes", with_dataset(tmp_path))
