from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from croplake import open_lake
from croplake import tables as t
from croplake.catalog.formats import BOXES_HEADER, PHOTOS_HEADER
from croplake.cli import main
from croplake.conf import Settings
from croplake.errors import InputDataError, SettingsError
from croplake.lake import Lake
from tests.jobs.world import (
    APPLE,
    FRUIT,
    PEAR,
    box_row,
    hand_made_settings,
    photo_row,
    rows_of,
    run,
    said_by,
    write_csv,
)

A, B, C, D, E, F, G = (f"00000000000000{digit * 2}" for digit in "abcdef0")
BOXES = [
    box_row(A, IsOccluded="1"),
    box_row(B, IsGroupOf="1"),
    box_row(C, XMax="0.13"),
    box_row(D, IsOccluded="-1"),
    box_row(E, IsInside="-1", IsOccluded="1"),
    box_row(F, PEAR, IsDepiction="1"),
    box_row(G, PEAR),
    box_row(A, FRUIT),
]


@pytest.fixture(scope="module")
def catalog(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake that holds the catalog of `BOXES`."""
    folder = tmp_path_factory.mktemp("catalog")
    write_csv(folder / "boxes.csv", BOXES_HEADER, BOXES)
    run(spark, "ingest_catalog", hand_made_settings(folder))
    return folder


def with_dataset(folder: Path, **dataset: Any) -> Settings:  # noqa: ANN401
    spec = {"name": "fruit", "classes": ["Apple", "Pear"]} | dataset
    return hand_made_settings(folder, dataset=spec)


def select(
    spark: SparkSession,
    folder: Path,
    **dataset: Any,  # noqa: ANN401
) -> list[dict[str, Any]]:
    """Selects, and returns what landed of the dataset."""
    settings = with_dataset(folder, **dataset)
    run(spark, "select_boxes", settings)
    rows = rows_of(settings, "selected_boxes")
    return [row for row in rows if row[t.DATASET] == settings.dataset.name]


def reasons(rows: list[dict[str, Any]]) -> dict[str, str | None]:
    return {row[t.IMAGE_ID]: row[t.REJECT_REASON] for row in rows}


def test_every_box_of_the_chosen_classes_is_there_kept_or_with_its_reason(
    spark: SparkSession, catalog: Path
) -> None:
    rows = select(spark, catalog, min_box_side_frac=0.05)
    assert len(rows) == 7
    expected = {A: None, B: "group_of", C: "too_small", D: None, E: None, F: "depiction", G: None}
    assert reasons(rows) == expected
    assert {row[t.IMAGE_ID]: row[t.CATEGORY] for row in rows if row[t.IMAGE_ID] in (E, F)} == {
        E: "Apple",
        F: "Pear",
    }


def test_a_flag_may_be_asked_for_and_unknown_is_let_through_by_default(
    spark: SparkSession, catalog: Path
) -> None:
    rows = select(spark, catalog, flags={"occluded": "only", "group_of": "any"})
    not_occluded = dict.fromkeys((B, C, G), "not_occluded")
    assert reasons(rows) == {A: None, D: None, E: None, F: "not_occluded", **not_occluded}


def test_each_unknown_flag_has_its_own_choice(spark: SparkSession, catalog: Path) -> None:
    flags = {"occluded": "exclude", "inside": "exclude", "unknown": {"inside": "reject"}}
    found = reasons(select(spark, catalog, flags=flags))
    assert (found[A], found[D], found[E]) == ("occluded", None, "occluded")
    flags = {"occluded": "any", "inside": "exclude", "unknown": {"inside": "reject"}}
    assert reasons(select(spark, catalog, flags=flags))[E] == "inside_unknown"
    flags = {"occluded": "any", "unknown": {"occluded": "reject"}}
    found = reasons(select(spark, catalog, flags=flags))
    assert (found[A], found[D]) == (None, "occluded_unknown")


def test_own_categories_merge_classes_and_what_is_excluded_is_not_there(
    spark: SparkSession, catalog: Path
) -> None:
    spec = {"classes": [], "categories": {"fruit": ["fruit/**"]}, "exclude": ["pear"]}
    rows = select(spark, catalog, **spec)
    assert {(row[t.LABEL_MID], row[t.CATEGORY]) for row in rows} == {
        (APPLE, "fruit"),
        (FRUIT, "fruit"),
    }


def test_a_class_of_two_categories_stops_and_names_both(spark: SparkSession, catalog: Path) -> None:
    with pytest.raises(SettingsError, match=r'Apple falls into two categories: "a" .* and "Apple"'):
        select(spark, catalog, classes=["Apple"], categories={"a": ["app*"]})


def test_a_photo_that_two_subsets_list_doubles_no_box(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [box_row(A)])
    for subset in ("train", "test"):
        rows = [photo_row(A, Subset=subset)]
        write_csv(tmp_path / f"{subset}-photos.csv", PHOTOS_HEADER, rows)
    catalog = hand_made_settings(tmp_path).catalog.model_dump(mode="json")
    catalog["photos"] = {name: str(tmp_path / f"{name}-photos.csv") for name in ("train", "test")}
    dataset = {"name": "fruit", "classes": ["Apple"], "licenses": ["*"]}
    settings = hand_made_settings(tmp_path, catalog=catalog, dataset=dataset)
    for name in ("ingest_catalog", "select_boxes"):
        run(spark, name, settings)
    assert [row[t.REJECT_REASON] for row in rows_of(settings, "selected_boxes")] == [None]


def test_sources_confidence_and_licences_are_rules_too(spark: SparkSession, tmp_path: Path) -> None:
    boxes = [
        box_row(A),
        box_row(B, Source="activemil"),
        box_row(C, Confidence="0.5"),
        box_row(D),
        box_row(E),
    ]
    photos = [photo_row(image_id) for image_id in (A, B, C)]
    by_nd = "https://creativecommons.org/licenses/by-nd/2.0/"
    photos.append(photo_row(D, License=by_nd))
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, boxes)
    write_csv(tmp_path / "photos.csv", PHOTOS_HEADER, photos)
    run(spark, "ingest_catalog", with_dataset(tmp_path))
    rules = {
        "box_sources": ["xclick"],
        "min_confidence": 0.7,
        "licenses": ["*/licenses/BY/*", "*publicdomain*"],
    }
    assert reasons(select(spark, tmp_path, **rules)) == {
        A: None,
        B: "source_excluded",
        C: "low_confidence",
        D: "license_excluded",
        E: "license_excluded",
    }
    text = said_by(spark, "select_boxes", with_dataset(tmp_path, **rules, subsets=["train"]))
    assert 'dataset.licenses: no row of photos has "*publicdomain*"; they have ' in text
    assert "https://creativecommons.org/licenses/by/2.0/ (3)" in text
    assert "box_sources" not in text
    other = with_dataset(tmp_path, box_sources=["xclick", "activmil"])
    text = said_by(spark, "select_boxes", other)
    assert 'no row of boxes has "activmil"; they have xclick (4), activemil (1)' in text


def test_a_photo_gives_no_more_boxes_than_its_cap(spark: SparkSession, tmp_path: Path) -> None:
    boxes = [box_row(A, XMin=f"0.{number:03d}") for number in range(100, 104)] + [box_row(B)]
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [*boxes, box_row(A, PEAR)])
    run(spark, "ingest_catalog", with_dataset(tmp_path))
    rows = select(spark, tmp_path, max_boxes_per_photo=2)
    of_a = sorted((row for row in rows if row[t.IMAGE_ID] == A), key=lambda row: row[t.BOX_ID])
    assert [row[t.REJECT_REASON] for row in of_a] == [None, None] + 3 * ["over_photo_cap"]
    assert [row[t.REJECT_REASON] for row in rows if row[t.IMAGE_ID] == B] == [None]


def test_selecting_the_same_again_commits_nothing(spark: SparkSession, catalog: Path) -> None:
    select(spark, catalog, name="again")
    settings = with_dataset(catalog, name="again")
    version = open_lake(settings.lake.root).version("selected_boxes")
    context = run(spark, "select_boxes", settings)
    assert open_lake(settings.lake.root).version("selected_boxes") == version
    assert context.written == {"selected_boxes": version}
    assert context.counts["kept"] == 5


def test_a_selection_that_nothing_is_left_of_fails_every_time(
    spark: SparkSession, catalog: Path
) -> None:
    select(spark, catalog, name="left")
    for _ in range(2):
        with pytest.raises(InputDataError, match="no box is left"):
            select(spark, catalog, name="left", subsets=["test"])


def test_what_a_killed_run_has_committed_is_the_version_from_then_on(
    spark: SparkSession, catalog: Path
) -> None:
    select(spark, catalog, name="killed")
    changed = with_dataset(catalog, name="killed", min_box_side_frac=0.05)
    before = run(spark, "select_boxes", changed)
    lake = Lake(spark, changed.lake.root)
    lake.update(t.RUNS, f"{t.RUN_ID} = '{before.run_id}'", {t.OUTCOME: "'killed'"})
    again = run(spark, "select_boxes", changed)
    assert again.written == before.written
    assert again.counts == before.counts


def test_where_files_were_compacted_the_same_rows_are_those_of_the_newest_version(
    spark: SparkSession, catalog: Path
) -> None:
    select(spark, catalog, name="packed")
    settings = with_dataset(catalog, name="packed")
    lake = Lake(spark, settings.lake.root)
    is_theirs = f"{t.DATASET} = 'packed'"
    lake.replace(lake.read(t.SELECTED_BOXES).where(is_theirs), t.SELECTED_BOXES, where=is_theirs)
    newest = lake.version(t.SELECTED_BOXES)
    context = run(spark, "select_boxes", settings)
    assert context.written == {"selected_boxes": newest}
    assert context.counts["kept"] == 5
    assert lake.version(t.SELECTED_BOXES) == newest


def test_a_box_of_just_the_least_side_is_kept(spark: SparkSession, tmp_path: Path) -> None:
    """0.3 − 0.2 is a little less than 0.1 in binary."""
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [box_row(A, XMin="0.2", XMax="0.3")])
    run(spark, "ingest_catalog", with_dataset(tmp_path))
    assert reasons(select(spark, tmp_path, min_box_side_frac=0.1)) == {A: None}


def test_what_a_rule_says_is_printed_as_it_is(
    spark: SparkSession, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_dataset(catalog, name="odd")
    changes = ["--set", 'dataset.licenses=["*/licenses/by[/-]*"]']
    assert main(["select-boxes", "--conf", str(catalog / "conf.yaml"), *changes]) == 4
    said = capsys.readouterr()
    assert "by[/-]*" in said.out
    assert "no box is left" in said.err


def test_a_flag_that_is_unknown_may_be_turned_down(spark: SparkSession, catalog: Path) -> None:
    rows = select(spark, catalog, flags={"occluded": "exclude", "unknown": "reject"})
    found = reasons(rows)
    assert (found[A], found[D]) == ("occluded", "occluded_unknown")
    assert found[C] is None


@pytest.mark.parametrize("classes", [["aPPLE"], [APPLE], ["*ppl*"], ["APPLE", "apple", APPLE]])
def test_classes_are_chosen_by_name_in_any_capitalisation_by_mid_or_by_keyword(
    spark: SparkSession, catalog: Path, classes: list[str]
) -> None:
    rows = select(spark, catalog, classes=classes)
    assert sorted(reasons(rows)) == sorted([A, B, C, D, E])
    assert {row[t.CATEGORY] for row in rows} == {"Apple"}


def test_all_is_every_class_with_a_box(spark: SparkSession, catalog: Path) -> None:
    rows = select(spark, catalog, classes=["all"])
    assert {row[t.CATEGORY] for row in rows} == {"Apple", "Fruit", "Pear"}


def test_an_unknown_class_stops_with_the_names_it_may_have_meant(
    spark: SparkSession, catalog: Path
) -> None:
    with pytest.raises(SettingsError, match=r'no class matches "Appel"; did you mean: Apple'):
        select(spark, catalog, classes=["Appel"])


def test_a_dataset_replaces_only_itself(spark: SparkSession, catalog: Path) -> None:
    first = select(spark, catalog, name="first")
    select(spark, catalog, name="second", classes=["Pear"])
    assert len(select(spark, catalog, name="second", classes=["Apple"])) == 5
    assert select(spark, catalog, name="first") == first


def test_subsets_outside_the_dataset_are_rejected_and_nothing_left_is_an_error_that_counts_why(
    spark: SparkSession, catalog: Path
) -> None:
    with pytest.raises(InputDataError, match=r"no box is left \({'subset_excluded': 7}\)"):
        select(spark, catalog, subsets=["test"])


def test_a_cap_keeps_the_same_boxes_whatever_else_is_in_the_catalog(
    spark: SparkSession, tmp_path: Path
) -> None:
    boxes = [box_row(A, XMin=f"0.{number:03d}") for number in range(100, 130)]

    def kept_of(rows: list[str]) -> set[str]:
        write_csv(tmp_path / "boxes.csv", BOXES_HEADER, rows)
        run(spark, "ingest_catalog", with_dataset(tmp_path))
        judged = select(spark, tmp_path, max_boxes_per_category=5)
        apples = [row for row in judged if row[t.CATEGORY] == "Apple"]
        assert sum(row[t.REJECT_REASON] == "over_cap" for row in apples) == 25
        return {row[t.BOX_ID] for row in apples if row[t.REJECT_REASON] is None}

    few = kept_of(boxes)
    assert len(few) == 5
    assert kept_of([*reversed(boxes), box_row(B, PEAR)]) == few


def test_without_a_catalog_the_job_names_what_comes_first(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(InputDataError, match="has no table classes; the job that writes it comes"):
        run(spark, "select_boxes", with_dataset(tmp_path))
