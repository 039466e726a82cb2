from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from croplake import open_lake, storage
from croplake import tables as t
from croplake.care.photo_files import FILES_SCHEMA, files_with_photos
from croplake.care.vacuum import unused_files
from croplake.cli import main
from croplake.errors import InputDataError
from croplake.examples.layout import writer_properties
from croplake.report.similar_page import AskedPhoto, SimilarFigures, similar_page
from croplake.selection.todo import box_states, boxes_to_fetch
from croplake.session import session_properties
from tests.jobs.small_lake import (
    BOXES,
    FETCHED_AT,
    MODEL_ID,
    PHOTO_A,
    PHOTO_B,
    PHOTO_C,
    PHOTO_D,
    SmallLake,
)
from tests.jobs.world import rows_of, run

UNKNOWN = "f" * 16


def files_on_disk_with(small: SmallLake, table: t.Table, image_id: str) -> list[str]:
    """Every Parquet file below a table that has a row of the photo, of whatever version."""
    folder = small.lake.path(table)
    files = [file.path for file in storage.files_below(folder)]
    names = [name for name in files if not name.startswith("_") and name.endswith(".parquet")]
    batch = pa.record_batch([pa.array(names, pa.string())], schema=FILES_SCHEMA)
    found = files_with_photos([batch], folder=folder, image_ids=frozenset({image_id}))
    return [path for part in found for path in part.column(0).to_pylist()]


def test_a_forgotten_photo_is_out_of_crops_and_examples_of_every_dataset(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A.upper()]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert {row[t.BOX_ID] for row in rows_of(small.settings, "crops")} == {
        "b1",
        "b2",
        "c1",
        "c2",
        "d1",
    }
    examples = {(row[t.DATASET], row[t.BOX_ID]) for row in rows_of(small.settings, "examples")}
    assert examples == {
        ("fruit", "b1"),
        ("fruit", "b2"),
        ("fruit", "c1"),
        ("fruit", "c2"),
        ("pears", "b2"),
        ("pears", "c2"),
    }
    reasons = {
        (row[t.DATASET], row[t.BOX_ID]): row[t.REJECT_REASON]
        for row in rows_of(small.settings, "selected_boxes")
    }
    assert len(reasons) == 10
    assert {key for key, reason in reasons.items() if reason == "forgotten"} == {
        ("fruit", "a1"),
        ("fruit", "a2"),
        ("pears", "a2"),
    }
    (noted,) = rows_of(small.settings, "forgotten_photos")
    assert noted[t.IMAGE_ID] == PHOTO_A
    (ran,) = [row for row in rows_of(small.settings, "runs") if row[t.JOB] == "forget"]
    assert ran[t.OUTCOME] == "done"
    assert ran[t.RUN_ID] == noted[t.RUN_ID]
    assert dict(ran[t.TABLES_WRITTEN]).keys() == {
        "forgotten_photos",
        "selected_boxes",
        "near_duplicates",
        "examples",
        "crops",
    }
    assert "files that still hold their bytes: 3; they go with the next croplake lake main" in said
    assert f"model {MODEL_ID} was trained on examples version 1, which will lose files" in said
    assert files_on_disk_with(small, t.CROPS, PHOTO_A)


def test_with_vacuum_its_bytes_are_gone_from_the_disk_at_once_and_no_others(
    small: SmallLake,
) -> None:
    assert main(["lake", "forget", "--conf", small.conf, "--vacuum", PHOTO_A]) == 0
    for table in (t.CROPS, t.EXAMPLES):
        assert files_on_disk_with(small, table, PHOTO_A) == []
        assert files_on_disk_with(small, table, PHOTO_C)
    assert len(rows_of(small.settings, "crops")) == 5
    assert len(rows_of(small.settings, "examples")) == 6


def test_a_photo_the_lake_does_not_know_is_noted_and_said(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {info.name: info.version for info in open_lake(small.settings.lake.root).tables()}
    assert main(["lake", "forget", "--conf", small.conf, UNKNOWN]) == 0
    assert f"not in the lake, noted all the same: {UNKNOWN}" in capsys.readouterr().out
    (noted,) = rows_of(small.settings, "forgotten_photos")
    assert noted[t.IMAGE_ID] == UNKNOWN
    after = {info.name: info.version for info in open_lake(small.settings.lake.root).tables()}
    assert {name for name in after if after[name] != before.get(name)} == {
        "forgotten_photos",
        "runs",
    }


@pytest.mark.full
def test_forgetting_twice_notes_once_and_finishes_what_a_killed_run_left(small: SmallLake) -> None:
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A]) == 0
    small.add(t.CROPS, small.crop("a1"))
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A]) == 0
    assert len(rows_of(small.settings, "forgotten_photos")) == 1
    assert "a1" not in {row[t.BOX_ID] for row in rows_of(small.settings, "crops")}


@pytest.mark.parametrize("wrong", ["12345", "x" * 16, "'; --", f"{PHOTO_A}.jpg"])
def test_what_is_no_image_id_is_exit_code_2_and_nothing_is_forgotten(
    small: SmallLake, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A, wrong]) == 2
    assert "not an image id: " in (said := capsys.readouterr().err)
    assert wrong.lower() in said
    assert len(rows_of(small.settings, "crops")) == 7
    assert not (small.folder / "forgotten_photos").exists()


def test_a_forgotten_photo_is_never_asked_for_whatever_is_selected(small: SmallLake) -> None:
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A]) == 0
    selected = small.lake.read(t.SELECTED_BOXES, version=1)
    states = box_states(small.lake.read(t.CROPS), "another recipe")
    forgotten = small.lake.read(t.FORGOTTEN_PHOTOS).select(t.IMAGE_ID)
    due = boxes_to_fetch(selected, states, small.settings.fetch, forgotten).collect()
    assert {row[t.BOX_ID] for row in due} == {"b1", "b2", "c1", "c2", "d1"}


@pytest.mark.full
def test_selecting_again_gives_its_boxes_the_reason_and_their_places_to_others(
    small: SmallLake,
) -> None:
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A]) == 0
    spec = small.settings.dataset.model_copy(update={"max_boxes_per_category": 2})
    capped = small.settings.model_copy(update={"dataset": spec})
    run(small.spark, "select_boxes", capped)
    reasons = {
        row[t.BOX_ID]: row[t.REJECT_REASON]
        for row in rows_of(small.settings, "selected_boxes")
        if row[t.DATASET] == "fruit"
    }
    assert reasons == {
        "a1": "forgotten",
        "a2": "forgotten",
        "b1": None,
        "b2": None,
        "c1": None,
        "c2": None,
        "d1": "over_cap",
    }


@pytest.mark.full
def test_evaluating_a_model_whose_split_lost_files_says_so_and_the_way_out(
    small: SmallLake,
) -> None:
    (small.folder / "models" / MODEL_ID / "model.keras").write_bytes(b"is not asked")
    assert main(["lake", "forget", "--conf", small.conf, "--vacuum", PHOTO_C]) == 0
    of_validation = small.settings.evaluate.model_copy(update={"split": "validation"})
    settings = small.settings.model_copy(update={"evaluate": of_validation})
    with pytest.raises(InputDataError, match=r"1 files of the validation split .* train again"):
        run(small.spark, "evaluate_classifier", settings)
    assert boxes_of_train(small) == ["a1", "a2", "b1", "b2"]


def boxes_of_train(small: SmallLake) -> list[str]:
    """The other splits of the version are whole."""
    files = small.lake.reader.files(
        "examples", version=1, partition={"dataset": "fruit", "split": "train"}
    )
    return sorted(pads.dataset(files).to_table(columns=["box_id"])[0].to_pylist())


def test_shards_that_lose_a_row_keep_their_row_groups_small(small: SmallLake) -> None:
    many = [
        small.example("b1", example_id=f"{n:032x}", image=random.Random(n).randbytes(9_000))
        for n in range(400)
    ]
    theirs = [small.example("a1", example_id="a" * 32)]
    with session_properties(small.spark, writer_properties(64 * 1024)):
        small.lake.replace(small.frame(t.EXAMPLES, *many, *theirs), t.EXAMPLES)

    def groups() -> int:
        files = small.lake.reader.files("examples", partition={"split": "train"})
        return sum(pq.ParquetFile(file).num_row_groups for file in files)

    before = groups()
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A]) == 0
    assert len(rows_of(small.settings, "examples")) == 400
    assert 20 < before <= groups() + 1


ADDRESSES = {
    t.ORIGINAL_URL: "https://farm1.staticflickr.com/1/22_ab_o.jpg",
    t.THUMBNAIL_URL: "https://c2.staticflickr.com/1/22_cd_z.jpg?zz=1&k=2",
    t.LANDING_URL: "https://www.flickr.com/photos/ann/22",
}


@pytest.mark.full
def test_a_page_that_has_nothing_of_a_photo_but_an_address_is_removed_and_no_other(
    small: SmallLake,
) -> None:
    other = {column: address.replace("22", "223") for column, address in ADDRESSES.items()}
    subset = {t.SUBSET: "train"}
    small.put(
        t.PHOTOS,
        subset | {t.IMAGE_ID: PHOTO_A} | ADDRESSES,
        subset | {t.IMAGE_ID: PHOTO_B} | other,
    )
    reports = small.folder / "reports"
    reports.mkdir()
    for of, addresses in (("theirs", ADDRESSES), ("other", other)):
        for column, address in addresses.items():
            asked = AskedPhoto(address, b"", 1, 1)
            page = similar_page(SimilarFigures(asked, [], "n", 1, True, None, {}, FETCHED_AT))
            (reports / f"{of}_{column}.html").write_text(page)
    assert main(["lake", "forget", "--conf", small.conf, PHOTO_A]) == 0
    assert {page.stem for page in reports.iterdir()} == {f"other_{name}" for name in other}


def add_export(small: SmallLake, run_id: str, detail: str, **changes: Any) -> None:  # noqa: ANN401
    """A run of export_examples of the tables as they are, unless changes say otherwise."""
    tables: tuple[t.Table, ...] = (t.CLASSES, t.EXAMPLES)
    if detail.startswith("crops"):
        tables = (t.CLASSES, t.SELECTED_BOXES, t.CROPS)
    read = {table.name: small.lake.version(table) for table in tables}
    row = {t.DETAIL: detail, t.TABLES_READ: read} | changes
    small.add(t.RUNS, small.run(run_id, "export_examples", **row))


def exports_named_for(
    small: SmallLake, image_id: str, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    capsys.readouterr()
    assert main(["lake", "forget", "--conf", small.conf, image_id]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line.partition("is yours to remove: ") for line in lines]
    return [export for _, found, export in named if found]


@pytest.mark.full
def test_exports_that_show_a_photo_are_named_whatever_ended_them_and_no_others(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    turned_down = f"{t.IMAGE_ID} = '{PHOTO_C}'"
    small.lake.update(t.SELECTED_BOXES, turned_down, {t.REJECT_REASON: "'too_small'"})
    small.lake.update(t.EXAMPLES, turned_down, {t.SPLIT: f"'{t.REJECTED_SPLIT}'"})
    add_export(small, "r10", "examples as folders into file:///done")
    add_export(small, "r11", "crops as webdataset into s3a://b/killed; 2", outcome="running")
    failed = "file:///half: 1 of 2 shards could not be written: x; the same command goes on"
    half = f"examples as folders into file:///half; {failed}"
    add_export(small, "r12", half, outcome="incomplete")
    refused = "file:///no: holds examples of dataset fruit as folders, asked for is x; export into"
    add_export(small, "r13", refused, outcome="failed")
    add_export(small, "r14", "examples as folders into file:///pears", dataset="pears")
    assert exports_named_for(small, PHOTO_A, capsys) == [
        "crops as webdataset into s3a://b/killed; 2",
        "examples as folders into file:///done",
        "examples as folders into file:///half",
        "examples as folders into file:///pears",
    ]
    # What was turned down, or could not be had though its box was kept, is in no export.
    assert exports_named_for(small, PHOTO_C, capsys) == []
    assert exports_named_for(small, PHOTO_D, capsys) == []


@pytest.mark.full
def test_an_export_of_a_dataset_that_was_made_anew_without_the_photo_is_named_by_its_versions(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    add_export(small, "r10", "examples as folders into file:///examples-then")
    add_export(small, "r11", "crops as folders into file:///crops-then")
    of_fruit = f"{t.DATASET} = 'fruit'"
    selected = [
        row
        for row in rows_of(small.settings, "selected_boxes")
        if row[t.DATASET] == "fruit" and row[t.IMAGE_ID] == PHOTO_C
    ]
    small.put(t.SELECTED_BOXES, *selected, where=of_fruit)
    small.put(t.EXAMPLES, small.example("c1"), where=of_fruit)
    add_export(small, "r12", "examples as folders into file:///examples-now")
    add_export(small, "r13", "crops as folders into file:///crops-now")
    assert exports_named_for(small, PHOTO_A, capsys) == [
        "crops as folders into file:///crops-then",
        "examples as folders into file:///examples-then",
    ]


def test_an_export_of_a_version_that_cannot_be_read_any_more_is_named(
    small: SmallLake, capsys: pytest.CaptureFixture[str]
) -> None:
    add_export(small, "r10", "examples as folders into file:///files-gone")
    small.put(t.EXAMPLES, *(small.example(box) for box in BOXES if box != "d1"))
    for file in unused_files(small.lake, t.EXAMPLES):
        Path(small.folder, t.EXAMPLES.name, file.path).unlink()
    add_export(small, "r11", "examples as folders into file:///still-there")
    add_export(
        small, "r12", "examples as folders into file:///log-gone", tables_read={"examples": 99}
    )
    add_export(small, "r13", "examples as folders into file:///not-told", tables_read={})
    assert exports_named_for(small, UNKNOWN, capsys) == [
        "examples as folders into file:///files-gone",
        "examples as folders into file:///log-gone",
        "examples as folders into file:///not-told",
    ]
