"""The page's figures are those of the tables, counted here a second time."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from croplake import open_lake
from croplake import tables as t
from croplake.cli import main
from croplake.jobs.context import JobContext
from croplake.jobs.near_duplicates import CROWDED_HASHES
from croplake.jobs.report_crops import crop_files
from croplake.report.dataset import ASPECT_RATIOS, SIDES_FRAC, SIDES_PX
from croplake.storage import local_path
from tests.html_page import Page, parse_page
from tests.jobs.rich_lake import PHOTO_E, Row, report, selected
from tests.jobs.small_lake import (
    ATTRIBUTION,
    PHOTO_A,
    PHOTO_B,
    PHOTO_C,
    SmallLake,
)
from tests.jobs.world import rows_of

CATEGORIES = "Kept boxes by subset and in all, rejected boxes, crops and examples, by category"
FLAGS_TABLE = "Kept boxes by flag; the share is of those that have it"


@pytest.fixture(scope="module")
def page(first_rich: SmallLake, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page about the rich lake's fruit."""
    out = tmp_path_factory.mktemp("page") / "fruit.html"
    assert main(["report-dataset", "--conf", first_rich.conf, "--out", str(out)]) == 0
    return parse_page(out.read_text(encoding="utf-8"))


def in_words(counts: Counter[Any]) -> dict[str, int]:
    return {str(name): count for name, count in counts.items() if name is not None}


def kept_and_last_tries(small: SmallLake) -> tuple[dict[str, Row], dict[str, Row]]:
    boxes = [row for row in rows_of(small.settings, "selected_boxes") if row[t.DATASET] == "fruit"]
    kept = {row[t.BOX_ID]: row for row in boxes if row[t.REJECT_REASON] is None}
    recipe_id = small.crop("a1")[t.RECIPE_ID]
    tries = [
        row
        for row in rows_of(small.settings, "crops")
        if row[t.RECIPE_ID] == recipe_id and row[t.BOX_ID] in kept
    ]
    tries.sort(key=lambda row: (row[t.HAS_CROP], row[t.ATTEMPT], row[t.FETCHED_AT]))
    return kept, {row[t.BOX_ID]: row for row in tries}


def names_in_bins(values: list[float], bins: Any) -> dict[str, int]:  # noqa: ANN401
    counts = dict.fromkeys(bins.names, 0)
    for value in values:
        place = next((i for i, edge in enumerate(bins.edges) if value < edge), len(bins.edges))
        counts[bins.names[place]] += 1
    return counts


def test_the_numbers_on_the_page_are_those_of_the_tables(first_rich: SmallLake, page: Page) -> None:
    boxes = [
        row for row in rows_of(first_rich.settings, "selected_boxes") if row[t.DATASET] == "fruit"
    ]
    kept, last = kept_and_last_tries(first_rich)
    examples = [
        row for row in rows_of(first_rich.settings, "examples") if row[t.DATASET] == "fruit"
    ]
    splits = Counter(row[t.SPLIT] for row in examples)
    assert page.numbers() == {
        "boxes kept": len(kept),
        "boxes rejected": 2,
        "photos with a kept box": 5,
        "crops": sum(row[t.HAS_CROP] for row in last.values()),
        "boxes without a crop": sum(not row[t.HAS_CROP] for row in last.values()),
        "boxes not fetched yet": len(kept) - len(last),
        **{f"{split} examples": splits[split] for split in t.SPLITS},
        "examples rejected": 2,
    }
    assert page.table(CATEGORIES) == [
        ["Apple", "5", "2", "1", "8", "1", "3", "3"],
        ["Pear", "2", "1", "1", "4", "0", "4", "3"],
        ["Quince", "0", "0", "0", "0", "1", "0", "0"],
    ]
    rejects = Counter(row[t.REJECT_REASON] for row in boxes)
    assert page.counts("Rejected boxes by reason") == in_words(rejects)
    rejects = Counter(row[t.REJECT_REASON] for row in examples)
    assert page.counts("Rejected examples by reason") == in_words(rejects)
    failures = Counter(
        f"{row[t.SOURCE] or 'none'}: {row[t.STATUS]}"
        for row in last.values()
        if not row[t.HAS_CROP]
    )
    assert page.counts("Boxes without a crop by source and status") == failures
    assert failures == {
        "mirror: not_found": 1,
        "thumbnail: not_found": 1,
        "mirror: host_paused": 1,
        "none: no_source": 1,
    }
    flags = {row[0]: row[1:] for row in page.table(FLAGS_TABLE)}
    for flag in t.FLAGS:
        found = Counter(row[flag] for row in kept.values())
        assert flags[flag] == [str(found[value]) for value in (1, -1, 0)] + [str(len(kept))]
    assert flags[t.IS_OCCLUDED] == ["1", "0", "11", "12"]


def test_sizes_and_shapes_are_counted_in_their_bins(first_rich: SmallLake, page: Page) -> None:
    kept, last = kept_and_last_tries(first_rich)
    sides = [min(row[t.X_MAX] - row[t.X_MIN], row[t.Y_MAX] - row[t.Y_MIN]) for row in kept.values()]
    crops = [row for row in last.values() if row[t.HAS_CROP]]
    px = [min(row[t.SOURCE_BOX_WIDTH_PX], row[t.SOURCE_BOX_HEIGHT_PX]) for row in crops]
    ratios = [row[t.WIDTH_PX] / row[t.HEIGHT_PX] for row in crops]
    counted = page.counts("Kept boxes by shorter side, as a fraction of the photo's")
    assert counted == names_in_bins(sides, SIDES_FRAC)
    assert (counted["below 0.05"], counted["0.95 and more"]) == (1, 1)
    counted = page.counts("Crops by shorter side of the box in px, before resizing")
    assert counted == names_in_bins(px, SIDES_PX)
    assert (counted["16 to 24"], counted["256 to 384"]) == (6, 1)
    counted = page.counts("Crops by width to height, as they are seen")
    assert counted == names_in_bins(ratios, ASPECT_RATIOS)
    assert (counted["3:2 to 2:1"], counted["4:1 and more"]) == (6, 1)


def test_photos_are_counted_once_by_licence_and_author(page: Page) -> None:
    assert page.counts("Photos by licence") == {"CC BY 2.0": 4, "licence not given": 1}
    assert "5 photos by 2 authors." in page.text
    assert page.counts("Authors with the most photos") == {"Ann": 4, "Bob": 1}
    links = {element.text.strip(): element["href"] for element in page.all("a")}
    assert links["Ann"] == ATTRIBUTION[t.AUTHOR_URL]
    assert "Bob" not in links


def test_near_duplicates_are_shown_by_the_first_crop_of_each_photo(page: Page) -> None:
    assert "3 photos are in 1 group of near-duplicates; 1 examples are rejected" in page.text
    (group,) = [e for e in page.all("ul") if e["data-name"] == "Group 1"]
    names = [name for name in ("Apple", "Pear") if name in group.text]
    assert names == ["Apple", "Pear"]  # a1, b1 and e6
    images = [e["alt"] for e in page.all("img")]
    assert [alt.split(",")[1] for alt in images[:3]] == [
        f" crop of photo {image_id}" for image_id in (PHOTO_A, PHOTO_B, PHOTO_E)
    ]


def by_files(small: SmallLake, *box_ids: str) -> list[tuple[str, Path]]:
    """Boxes with the files of their crops, in the order in which a page takes them."""
    partition = {t.RECIPE_ID: small.crop("a1")[t.RECIPE_ID], t.HAS_CROP: "true"}
    files = map(local_path, small.lake.reader.files("crops", partition=partition))
    found = [
        (zlib.crc32(file.name.encode()), box_id, file)
        for file in files
        for box_id in pq.ParquetFile(file).read([t.BOX_ID])[0].to_pylist()
        if box_id in box_ids
    ]
    return [(box_id, file) for _, box_id, file in sorted(found)]


def test_a_gallery_has_some_crops_of_its_category_made_small(rich: SmallLake, page: Page) -> None:
    assert len(page.all("img")) == 3 + 7
    settings = ["--set", "report.crops_per_category=2", "--set", "report.thumbnail_side_px=16"]
    images = report(rich, *settings).all("img")[3:]
    shown = [(e["alt"].split(",")[0], e["alt"].split(",")[1][-16:]) for e in images]
    photos = {"a": PHOTO_A, "b": PHOTO_B, "c": PHOTO_C, "e": PHOTO_E}
    assert shown == [
        *(("Apple", photos[box_id[0]]) for box_id, _ in by_files(rich, "a1", "b1", "c1")[:2]),
        *(("Pear", photos[box_id[0]]) for box_id, _ in by_files(rich, "a2", "b2", "c2", "e6")[:2]),
    ]
    for element in images:
        content = base64.b64decode(element["src"].partition(",")[2])
        with Image.open(io.BytesIO(content)) as image:
            assert max(image.size) == 16
            assert (element["width"], element["height"]) == tuple(map(str, image.size))
    num_bytes = sum(len(element["src"]) for element in images)
    bounded = report(rich, *settings, "--set", f"report.gallery_bytes={num_bytes - 1}")
    assert [e["src"] for e in bounded.all("img")[3:]] == [e["src"] for e in images[:3]]


@pytest.mark.full
def test_pictures_are_read_of_few_files(rich: SmallLake) -> None:
    """The first boxes by their ids lie in four files, and two of these are enough."""
    shutil.rmtree(rich.folder / "near_duplicates")
    apples = ["a1", "b1", "c1"]
    for number in range(4):
        added = [f"{place}{number}" for place in range(4)]
        rich.add(t.SELECTED_BOXES, *(selected(box_id, PHOTO_A) for box_id in added))
        rich.add(t.CROPS, *(rich.crop("a1") | {t.BOX_ID: box_id} for box_id in added))
        apples += added
    settings = ["--set", "report.crops_per_category=4"]
    before = report(rich, *settings).all("img")
    wanted = [*by_files(rich, *apples)[:4], *by_files(rich, "a2", "b2", "c2", "e6")]
    unread = {file for _, file in by_files(rich, *apples)} - {file for _, file in wanted}
    assert len(unread) >= 2
    for file in unread:
        spoil_pictures(file)
    assert [e["src"] for e in report(rich, *settings).all("img")] == [e["src"] for e in before]
    assert len(before) == 8
    context = JobContext(rich.spark, rich.settings, rich.lake, Console(quiet=True))
    context.pinned = {"crops": rich.lake.version(t.CROPS)}
    keys = {zlib.crc32(file.name.encode()) for _, file in wanted}
    opened = crop_files(context, keys, rich.crop("a1")[t.RECIPE_ID])
    assert {local_path(file) for file in opened} == {file for _, file in wanted}


def spoil_pictures(file: Path) -> None:
    """Nothing but the pictures, so that only who looks at them stumbles."""
    footer = pq.ParquetFile(file).metadata
    pictures = footer.row_group(0).column(footer.schema.names.index(t.JPEG))
    start = pictures.dictionary_page_offset or pictures.data_page_offset
    content = bytearray(file.read_bytes())
    end = start + pictures.total_compressed_size
    content[start:end] = b"\xff" * pictures.total_compressed_size
    file.write_bytes(content)


def test_the_page_names_the_versions_it_is_of(first_rich: SmallLake, page: Page) -> None:
    lake = open_lake(first_rich.settings.lake.root)
    names = ("classes", "photos", "selected_boxes", "crops", "near_duplicates", "examples")
    found = page.counts("Versions of the tables")
    assert found == {name: lake.version(name) for name in names}


def test_before_fetching_the_page_says_that_there_are_no_crops(rich: SmallLake) -> None:
    for name in ("crops", "examples", "near_duplicates", "photos"):
        shutil.rmtree(rich.folder / name)
    page = report(rich)
    assert page.numbers() == {
        "boxes kept": 12,
        "boxes rejected": 2,
        "photos with a kept box": 5,
    }
    assert "there are no crops." in page.text
    assert "Nobody has looked for near-duplicates yet." in page.text
    assert "The lake has no table of photos" in page.text
    assert page.all("img") == []
    assert page.counts("Versions of the tables").keys() == {"classes", "selected_boxes"}


def test_crops_of_other_recipes_or_datasets_are_not_this_pages(
    rich: SmallLake, tmp_path: Path
) -> None:
    shutil.rmtree(rich.folder / "examples")
    page = report(rich, "--set", "fetch.recipe.jpeg_quality=50")
    assert "crops" not in page.numbers()
    assert "No examples have been built yet." in page.text
    out = tmp_path / "new" / "pears.html"
    arguments = ["--set", "dataset.name=pears", "--out", str(out)]
    assert main(["report-dataset", "--conf", rich.conf, *arguments]) == 0
    numbers = parse_page(out.read_text(encoding="utf-8")).numbers()
    assert numbers["crops"] == numbers["boxes kept"] == 3
    assert not (rich.folder / "reports" / "pears.html").exists()


def test_a_crop_that_does_not_decode_is_told_on_the_page(rich: SmallLake) -> None:
    broken = {t.BOX_ID: "a0", t.JPEG: b"\xff\xd8 cut off"}
    rich.add(t.SELECTED_BOXES, selected("a0", PHOTO_E))
    rich.add(t.CROPS, rich.crop("a1") | broken | {t.IMAGE_ID: PHOTO_E})
    assert f"The crop of photo {PHOTO_E} does not decode." in report(rich).text


@pytest.mark.full
def test_a_label_without_a_box_is_on_the_page(rich: SmallLake) -> None:
    counts = dict.fromkeys((t.NUM_BOXES_TRAIN, t.NUM_BOXES_VALIDATION, t.NUM_BOXES_TEST), 0)
    plum = {t.LABEL_MID: "/m/0plum", t.CLASS_NAME: "Plum", t.PARENT_MIDS: [], **counts}
    rich.add(t.CLASSES, plum)
    page = report(rich, "--set", "dataset.classes=[Apple, Pear, Plum]")
    (row,) = [row for row in page.table(CATEGORIES) if row[0] == "Plum"]
    assert row == ["Plum", *["0"] * 7]
    assert "No box is kept of Plum, Quince." in page.text


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        pytest.param("reject", "No near-duplicates are on record.", marks=pytest.mark.full),
        ("reject", "max_bucket: 7 dHashes of more photos than are compared."),
        ("ignore", "Nobody has looked for near-duplicates yet."),
        pytest.param(None, "Nobody has looked for near-duplicates yet.", marks=pytest.mark.full),
    ],
)
def test_whether_anybody_looked_for_near_duplicates_is_told_by_the_datasets_own_build(
    rich: SmallLake, tmp_path: Path, rule: str | None, said: str
) -> None:
    out = tmp_path / "pears.html"
    if rule is not None:
        values = rich.settings.model_dump(mode="json")
        values["dataset"]["near_duplicates"]["rule"] = rule
        built = {
            t.DATASET: "pears",
            t.SETTINGS: json.dumps(values),
            t.COUNTS: {"train": 1, CROWDED_HASHES: 7},
        }
        rich.add(t.RUNS, rich.run("r9", "build_examples", **built))
    arguments = ["--set", "dataset.name=pears", "--out", str(out)]
    assert main(["report-dataset", "--conf", rich.conf, *arguments]) == 0
    assert said in parse_page(out.read_text(encoding="utf-8")).text
