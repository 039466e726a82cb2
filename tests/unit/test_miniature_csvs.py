"""The world's CSVs are what the real ones are, column for column.

Headers stand here as literals, from the architecture document, so that they cannot follow a slip
of the code's constants.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from croplake.miniature import World
from croplake.miniature.shapes import MAIN_SHAPES, OTHER_SHAPES

BOXES_HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
XCLICK_HEADER = "XClick1X,XClick2X,XClick3X,XClick4X,XClick1Y,XClick2Y,XClick3Y,XClick4Y"
PHOTOS_HEADER = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,"
    "OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation"
)
FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
BOXES = {
    "train": "oidv6-train-annotations-bbox.csv",
    "validation": "validation-annotations-bbox.csv",
    "test": "test-annotations-bbox.csv",
}
PHOTOS = {
    "train": "train-images-boxable-with-rotation.csv",
    "validation": "validation-images-with-rotation.csv",
    "test": "test-images-with-rotation.csv",
}
CLASSES = "oidv7-class-descriptions-boxable.csv"
HIERARCHY = "bbox_labels_600_hierarchy.json"
REAL_MIDS = {
    "/m/01g317": "Person",
    "/m/014j1m": "Apple",
    "/m/019jd": "Boat",
    "/m/03jm5": "House",
    "/m/07j7r": "Tree",
    "/m/0152hh": "Snowman",
    "/m/0898b": "Zebra",
}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def photo_rows(world: World) -> list[dict[str, str]]:
    return [row for name in PHOTOS.values() for row in rows_of(world.csv_dir / name)]


def box_rows(world: World, *subsets: str) -> list[dict[str, str]]:
    names = [BOXES[subset] for subset in subsets or BOXES]
    return [row for name in names for row in rows_of(world.csv_dir / name)]


def classes_of(world: World) -> dict[str, str]:
    return {row["LabelName"]: row["DisplayName"] for row in rows_of(world.csv_dir / CLASSES)}


def first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n", 1)[0]


def test_the_files_are_named_as_published(world: World) -> None:
    names = {*BOXES.values(), *PHOTOS.values(), CLASSES, HIERARCHY}
    assert {path.name for path in world.csv_dir.iterdir()} == names


@pytest.mark.parametrize("subset", ["train", "validation", "test"])
def test_headers_are_the_published_ones_and_every_row_has_all_columns(
    subset: str, world: World
) -> None:
    clicks = f",{XCLICK_HEADER}" if subset == "train" else ""
    for name, header in ((BOXES[subset], BOXES_HEADER + clicks), (PHOTOS[subset], PHOTOS_HEADER)):
        assert first_line(world.csv_dir / name) == header
        with (world.csv_dir / name).open(encoding="utf-8", newline="") as file:
            widths = Counter(map(len, csv.reader(file, strict=True)))
        assert set(widths) == {header.count(",") + 1}
        assert widths.total() > 20


def test_every_photo_stands_once_in_the_file_of_its_subset(world: World) -> None:
    for subset, name in PHOTOS.items():
        rows = rows_of(world.csv_dir / name)
        expected = [p["image_id"] for p in world.photos() if p["subset"] == subset]
        assert [row["ImageID"] for row in rows] == expected
        assert {row["Subset"] for row in rows} == {subset}
        assert all(re.fullmatch("[0-9a-f]{16}", row["ImageID"]) for row in rows)


def test_titles_with_quotes_are_quoted_and_their_quotes_doubled(world: World) -> None:
    text = (world.csv_dir / PHOTOS["train"]).read_text(encoding="utf-8")
    assert ',"""Quoted"" from end to ""end""",' in text
    assert re.search(r',"The ""real"" one, no\. \d+",', text)
    assert ',"Zoë, Max & Co",' in text
    titles = {row["Title"] for row in photo_rows(world)}
    assert '"Quoted" from end to "end"' in titles
    assert {"", " leading and trailing "} <= titles
    assert any(not title.isascii() for title in titles)


def test_some_thumbnails_are_empty_and_all_others_are_addresses(world: World) -> None:
    addresses = [row["Thumbnail300KURL"] for row in photo_rows(world)]
    assert 0.005 < addresses.count("") / len(addresses) < 0.06
    pattern = re.compile(r"http://farm\d\.staticflickr\.com/\d+/\d+_[0-9a-f]+_z\.jpg")
    assert all(pattern.fullmatch(address) for address in addresses if address)


def test_rotations_are_decimals_or_empty(world: World) -> None:
    expected = {0: "0.0", 90: "90.0", 180: "180.0", 270: "270.0", None: ""}
    truth = {photo["image_id"]: expected[photo["rotation_deg"]] for photo in world.photos()}
    assert {row["ImageID"]: row["Rotation"] for row in photo_rows(world)} == truth
    assert set(truth.values()) == set(expected.values())


def test_size_and_md5_are_those_of_the_original(world: World) -> None:
    for row in photo_rows(world):
        original = (world.root / "originals" / row["ImageID"]).read_bytes()
        digest = hashlib.md5(original, usedforsecurity=False).digest()
        assert row["OriginalMD5"] == base64.b64encode(digest).decode()
        assert base64.b64decode(row["OriginalMD5"], validate=True) == digest
        assert int(row["OriginalSize"]) == len(original)


def test_every_photo_has_a_licence_and_links_and_most_are_cc_by_2(world: World) -> None:
    rows = photo_rows(world)
    licences = Counter(row["License"] for row in rows)
    assert all(name.startswith("https://creativecommons.org/") for name in licences)
    assert licences["https://creativecommons.org/licenses/by/2.0/"] > 0.8 * len(rows)
    assert len(licences) > 1
    for row in rows:
        assert row["OriginalLandingURL"].startswith("https://www.flickr.com/photos/")
        assert row["AuthorProfileURL"].startswith("https://www.flickr.com/people/")


def test_every_annotated_box_has_its_row_with_the_same_corners_and_flags(world: World) -> None:
    names = classes_of(world)
    corners = {"XMin": "x_min", "XMax": "x_max", "YMin": "y_min", "YMax": "y_max"}
    flags_of = {
        (row["ImageID"], names[row["LabelName"]], *(float(row[name]) for name in corners)): {
            name: int(row[name]) for name in FLAGS
        }
        for row in box_rows(world)
    }
    for photo in world.photos():
        for box in photo["boxes"]:
            rounded = [round(box[name], 6) for name in corners.values()]
            flags = flags_of[photo["image_id"], box["class_name"], *rounded]
            assert flags in (box["flags"], dict.fromkeys(FLAGS, -1))


def test_boxes_lie_in_their_photo_and_say_how_they_were_made(world: World) -> None:
    for subset in BOXES:
        rows = box_rows(world, subset)
        ids = {photo["image_id"] for photo in world.photos() if photo["subset"] == subset}
        assert {row["ImageID"] for row in rows} <= ids
        assert {row["Source"] for row in rows} == (
            {"xclick", "activemil"} if subset == "train" else {"xclick"}
        )
        assert {row["Confidence"] for row in rows} == {"1"}
        for row in rows:
            assert 0 <= float(row["XMin"]) < float(row["XMax"]) <= 1
            assert 0 <= float(row["YMin"]) < float(row["YMax"]) <= 1


def test_flags_are_1_0_or_unknown(world: World) -> None:
    rows = box_rows(world)
    assert {row[flag] for row in rows for flag in FLAGS} == {"1", "0", "-1"}
    unknown = [row for row in rows if "-1" in (row[flag] for flag in FLAGS)]
    assert 0 < len(unknown) < 0.03 * len(rows)
    for flag in FLAGS:
        assert {row[flag] for row in rows} == {"1", "0", "-1"}


def test_clicks_touch_the_boxs_sides_and_are_minus_one_where_no_one_clicked(world: World) -> None:
    xs = [name for name in XCLICK_HEADER.split(",") if name.endswith("X")]
    ys = [name for name in XCLICK_HEADER.split(",") if name.endswith("Y")]
    rows = box_rows(world, "train")
    by_hand = [row for row in rows if row["Source"] == "xclick"]
    assert 0.8 < len(by_hand) / len(rows) < 0.97
    for row in rows:
        if row["Source"] == "activemil":
            assert {row[name] for name in (*xs, *ys)} == {"-1"}
        else:
            for names, least, most in ((xs, "XMin", "XMax"), (ys, "YMin", "YMax")):
                values = [float(row[name]) for name in names]
                assert (min(values), max(values)) == (float(row[least]), float(row[most]))


def test_a_few_rows_are_doubled_and_some_things_carry_a_class_above_too(world: World) -> None:
    names = classes_of(world)
    counts = Counter(tuple(row.items()) for row in box_rows(world))
    assert 0 < sum(count - 1 for count in counts.values()) < 0.03 * counts.total()
    labels = Counter(names[row["LabelName"]] for row in box_rows(world))
    assert 0 < labels["Building"] < labels["House"]
    assert 0 < labels["Plant"] < labels["Tree"]


def test_the_class_list_is_the_real_one(world: World) -> None:
    path = world.csv_dir / CLASSES
    assert first_line(path) == "LabelName,DisplayName"
    names = classes_of(world)
    assert len(rows_of(path)) == len(names) == 601
    assert {mid: names[mid] for mid in REAL_MIDS} == REAL_MIDS
    assert (
        hashlib.sha256(path.read_bytes()).hexdigest()
        == "658cb8e0043c931a56b839fe4e5a9801d5fef9098b14302a74d36628e5f78b9c"
    )


def test_the_hierarchy_is_the_real_one(world: World) -> None:
    path = world.csv_dir / HIERARCHY
    root = json.loads(path.read_bytes())
    assert root["LabelName"] == "/m/0bl9f"
    parents: dict[str, set[str]] = {}

    def walk(node: dict[str, Any]) -> None:
        for child in node.get("Subcategory", []):
            parents.setdefault(child["LabelName"], set()).add(node["LabelName"])
            walk(child)

    walk(root)
    assert set(parents) <= set(classes_of(world))
    assert len(parents) > 500
    assert "/m/0cgh4" in parents["/m/03jm5"]  # a house is a building
    assert "/m/05s2s" in parents["/m/07j7r"]  # a tree is a plant
    assert (
        hashlib.sha256(path.read_bytes()).hexdigest()
        == "dbfb4df453228c95d4154772b615ec65a787abd5d451b8d20c4ba08a4041f3a6"
    )


def test_the_drawn_classes_are_at_least_ten_of_the_real_ones(world: World) -> None:
    names = [shape.class_name for shape in (*MAIN_SHAPES, *OTHER_SHAPES)]
    assert len(MAIN_SHAPES) >= 10
    assert len(set(names)) == len(names)
    assert set(names) <= set(classes_of(world).values())
    assert world.class_names == tuple(shape.class_name for shape in MAIN_SHAPES)
