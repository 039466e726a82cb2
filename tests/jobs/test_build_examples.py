from __future__ import annotations

import hashlib
import itertools
import random
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import BinaryType

from croplake import open_lake
from croplake import tables as t
from croplake.conf import Settings
from croplake.errors import InputDataError
from croplake.lake import Lake
from croplake.storage import local_path
from tests.jobs.conftest import WholeWay
from tests.jobs.world import rows_of, run


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
