from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from croplake import storage
from croplake import tables as t
from croplake.miniature import MiniatureServer, World
from tests.jobs.commands import check_complete, crops_of, fetch_crops
from tests.jobs.crops import asked_photos, check_pixels, select_sound_photos
from tests.jobs.world import miniature_settings
from tests.s3 import s3_server

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


def test_photos_in_a_bucket_loose_and_in_a_tar_are_not_asked_for(
    spark: SparkSession,
    world: World,
    server: MiniatureServer,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = {"name": "bucket", "classes": ["Boat", "Fish"]}
    settings = miniature_settings(world, server, folder, dataset=dataset)
    wanted, files = select_sound_photos(spark, world, settings)
    loose, packed = wanted[:6], wanted[6:12]
    with tarfile.open(folder / "photos.tar", "w") as tar:
        for image_id in packed:
            tar.add(files[image_id], arcname=f"validation/{image_id}.jpg")
    buckets = tmp_path_factory.mktemp("buckets")
    (buckets / "photos").mkdir()
    with s3_server(buckets) as environment:
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        for image_id in loose:
            storage.upload_file(files[image_id], f"s3a://photos/train/deep/{image_id}.jpg")
        storage.upload_file(folder / "photos.tar", "s3a://photos/tars/photos.tar")
        fetch = {"at_hand": ["s3a://photos"], "sources": ["at_hand", "mirror"]}
        settings = miniature_settings(world, server, folder, dataset=dataset, fetch=fetch)
        with fetch_crops(settings, folder) as process:
            printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert not set(asked_photos(world, server)) & {*loose, *packed}
    check_complete(settings, {})
    crops = crops_of(settings)
    sources = {row[t.IMAGE_ID]: row[t.SOURCE] for row in crops if row[t.STATUS] == "ok"}
    at_hand = {image_id for image_id, source in sources.items() if source == "at_hand"}
    assert at_hand == {*loose, *packed}
    check_pixels(world, [row | {t.SOURCE: "mirror"} for row in crops if row[t.JPEG]], settings)
