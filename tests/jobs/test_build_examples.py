from __future__ import annotations

import hashlib
import itertools
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import BinaryType

from croplake import open_lake
from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import InputDataError
from croplake.examples.layout import ShardLayout, plan_layout
from croplake.jobs.way import JOBS
from croplake.lake import Lake
from croplake.storage import local_path
from tests.jobs.conftest import WholeWay
from tests.jobs.small_lake import PHOTO_A, PHOTO_B, PHOTO_C, SmallLake, class_row
from tests.jobs.world import PEAR, rows_of, run, said_by


def with_dataset(way: WholeWay, folder: Path, **changes: object) -> Settings:
    """The way's settings over a copy of its lake, with another dataset spec."""
    shutil.copytree(way.settings.lake.root, folder / "lake")
    settings = way.settings.model_dump()
    settings["lake"]["root"] = str(folder / "lake")
    settings["dataset"] |= changes
    return Settings.model_validate(settings)


def test_every_crop_of_a_kept_box_becomes_an_example_or_has_its_reason(
    whole_way: WholeWay,
) -> None:
    examples = rows_of(whole_way.settings, "examples")
    crops = {row[t.BOX_ID]: row for row in rows_of(whole_way.settings, "crops") if row[t.HAS_CROP]}
    assert Counter(row[t.BOX_ID] for row in examples) == Counter(dict.fromkeys(crops, 1))
    categories = sorted(whole_way.settings.dataset.classes)
    for row in examples:
        crop = crops[row[t.BOX_ID]]
        assert row[t.SPLIT] == row[t.SUBSET]
        assert row[t.IMAGE] == crop[t.JPEG]
        assert categories[row[t.LABEL_INDEX]] == row[t.CATEGORY]
        assert [row[name] for name in t.ATTRIBUTION] == [crop[name] for name in t.ATTRIBUTION]
        area = (crop[t.X_MAX] - crop[t.X_MIN]) * (crop[t.Y_MAX] - crop[t.Y_MIN])
        assert row[t.BOX_AREA_FRAC] == pytest.approx(area)


def test_a_hash_split_is_the_photos_own_and_small_crops_are_rejected_without_bytes(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path
) -> None:
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    settings = with_dataset(
        whole_way, tmp_path, split="hash", hash_shares=shares, min_crop_side_px=60
    )
    run(spark, "build_examples", settings)
    sides = {
        row[t.BOX_ID]: min(row[t.SOURCE_BOX_WIDTH_PX], row[t.SOURCE_BOX_HEIGHT_PX])
        for row in rows_of(settings, "crops")
        if row[t.HAS_CROP]
    }
    rows = rows_of(settings, "examples")
    assert {row[t.SPLIT] for row in rows} == {"train", "validation", "test", "rejected"}
    for row in rows:
        digits = hashlib.md5(row[t.IMAGE_ID].encode(), usedforsecurity=False).hexdigest()[:8]
        place = int(digits, 16) / 2**32
        split = "train" if place < 0.5 else "validation" if place < 0.75 else "test"
        if sides[row[t.BOX_ID]] < 60:
            found = (row[t.SPLIT], row[t.REJECT_REASON], row[t.IMAGE])
            assert found == ("rejected", "too_small_px", None)
        else:
            assert (row[t.SPLIT], row[t.REJECT_REASON]) == (split, None)
            assert row[t.IMAGE] is not None


def test_crops_beyond_the_aspect_limits_are_rejected_without_bytes(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path
) -> None:
    settings = with_dataset(whole_way, tmp_path, min_aspect_ratio=0.8, max_aspect_ratio=1.25)
    run(spark, "build_examples", settings)
    found = Counter[str | None]()
    for row in rows_of(settings, "examples"):
        ratio = row[t.WIDTH_PX] / row[t.HEIGHT_PX]
        expected = "too_narrow" if ratio < 0.8 else "too_wide" if ratio > 1.25 else None
        assert row[t.REJECT_REASON] == expected
        assert (row[t.IMAGE] is None) == (expected is not None)
        found[expected] += 1
    assert len(found) == 3


def make_alike(spark: SparkSession, settings: Settings, photo: str, *others: str) -> None:
    """Gives photos the look of another, but for two bits of its hash."""
    crops = rows_of(settings, "crops")
    look = next(row for row in crops if row[t.IMAGE_ID] == photo and row[t.HAS_CROP])
    values = {
        t.PHOTO_DHASH: str(look[t.PHOTO_DHASH] ^ 0b101),
        t.PHOTO_COLORS: f"X'{look[t.PHOTO_COLORS].hex()}'",
        t.PHOTO_WIDTH_PX: str(look[t.PHOTO_WIDTH_PX]),
        t.PHOTO_HEIGHT_PX: str(look[t.PHOTO_HEIGHT_PX]),
    }
    names = ", ".join(map(repr, others))
    Lake(spark, settings.lake.root).update(t.CROPS, f"{t.IMAGE_ID} IN ({names})", values)


def test_look_alikes_stay_in_the_most_protected_split_of_their_group(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path
) -> None:
    settings = with_dataset(whole_way, tmp_path)
    before = rows_of(settings, "examples")
    by_split: dict[str, list[str]] = {}
    for row in sorted(before, key=lambda row: str(row[t.IMAGE_ID])):
        by_split.setdefault(row[t.SPLIT], []).append(row[t.IMAGE_ID])
    in_test, in_train = by_split["test"][0], by_split["train"][0]
    in_validation = by_split["validation"][0]
    make_alike(spark, settings, in_test, in_train, in_validation)
    run(spark, "build_examples", settings)
    groups: dict[str, set[str]] = {}
    for row in rows_of(settings, "near_duplicates"):
        assert row[t.DATASET] == settings.dataset.name
        groups.setdefault(row[t.GROUP_ID], set()).add(row[t.IMAGE_ID])
    group = {in_test, in_train, in_validation}
    assert group in groups.values()
    assert all(min(members) == name for name, members in groups.items())
    after = {row[t.EXAMPLE_ID]: row for row in rows_of(settings, "examples")}
    assert after.keys() == {row[t.EXAMPLE_ID] for row in before}
    for row in before:
        found = after[row[t.EXAMPLE_ID]]
        if row[t.IMAGE_ID] in (in_train, in_validation):
            state = (found[t.SPLIT], found[t.REJECT_REASON], found[t.IMAGE])
            assert state == ("rejected", "near_duplicate", None)
        else:
            assert (found[t.SPLIT], found[t.IMAGE]) == (row[t.SPLIT], row[t.IMAGE])
    ignoring = with_dataset(whole_way, tmp_path / "again", near_duplicates={"rule": "ignore"})
    make_alike(spark, ignoring, in_test, in_train)
    run(spark, "build_examples", ignoring)
    assert rows_of(ignoring, "near_duplicates") == []
    assert all(row[t.REJECT_REASON] is None for row in rows_of(ignoring, "examples"))


@pytest.mark.parametrize(
    ("hashes", "said", "counted"),
    [
        (
            [0, 1, 2],
            "6 buckets of more than 2 dHashes (at most 3) were not compared",
            {"buckets of look-alikes not compared": 6},
        ),
        (
            [0, 0, 0],
            "1 dHashes have more than 2 photos (at most 3)",
            {"dHashes of more photos than are compared": 1},
        ),
    ],
    ids=["bucket", "dHash"],
)
def test_what_the_cap_leaves_uncompared_is_said_and_counted(
    small: SmallLake, hashes: list[int], said: str, counted: dict[str, int]
) -> None:
    uneven = bytes(range(0, 144, 3))
    looks = {PHOTO_A: uneven, PHOTO_B: uneven, PHOTO_C: bytes(100 + value for value in uneven)}
    crops = rows_of(small.settings, "crops")
    for (image_id, colors), dhash in zip(looks.items(), hashes, strict=True):
        look = {t.PHOTO_DHASH: dhash, t.PHOTO_COLORS: colors}
        crops = [row | look if row[t.IMAGE_ID] == image_id else row for row in crops]
    small.put(t.CROPS, *crops)
    values = small.settings.model_dump()
    values["dataset"]["near_duplicates"]["max_bucket"] = 2
    settings = Settings.model_validate(values)
    printed = said_by(small.spark, "build_examples", settings)
    assert f"near-duplicates: {said}" in printed
    assert "dataset.near_duplicates.max_bucket" in printed
    run_row = max(rows_of(settings, "runs"), key=lambda row: row[t.STARTED_AT])
    counts = dict(run_row[t.COUNTS])
    assert {name: counts[name] for name in counts if name not in t.SPLITS} == counted


@pytest.mark.parametrize("rule", ["cap", "downsample"])
def test_balance_bounds_each_categorys_training_examples_and_leaves_the_others(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path, rule: str
) -> None:
    before = rows_of(whole_way.settings, "examples")
    counts = Counter(row[t.CATEGORY] for row in before if row[t.SPLIT] == "train")
    most = sorted(counts.values())[1] if rule == "cap" else min(counts.values())
    balance = {"rule": rule} | ({"max_examples": most} if rule == "cap" else {})
    settings = with_dataset(whole_way, tmp_path, balance=balance)
    run(spark, "build_examples", settings)
    rows = {row[t.EXAMPLE_ID]: row for row in rows_of(settings, "examples")}
    assert rows.keys() == {row[t.EXAMPLE_ID] for row in before}
    of_category: dict[str, list[str]] = {}
    for row in before:
        if row[t.SPLIT] == "train":
            of_category.setdefault(row[t.CATEGORY], []).append(row[t.EXAMPLE_ID])
        else:
            assert rows[row[t.EXAMPLE_ID]] == row
    for ids in of_category.values():
        for place, example_id in enumerate(sorted(ids)):
            row = rows[example_id]
            is_over = place >= most
            assert row[t.REJECT_REASON] == ("balanced_out" if is_over else None)
            assert row[t.SPLIT] == ("rejected" if is_over else "train")
            assert (row[t.IMAGE] is None) == is_over


def test_a_photo_is_in_one_split_only_and_each_split_is_shuffled(whole_way: WholeWay) -> None:
    splits: dict[str, set[str]] = {}
    for row in rows_of(whole_way.settings, "examples"):
        splits.setdefault(row[t.IMAGE_ID], set()).add(row[t.SPLIT])
    assert {len(found) for found in splits.values()} == {1}
    lake = open_lake(whole_way.settings.lake.root)
    partition = {t.DATASET: "miniature", t.SPLIT: "train"}
    labels = [
        label
        for file in lake.files("examples", partition=partition)
        for label in pq.read_table(local_path(file), columns=[t.LABEL_INDEX])[0].to_pylist()
    ]
    changes = sum(first != second for first, second in itertools.pairwise(labels))
    assert changes > 0.7 * len(labels)


def test_the_train_split_has_row_groups_for_many_workers(whole_way: WholeWay) -> None:
    lake = open_lake(whole_way.settings.lake.root)
    files = lake.files("examples", partition={t.DATASET: "miniature", t.SPLIT: "train"})
    groups = [pq.ParquetFile(local_path(file)).num_row_groups for file in files]
    assert sum(groups) >= whole_way.settings.examples.min_row_groups


def test_the_same_crops_give_the_same_shards(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path
) -> None:
    settings = with_dataset(whole_way, tmp_path)
    partition = {t.DATASET: "miniature", t.SPLIT: "train"}

    def shards() -> list[list[str]]:
        files = open_lake(settings.lake.root).files("examples", partition=partition)
        orders = [
            pq.read_table(local_path(file), columns=[t.EXAMPLE_ID])[0].to_pylist() for file in files
        ]
        return sorted(orders)

    before = shards()
    run(spark, "build_examples", settings)
    assert shards() == before


@F.udf(BinaryType())
def large_picture(box_id: str) -> bytes:
    """400 KB that, like a JPEG, do not compress."""
    return random.Random(box_id).randbytes(400_000)


@pytest.mark.full
def test_large_crops_stay_within_row_groups_of_8_mib(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path
) -> None:
    settings = with_dataset(whole_way, tmp_path)
    lake = Lake(spark, settings.lake.root)
    crops = lake.read(t.CROPS)
    grown = crops.withColumn(t.JPEG, F.when(F.col(t.HAS_CROP), large_picture(t.BOX_ID)))
    lake.replace(grown, t.CROPS)
    run(spark, "build_examples", settings)
    files = lake.reader.files("examples", partition={t.DATASET: "miniature", t.SPLIT: "train"})
    footers = [pq.ParquetFile(local_path(file)).metadata for file in files]
    groups = [
        footer.row_group(index) for footer in footers for index in range(footer.num_row_groups)
    ]
    assert sum(group.num_rows for group in groups) * 400_000 > 100e6
    assert max(group.total_byte_size for group in groups) <= 8 * 2**20


def test_a_category_without_a_split_is_a_warning_or_an_error_by_choice(
    spark: SparkSession, whole_way: WholeWay, tmp_path: Path
) -> None:
    shares = {"train": 0.9999, "validation": 0.0, "test": 0.0001}
    settings = with_dataset(
        whole_way, tmp_path, split="hash", hash_shares=shares, on_missing_split="error"
    )
    with pytest.raises(InputDataError, match="Boat has no validation example; Boat has no test"):
        run(spark, "build_examples", settings)


def without_looks(small: SmallLake, **changes: Any) -> Settings:  # noqa: ANN401
    """The small lake's settings; nothing is known of its photos' looks."""
    values = small.settings.model_dump()
    values["dataset"] |= {"near_duplicates": {"rule": "ignore"}} | changes
    return Settings.model_validate(values)


def test_shards_are_planned_by_the_crops_of_the_recipe_alone(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures and another recipe's crops have nothing to say on how large these are."""
    planned: list[int] = []

    def plan(**facts: Any) -> ShardLayout:  # noqa: ANN401
        planned.append(facts["num_bytes"])
        return plan_layout(**facts)

    monkeypatch.setattr("croplake.jobs.build_examples.plan_layout", plan)
    settings = without_looks(small)
    run(small.spark, "build_examples", settings)
    large = random.Random(1).randbytes(1_000_000)
    small.add(t.CROPS, small.crop("a1", **{t.RECIPE_ID: "other", t.JPEG: large}))
    gone = {t.HAS_CROP: False, t.STATUS: "not_found", t.JPEG: None}
    small.add(t.CROPS, *(small.crop("d1", **gone, **{t.ATTEMPT: n}) for n in range(2, 50)))
    run(small.spark, "build_examples", settings)
    assert planned[0] == planned[1] > 0


def test_a_new_class_without_a_box_moves_labels_and_has_the_examples_built_again(
    small: SmallLake,
) -> None:
    build = next(job for job in JOBS if job.name == "build_examples")
    settings = without_looks(small, classes=["*a*"])
    run(small.spark, "build_examples", settings)
    before = build.state_of(small.lake, settings)
    banana = class_row(PEAR) | {t.LABEL_MID: "/m/0banana", t.CLASS_NAME: "Banana"}
    small.add(t.CLASSES, banana)
    assert build.state_of(small.lake, settings) == ["Apple", "Banana", "Pear"] != before
    with pytest.raises(InputDataError, match=r"have 'Pear' as label 1, .* now that is 'Banana'"):
        run(small.spark, "train_classifier", settings)
