"""What `plan-fetch` says, held against what the jobs then do."""

from __future__ import annotations

import io
import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from croplake import open_lake, storage
from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import InputDataError
from croplake.fetching.forecast import (
    CPU_S_PER_BOX,
    CPU_S_PER_BYTE,
    CPU_S_PER_PHOTO,
    forecast,
)
from croplake.fetching.outcome import TRANSIENT
from croplake.fetching.pacing import HostBudget
from croplake.jobs.way import run_look
from croplake.miniature import MiniatureServer, World
from tests.jobs.crops import kept_boxes
from tests.jobs.world import miniature_settings, rows_of, run


def plan(spark: SparkSession, settings: Settings) -> str:
    """What it prints."""
    console = Console(file=io.StringIO(), width=400, record=True)
    run_look(spark, "plan_fetch", settings, console)
    return console.export_text()


def said(text: str, what: str) -> str:
    """The value beside a name in the plan's table."""
    found = re.search(rf"│ {re.escape(what)} +│ +(.*?) +│", text)
    assert found, f"{what} in {text}"
    return found[1]


def cells(text: str, title: str) -> dict[str, dict[str, int]]:
    """A printed table's numbers, by row and column; its sums are the row `all`."""
    lines = text[text.index(title) :].splitlines()
    header = next(line for line in lines if line.startswith("┃"))
    _, *names = (name.strip() for name in header.strip("┃").split("┃"))
    found: dict[str, dict[str, int]] = {}
    for line in itertools.takewhile(lambda line: not line.startswith("└"), lines):
        if line.startswith("│"):
            row, *numbers = (cell.strip() for cell in line.strip("│").split("│"))
            found[row] = dict(zip(names, (int(n.replace(",", "")) for n in numbers), strict=True))
    return found


def spent_boxes(settings: Settings) -> set[str]:
    """Boxes without a crop that no further try is made for, by their only try."""
    passing = {status.value for status in TRANSIENT}
    crops = rows_of(settings, "crops")
    cut = {row[t.BOX_ID] for row in crops if row[t.HAS_CROP]}
    return {row[t.BOX_ID] for row in crops if row[t.STATUS] not in passing} - cut


def versions(settings: Settings) -> dict[str, int]:
    return {info.name: info.version for info in open_lake(settings.lake.root).tables()}


def test_it_says_what_will_be_done_and_changes_nothing(
    spark: SparkSession, world: World, server: MiniatureServer, tmp_path: Path
) -> None:
    classes = list(world.class_names)[:3]
    dataset = {
        "name": "few",
        "classes": classes,
        "flags": {"occluded": "exclude"},
        "max_boxes_per_category": 30,
    }
    settings = miniature_settings(world, server, tmp_path, dataset=dataset)
    run(spark, "ingest_catalog", settings)
    before = versions(settings)
    text = plan(spark, settings)
    assert versions(settings) == before
    assert not server.requests
    run(spark, "select_boxes", settings)
    kept = kept_boxes(settings)
    photos = {row[t.IMAGE_ID] for row in kept.values()}
    assert said(text, "photos to fetch") == f"{len(photos):,}"
    assert said(text, "boxes to cut") == f"{len(kept):,}"
    assert said(text, "photos in the lake") == "0"
    assert said(text, "photos given up") == "0"
    assert said(text, "of them at hand") == "0"
    reasons = Counter(row[t.REJECT_REASON] for row in rows_of(settings, "selected_boxes"))
    for reason in ("occluded", "over_cap"):
        assert reasons[reason]
        assert reason in text
    by_subset = Counter((row[t.CATEGORY], row[t.SUBSET]) for row in kept.values())
    part = text[text.index("kept boxes by subset") :]
    for category in classes:
        counts = [by_subset[category, subset] for subset in ("train", "test", "validation")]
        assert re.search(rf"│ {category} +│ +" + r" +│ +".join(map(str, counts)) + " +│", part)
    assert "bounded by" in said(text, "time")
    run(spark, "fetch_crops", settings)
    run(spark, "select_boxes", settings)
    again = plan(spark, settings)
    is_cut: dict[str, list[bool]] = {}
    cut = {row[t.BOX_ID] for row in rows_of(settings, "crops") if row[t.HAS_CROP]}
    for box_id, row in kept_boxes(settings).items():
        is_cut.setdefault(row[t.IMAGE_ID], []).append(box_id in cut)
    assert int(said(again, "photos in the lake")) == sum(map(all, is_cut.values()))
    numbers = [
        int(said(again, name))
        for name in ("photos to fetch", "photos in the lake", "photos given up")
    ]
    assert sum(numbers) == len(is_cut)
    assert numbers[2] > 0
    rows = kept_boxes(settings).values()
    given_up = spent_boxes(settings)
    boxes = cells(again, "plan-fetch: boxes")
    for category in classes:
        ids = {row[t.BOX_ID] for row in rows if row[t.CATEGORY] == category}
        assert boxes[category]["kept"] == len(ids - given_up)
        assert boxes[category]["given_up"] == len(ids & given_up)
    by_subset_again = cells(again, "plan-fetch: kept boxes by subset")
    assert sum(by_subset_again["all"].values()) == boxes["all"]["kept"]


def test_where_no_lake_is_it_makes_none(
    spark: SparkSession, world: World, server: MiniatureServer, tmp_path: Path
) -> None:
    settings = miniature_settings(world, server, tmp_path)
    with pytest.raises(InputDataError, match="the lake has no table classes"):
        plan(spark, settings)
    assert not storage.exists(settings.lake.root)


def test_photos_at_hand_are_told_apart_and_need_no_download(
    spark: SparkSession, world: World, server: MiniatureServer, tmp_path: Path
) -> None:
    at_hand = {"sources": ["at_hand", "mirror"], "at_hand": [str(world.root / "mirror" / "train")]}
    settings = miniature_settings(world, server, tmp_path, fetch=at_hand)
    run(spark, "ingest_catalog", settings)
    text = plan(spark, settings)
    run(spark, "select_boxes", settings)
    files = {path.stem for path in (world.root / "mirror" / "train").glob("*.jpg")}
    photos = {row[t.IMAGE_ID] for row in kept_boxes(settings).values()}
    assert said(text, "of them at hand") == str(len(photos & files))
    online = len(photos - files)
    assert said(text, "bytes to download") == f"{online * 322_000 / 1e6:.1f} MB"


def test_it_warns_of_what_a_dataset_lacks(
    spark: SparkSession, world: World, server: MiniatureServer, tmp_path: Path
) -> None:
    rare, common = list(world.class_names)[:2]
    dataset = {"name": "odd", "classes": [rare, common], "subsets": ["train", "validation"]}
    limits: dict[str, Any] = {"min_boxes": 1000, "max_imbalance": 1.0001}
    settings = miniature_settings(world, server, tmp_path, dataset=dataset, plan=limits)
    run(spark, "ingest_catalog", settings)
    text = plan(spark, settings)
    assert f"no test box: {', '.join(sorted((rare, common)))}" in text
    assert re.search(rf"{rare}: \d+ boxes are kept, fewer than 1000", text)
    assert re.search(r"has \d+ times the boxes of", text)
    assert not server.requests


def test_under_hash_it_warns_of_the_splits_that_it_would_make(
    spark: SparkSession, world: World, server: MiniatureServer, tmp_path: Path
) -> None:
    name = next(iter(world.class_names))
    dataset = {"name": "odd", "classes": [name], "split": "hash"}
    shares = {"train": 0.7, "validation": 0.3, "test": 0.0}
    settings = miniature_settings(
        world, server, tmp_path, dataset=dataset | {"hash_shares": shares}
    )
    run(spark, "ingest_catalog", settings)
    text = plan(spark, settings)
    assert f"no test box: {name} (dataset.hash_shares, or more boxes, would give some)" in text
    assert "no validation box" not in text
    assert "split: hash deals Open Images' own test photos out anew" in text


@pytest.mark.parametrize(
    ("changes", "bound", "seconds"),
    [
        ({}, "cores", 1000 * (CPU_S_PER_PHOTO + 3e5 * CPU_S_PER_BYTE + 2 * CPU_S_PER_BOX) / 2),
        (
            {"core_speed": 0.5},
            "cores",
            1000 * (CPU_S_PER_PHOTO + 3e5 * CPU_S_PER_BYTE + 2 * CPU_S_PER_BOX),
        ),
        ({"budget": HostBudget(2)}, "host", 1000 * 0.1 / 2),
        ({"budget": HostBudget(64, rate_per_s=10.0)}, "host", 100),
        ({"max_transfers": 1}, "transfers", 100),
        ({"max_transfers": 1, "num_online": 500}, "transfers", 50),
        ({"bandwidth_bytes_per_s": 1e6}, "bandwidth", 300),
    ],
)
def test_the_slowest_of_cores_host_and_line_decides(
    changes: dict[str, Any], bound: str, seconds: float
) -> None:
    values: dict[str, Any] = {
        "num_photos": 1000,
        "num_online": 1000,
        "num_boxes": 2000,
        "bytes_on_wire": 3e8,
        "bytes_decoded": 3e8,
        "num_cores": 2,
        "core_speed": 1.0,
        "budget": HostBudget(1000),
        "answer_s": 0.1,
        "bandwidth_bytes_per_s": 1e9,
        "max_transfers": 1000,
    }
    found = forecast(**values | changes)
    assert (found.bound, found.num_bytes) == (bound, 3e8)
    assert found.seconds == pytest.approx(seconds)
