from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from croplake import open_lake, storage
from croplake import tables as t
from croplake.catalog.formats import BOXES_HEADER, PHOTOS_HEADER, SUBSETS, XCLICK_HEADER
from croplake.conf import Settings
from croplake.conf.loading import load_settings
from croplake.errors import IncompleteError, InputDataError
from croplake.miniature import MiniatureServer, World
from croplake.miniature.csvs import BOXES_FILES, CLASSES_FILE, HIERARCHY_FILE, PHOTOS_FILES
from croplake.miniature.full_size import write_full_size
from tests.jobs.world import (
    APPLE,
    CLASSES_CSV,
    PEAR,
    box_row,
    hand_made_settings,
    miniature_settings,
    photo_row,
    rows_of,
    run,
    said_by,
    write_csv,
)

A, B, C = "00000000000000aa", "00000000000000bb", "00000000000000cc"


def test_rows_become_photos_boxes_and_classes(spark: SparkSession, tmp_path: Path) -> None:
    title = '"He said ""cheese"", twice"'
    write_csv(
        tmp_path / "photos.csv",
        PHOTOS_HEADER,
        [
            photo_row(A, Title=title, Rotation="90.0", Thumbnail300KURL=""),
            photo_row(B, Title='"Äpfel, 林檎 🍎"', Rotation="", OriginalSize="", Author=""),
        ],
    )
    write_csv(
        tmp_path / "boxes.csv",
        (*BOXES_HEADER, *XCLICK_HEADER),
        [box_row(A, clicks=True), box_row(B, PEAR, clicks=True, IsOccluded="-1", IsGroupOf="1")],
    )
    settings = hand_made_settings(tmp_path)
    run(spark, "ingest_catalog", settings)
    photos = {row[t.IMAGE_ID]: row for row in rows_of(settings, "photos")}
    assert photos[A][t.TITLE] == 'He said "cheese", twice'
    assert photos[A][t.ROTATION_DEG] == 90
    assert photos[A][t.THUMBNAIL_URL] is None
    assert photos[B][t.TITLE] == "Äpfel, 林檎 🍎"
    assert photos[B][t.ROTATION_DEG] is None
    assert photos[B][t.ORIGINAL_SIZE_BYTES] is None
    boxes = {row[t.IMAGE_ID]: row for row in rows_of(settings, "boxes")}
    assert [boxes[B][flag] for flag in t.FLAGS] == [-1, 0, 1, 0, 0]
    assert [boxes[A][corner] for corner in t.CORNERS] == [0.1, 0.6, 0.2, 0.9]
    assert boxes[A][t.SUBSET] == "train"
    counts = {row[t.CLASS_NAME]: row for row in rows_of(settings, "classes")}
    assert counts["Pear"][t.NUM_BOXES_TRAIN] == 1
    assert counts["Pear"][t.PARENT_MIDS] == ["/m/0fruit"]
    assert counts["Fruit"][t.NUM_BOXES_TRAIN] == 0
    assert rows_of(settings, "rejected_rows") == []


def test_a_box_id_is_the_md5_of_photo_class_and_corners_in_millionths(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [box_row(A, XMin="0.1234567", XMax="1")])
    settings = hand_made_settings(tmp_path)
    run(spark, "ingest_catalog", settings)
    (box,) = rows_of(settings, "boxes")
    text = f"{A}|{APPLE}|123457|1000000|200000|900000"
    assert box[t.BOX_ID] == hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_equal_boxes_merge_into_the_most_confident_and_are_counted(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = [
        box_row(A, Confidence="0.5", Source="xclick", IsOccluded="1"),
        box_row(A, Confidence="1", Source="activemil"),
        box_row(A, XMin="0.10000001", Confidence="0.7"),
        box_row(B),
    ]
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, rows)
    settings = hand_made_settings(tmp_path)
    context = run(spark, "ingest_catalog", settings)
    boxes = {row[t.IMAGE_ID]: row for row in rows_of(settings, "boxes")}
    assert len(boxes) == 2
    assert (boxes[A][t.CONFIDENCE], boxes[A][t.SOURCE]) == (1.0, "activemil")
    assert context.counts["equal boxes merged"] == 2


def test_rows_that_cannot_be_read_are_kept_aside_with_file_line_text_and_reason(
    spark: SparkSession, tmp_path: Path
) -> None:
    bad_boxes = {
        "wrong_number_of_columns": f"{A},xclick,{APPLE},1,0.1,0.6",
        "unknown_class": box_row(A, "/m/0nobody"),
        "bad_image_id": box_row("not-hex"),
        "bad_corner": box_row(A, XMax="1.5"),
        "corners_reversed": box_row(A, YMin="0.9", YMax="0.2"),
        "bad_flag": box_row(A, IsInside="7"),
        "bad_confidence": box_row(A, Confidence="sure"),
    }
    lines = [box_row(A), *bad_boxes.values(), box_row(B), bad_boxes["bad_flag"]]
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, lines)
    bad_photos = {
        "wrong_subset": photo_row(B, Subset="test"),
        "bad_rotation": photo_row(C, Rotation="45.0"),
        "bad_original_size": photo_row(C, OriginalSize="big"),
    }
    write_csv(tmp_path / "photos.csv", PHOTOS_HEADER, [photo_row(A), *bad_photos.values()])
    settings = hand_made_settings(tmp_path)
    context = run(spark, "ingest_catalog", settings)
    found = {
        (Path(row[t.FILE]).name, row[t.LINE], row[t.REASON], row[t.TEXT])
        for row in rows_of(settings, "rejected_rows")
    }
    expected = {
        ("boxes.csv", number, reason, text)
        for number, (reason, text) in enumerate(bad_boxes.items(), start=3)
    }
    expected.add(("boxes.csv", 11, "bad_flag", bad_boxes["bad_flag"]))
    expected |= {
        ("photos.csv", number, reason, text)
        for number, (reason, text) in enumerate(bad_photos.items(), start=3)
    }
    assert found == expected
    assert context.counts["rejected: bad_flag"] == 2
    assert len(rows_of(settings, "boxes")) == 2
    assert len(rows_of(settings, "photos")) == 1


def three_subsets(folder: Path) -> Settings:
    """A photo and a box of each subset, in files of their own."""
    for image_id, subset in zip((A, B, C), SUBSETS, strict=True):
        write_csv(
            folder / f"{subset}-photos.csv", PHOTOS_HEADER, [photo_row(image_id, Subset=subset)]
        )
        write_csv(folder / f"{subset}-boxes.csv", BOXES_HEADER, [box_row(image_id)])
    catalog = {
        "classes": str(folder / "classes.csv"),
        "hierarchy": str(folder / "hierarchy.json"),
        "photos": {subset: str(folder / f"{subset}-photos.csv") for subset in SUBSETS},
        "boxes": {subset: str(folder / f"{subset}-boxes.csv") for subset in SUBSETS},
    }
    return hand_made_settings(folder, catalog=catalog)


def versions_of(settings: Settings) -> dict[str, int]:
    lake = open_lake(settings.lake.root)
    return {name: lake.version(name) for name in ("classes", "photos", "boxes", "rejected_rows")}


def test_the_same_files_again_change_nothing_and_say_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    settings = three_subsets(tmp_path)
    first = run(spark, "ingest_catalog", settings)
    before = versions_of(settings)
    for file in tmp_path.glob("*.csv"):
        os.utime(file)
    text = said_by(spark, "ingest_catalog", settings)
    again = run(spark, "ingest_catalog", settings)
    assert versions_of(settings) == before == again.written
    assert first.written == before
    assert again.counts == {"files that had not changed": 6}
    assert text == (
        "ingest_catalog: nothing to do, the 6 files are those that are in the catalog\n"
    )


def test_the_last_commit_tells_what_every_subset_holds(spark: SparkSession, tmp_path: Path) -> None:
    settings = three_subsets(tmp_path)
    run(spark, "ingest_catalog", settings)
    lake = open_lake(settings.lake.root)
    for table in ("photos", "boxes"):
        assert set(lake.notes(table)[0]["landed"]) == set(SUBSETS)


def test_a_subset_that_the_settings_name_no_more_stays_and_is_told_of(
    spark: SparkSession, tmp_path: Path
) -> None:
    settings = three_subsets(tmp_path)
    run(spark, "ingest_catalog", settings)
    before = versions_of(settings)
    catalog = settings.catalog.model_copy(
        update={"boxes": {"train": settings.catalog.boxes["train"]}}
    )
    text = said_by(spark, "ingest_catalog", settings.model_copy(update={"catalog": catalog}))
    assert "boxes: 1 rows of test stay in the lake" in text
    assert "catalog.boxes.validation" in text
    assert "photos:" not in text
    assert versions_of(settings) == before


def test_a_newer_file_replaces_its_subset_in_one_commit(
    spark: SparkSession, tmp_path: Path
) -> None:
    settings = three_subsets(tmp_path)
    run(spark, "ingest_catalog", settings)
    before = versions_of(settings)
    newer = [box_row(C, PEAR), box_row(C, XMin="0.3"), box_row(C, IsInside="7")]
    write_csv(tmp_path / "test-boxes.csv", BOXES_HEADER, newer)
    context = run(spark, "ingest_catalog", settings)
    boxes = rows_of(settings, "boxes")
    assert sorted((row[t.SUBSET], row[t.LABEL_MID], row[t.X_MIN]) for row in boxes) == [
        ("test", APPLE, 0.3),
        ("test", PEAR, 0.1),
        ("train", APPLE, 0.1),
        ("validation", APPLE, 0.1),
    ]
    after = versions_of(settings)
    assert after["boxes"] == before["boxes"] + 1
    assert after["photos"] == before["photos"]
    assert [row[t.SUBSET] for row in rows_of(settings, "rejected_rows")] == ["test"]
    assert context.counts["files that had not changed"] == 5
    counts = {row[t.CLASS_NAME]: row[t.NUM_BOXES_TEST] for row in rows_of(settings, "classes")}
    assert counts == {"Apple": 1, "Pear": 1, "Fruit": 0}
    write_csv(tmp_path / "test-boxes.csv", BOXES_HEADER, [box_row(C)])
    run(spark, "ingest_catalog", settings)
    assert rows_of(settings, "rejected_rows") == []


@pytest.mark.parametrize("table", ["photos", "boxes"])
def test_a_file_that_has_only_got_as_far_as_its_header_replaces_nothing(
    spark: SparkSession, tmp_path: Path, table: str
) -> None:
    settings = three_subsets(tmp_path)
    run(spark, "ingest_catalog", settings)
    before, versions = rows_of(settings, table), versions_of(settings)
    header = PHOTOS_HEADER if table == "photos" else BOXES_HEADER
    write_csv(tmp_path / f"test-{table}.csv", header, [])
    with pytest.raises(
        InputDataError, match=f"no row in it, and the catalog has 1 {table} of test"
    ):
        run(spark, "ingest_catalog", settings)
    assert (rows_of(settings, table), versions_of(settings)) == (before, versions)


def test_a_file_that_has_grown_much_shorter_is_told_of(spark: SparkSession, tmp_path: Path) -> None:
    settings = three_subsets(tmp_path)
    rows = [box_row(C, XMin=f"0.{digit}") for digit in range(1, 6)]
    write_csv(tmp_path / "test-boxes.csv", BOXES_HEADER, rows)
    assert "take the place" not in said_by(spark, "ingest_catalog", settings)
    write_csv(tmp_path / "test-boxes.csv", BOXES_HEADER, rows[:4])
    text = said_by(spark, "ingest_catalog", settings)
    assert "test-boxes.csv: 4 rows take the place of 5 boxes of test" in text


def test_a_store_that_does_not_answer_is_incomplete(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = three_subsets(tmp_path)

    def refuse_csvs(ask: Callable[[str], Any], uri: str) -> Any:  # noqa: ANN401
        if uri.endswith(".csv"):
            raise OSError("connection refused")
        return ask(uri)

    for name in ("stamp", "size_bytes", "exists"):
        monkeypatch.setattr(storage, name, partial(refuse_csvs, getattr(storage, name)))
    with pytest.raises(IncompleteError, match="cannot be looked at: connection refused"):
        run(spark, "ingest_catalog", settings)


def test_another_class_list_has_the_boxes_read_again(spark: SparkSession, tmp_path: Path) -> None:
    settings = three_subsets(tmp_path)
    write_csv(tmp_path / "test-boxes.csv", BOXES_HEADER, [box_row(C), box_row(C, "/m/0kiwi")])
    run(spark, "ingest_catalog", settings)
    photos = versions_of(settings)["photos"]
    with (tmp_path / "classes.csv").open("a") as file:
        file.write("/m/0kiwi,Kiwi\n")
    run(spark, "ingest_catalog", settings)
    assert len(rows_of(settings, "boxes")) == 4
    assert rows_of(settings, "rejected_rows") == []
    assert versions_of(settings)["photos"] == photos


def test_what_a_run_left_that_did_not_end_is_read_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    settings = three_subsets(tmp_path)
    run(spark, "ingest_catalog", settings)
    write_csv(tmp_path / "test-boxes.csv", BOXES_HEADER, [box_row(A, "/m/0no")] * 200)
    with pytest.raises(InputDataError, match="200 of 200 rows cannot be read"):
        run(spark, "ingest_catalog", settings)
    assert sorted(row[t.IMAGE_ID] for row in rows_of(settings, "boxes")) == [A, B, C]
    write_csv(tmp_path / "test-boxes.csv", BOXES_HEADER, [box_row(C, PEAR)])
    run(spark, "ingest_catalog", settings)
    (box,) = (row for row in rows_of(settings, "boxes") if row[t.SUBSET] == "test")
    assert box[t.LABEL_MID] == PEAR


def test_equal_photos_merge_and_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    rows = [photo_row(A), photo_row(A, Title="Zebra"), photo_row(B)]
    write_csv(tmp_path / "photos.csv", PHOTOS_HEADER, rows)
    settings = hand_made_settings(tmp_path)
    context = run(spark, "ingest_catalog", settings)
    titles = {row[t.IMAGE_ID]: row[t.TITLE] for row in rows_of(settings, "photos")}
    assert titles == {A: "Zebra", B: "Plain"}
    assert context.counts["equal photos merged"] == 1


def test_boxes_are_laid_out_by_class_and_photo(
    spark: SparkSession, world: World, server: MiniatureServer, tmp_path: Path
) -> None:
    settings = miniature_settings(world, server, tmp_path)
    run(spark, "ingest_catalog", settings)
    lake = open_lake(settings.lake.root)
    for file in lake.files("boxes", partition={t.SUBSET: "train"}):
        rows = pq.read_table(file, columns=[t.LABEL_MID, t.IMAGE_ID]).to_pylist()
        order = [(row[t.LABEL_MID], row[t.IMAGE_ID]) for row in rows]
        assert order == sorted(order)


def test_csvs_of_any_size_can_be_drawn_and_are_read_whole(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_full_size(tmp_path, times=0.001)
    catalog = {
        "classes": str(tmp_path / CLASSES_FILE),
        "hierarchy": str(tmp_path / HIERARCHY_FILE),
        "photos": {subset: str(tmp_path / name) for subset, name in PHOTOS_FILES.items()},
        "boxes": {subset: str(tmp_path / name) for subset, name in BOXES_FILES.items()},
    }
    settings = hand_made_settings(tmp_path, catalog=catalog)
    run(spark, "ingest_catalog", settings)
    assert rows_of(settings, "rejected_rows") == []
    photos, boxes = rows_of(settings, "photos"), rows_of(settings, "boxes")
    assert len(photos) == 1743 + 42 + 125
    assert 0.999 * 15_851 < len(boxes) <= 14_610 + 304 + 937
    assert {row[t.IMAGE_ID] for row in boxes} == {row[t.IMAGE_ID] for row in photos}
    turned = sum(row[t.ROTATION_DEG] != 0 for row in photos) / len(photos)
    assert 0.015 < turned < 0.04
    # Boxes that are equal by chance become one: some unknown ones may be among them.
    assert 20 <= sum(row[t.IS_INSIDE] == -1 for row in boxes) <= 22
    published = {
        t.IS_OCCLUDED: 0.66,
        t.IS_TRUNCATED: 0.25,
        t.IS_GROUP_OF: 0.06,
        t.IS_DEPICTION: 0.055,
        t.IS_INSIDE: 0.0024,
    }
    for flag, share in published.items():
        num_set = sum(row[flag] == 1 for row in boxes)
        spread = 4 * (share * (1 - share) / len(boxes)) ** 0.5
        assert num_set / len(boxes) == pytest.approx(share, abs=spread + 0.002)
    by_class = Counter(row[t.LABEL_MID] for row in boxes)
    assert len(by_class) > 450
    assert max(by_class.values()) > 0.05 * len(boxes)
    assert min(by_class.values()) < 0.0005 * len(boxes)


def test_a_file_without_a_last_line_break_is_whole(spark: SparkSession, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [box_row(A)])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    settings = hand_made_settings(tmp_path)
    run(spark, "ingest_catalog", settings)
    assert len(rows_of(settings, "boxes")) == 1


def test_windows_line_ends_and_v5_classes_without_a_header_are_read(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [box_row(A), box_row(B)])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (tmp_path / "classes.csv").write_text(CLASSES_CSV.split("\n", 1)[1])
    settings = hand_made_settings(tmp_path)
    run(spark, "ingest_catalog", settings)
    assert len(rows_of(settings, "boxes")) == 2
    assert rows_of(settings, "rejected_rows") == []


def test_the_published_addresses_give_the_catalog_that_the_files_give(
    spark: SparkSession, world: World, server: MiniatureServer, tmp_path: Path
) -> None:
    published = load_settings("conf/cluster.yaml").catalog.model_dump_json()
    over_http = json.loads(published.replace("https://", "http://"))
    (tmp_path / "http").mkdir()
    (tmp_path / "files").mkdir()
    downloaded = miniature_settings(world, server, tmp_path / "http", catalog=over_http)
    run(spark, "ingest_catalog", downloaded)
    local = miniature_settings(world, server, tmp_path / "files")
    run(spark, "ingest_catalog", local)
    for table, key in (("photos", t.IMAGE_ID), ("boxes", t.BOX_ID), ("classes", t.LABEL_MID)):
        rows = sorted(rows_of(downloaded, table), key=lambda row: row[key])
        assert rows == sorted(rows_of(local, table), key=lambda row: row[key])
    assert len(rows_of(local, "photos")) == world.num_photos
    num_boxes = sum(len(photo["boxes"]) for photo in world.photos())
    of_parents = {"Building", "Plant"}
    names = {row[t.LABEL_MID]: row[t.CLASS_NAME] for row in rows_of(local, "classes")}
    own = [row for row in rows_of(local, "boxes") if names[row[t.LABEL_MID]] not in of_parents]
    assert len(own) == num_boxes


def test_ranges_and_pieces_of_any_size_give_the_same_tables(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [box_row(f"{number % 50:016x}", (APPLE, PEAR)[number % 2]) for number in range(200)]
    rows[70] = rows[150] = box_row(A, IsInside="7")
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, rows)
    settings = hand_made_settings(tmp_path)
    run(spark, "ingest_catalog", settings)
    expected = [rows_of(settings, table) for table in ("boxes", "rejected_rows")]
    assert [row[t.LINE] for row in expected[1]] == [72, 152]
    assert len(expected[0]) == 50
    monkeypatch.setattr("croplake.catalog.reading._GREATEST_RANGE_BYTES", 3000)
    write_csv(tmp_path / "boxes.csv", BOXES_HEADER, [*rows, rows[0]])
    context = run(spark, "ingest_catalog", settings)
    assert context.counts["equal boxes merged"] == 149
    found = [rows_of(settings, table) for table in ("boxes", "rejected_rows")]
    assert [sorted(rows, key=str) for rows in found] == [sorted(rows, key=str) for rows in expected]
