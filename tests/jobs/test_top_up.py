"""Caps that are met although some of their boxes cannot be fetched."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from croplake import open_lake
from croplake import tables as t
from croplake.conf import Settings
from croplake.miniature import MiniatureServer, World
from tests.jobs.crops import kept_boxes
from tests.jobs.small_lake import SmallLake
from tests.jobs.world import miniature_settings, rows_of, run

CAP = 20


def num_crops(settings: Settings) -> Counter[str]:
    """Crops of the dataset's kept boxes, by category."""
    kept = kept_boxes(settings)
    crops = rows_of(settings, "crops")
    found = (row for row in crops if row[t.HAS_CROP] and row[t.BOX_ID] in kept)
    return Counter(kept[row[t.BOX_ID]][t.CATEGORY] for row in found)


def test_the_next_boxes_take_the_places_of_those_that_failed_until_the_cap_is_met(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    classes = list(world.class_names)[:4]
    dataset = {"name": "capped", "classes": classes, "max_boxes_per_category": CAP}
    fetch = {"retry": "none", "sources": ["mirror"]}
    settings = miniature_settings(world, server, folder, dataset=dataset, fetch=fetch)
    everything = dataset | {"name": "whole", "max_boxes_per_category": None}
    whole = miniature_settings(world, server, folder, dataset=everything, fetch=fetch)
    versions: list[int] = []
    before: set[str] = set()
    while len(versions) < 2 or versions[-1] != versions[-2]:
        run(spark, "select_boxes", settings)
        assert before <= set(kept_boxes(settings)), "a box that had its place has lost it"
        before = set(kept_boxes(settings))
        run(spark, "fetch_crops", settings)
        versions.append(open_lake(settings.lake.root).version("selected_boxes"))
    assert len(versions) > 2, "no box failed: the test shows nothing"
    run(spark, "select_boxes", whole)
    of_class = Counter(row[t.CATEGORY] for row in kept_boxes(whole).values())
    kept = Counter(row[t.CATEGORY] for row in kept_boxes(settings).values())
    for category, count in num_crops(settings).items():
        is_exhausted = kept[category] == of_class[category]
        assert count == CAP or (is_exhausted and count < CAP)
    assert CAP in num_crops(settings).values()


def reasons_of_two_apples(small: SmallLake) -> dict[str, str | None]:
    """Selects apples, two at most: box to the reason why it is not kept."""
    spec = small.settings.dataset.model_copy(
        update={"classes": ("Apple",), "max_boxes_per_category": 2}
    )
    capped = small.settings.model_copy(update={"dataset": spec})
    run(small.spark, "select_boxes", capped)
    rows = [row for row in rows_of(capped, "selected_boxes") if row[t.DATASET] == "fruit"]
    return {row[t.BOX_ID]: row[t.REJECT_REASON] for row in rows}


def test_a_spent_box_keeps_its_place_and_does_not_count(small: SmallLake) -> None:
    gone = {t.HAS_CROP: False, t.STATUS: "not_found", t.JPEG: None}
    small.lake.delete(t.CROPS, f"{t.BOX_ID} = 'b1'")
    small.add(t.CROPS, small.crop("b1", **gone))
    assert reasons_of_two_apples(small) == {
        "a1": None,
        "b1": None,
        "c1": None,
        "d1": "over_cap",
    }


@pytest.mark.parametrize(
    ("status", "reason_of_c1"), [("not_found", None), ("empty_crop", "over_cap")]
)
def test_no_box_of_a_photo_that_could_not_be_had_counts(
    small: SmallLake, status: str, reason_of_c1: str | None
) -> None:
    """b2 was tried, and its photo is gone: b1 of the same photo takes no place either."""
    gone = {t.HAS_CROP: False, t.STATUS: status, t.JPEG: None}
    small.lake.delete(t.CROPS, f"{t.BOX_ID} IN ('b1', 'b2')")
    small.add(t.CROPS, small.crop("b2", **gone))
    assert reasons_of_two_apples(small) == {
        "a1": None,
        "b1": None,
        "c1": reason_of_c1,
        "d1": "over_cap",
    }


def test_a_lost_photo_gives_no_more_boxes_than_its_own_cap(small: SmallLake) -> None:
    gone = {t.HAS_CROP: False, t.STATUS: "not_found", t.JPEG: None}
    small.lake.delete(t.CROPS, f"{t.BOX_ID} IN ('b1', 'b2')")
    small.add(t.CROPS, small.crop("b1", **gone))
    spec = small.settings.dataset.model_copy(update={"max_boxes_per_photo": 1})
    settings = small.settings.model_copy(update={"dataset": spec})
    run(small.spark, "select_boxes", settings)
    rows = [row for row in rows_of(settings, "selected_boxes") if row[t.DATASET] == "fruit"]
    kept = {row[t.BOX_ID] for row in rows if row[t.REJECT_REASON] is None}
    assert kept == {"a1", "b1", "c1", "d1"}


def test_a_box_that_is_still_tried_again_counts(small: SmallLake) -> None:
    busy = {t.HAS_CROP: False, t.STATUS: "busy", t.JPEG: None}
    small.lake.delete(t.CROPS, f"{t.BOX_ID} = 'b1'")
    small.add(t.CROPS, small.crop("b1", **busy))
    assert reasons_of_two_apples(small)["c1"] == "over_cap"
