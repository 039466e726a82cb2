"""The catalog from CSVs in HDFS, and photos at hand there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from croplake import storage
from croplake import tables as t
from croplake.errors import InputDataError
from croplake.fetching.at_hand import list_photos
from croplake.miniature import MiniatureServer, World
from tests.hdfs import hdfs
from tests.jobs.world import miniature_settings, rows_of, run, said_by

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hdfs(tmp_path_factory.mktemp("hdfs")) as address:
        yield address


def test_csvs_in_hdfs_give_the_catalog_that_local_ones_give(
    spark: SparkSession,
    world: World,
    server: MiniatureServer,
    root: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    here, there = (tmp_path_factory.mktemp(name) for name in ("here", "there"))
    local = miniature_settings(world, server, here)
    run(spark, "ingest_catalog", local)
    for path in world.csv_dir.iterdir():
        storage.upload_file(path, f"{root}/open-images/v7/{path.name}")

    def in_hdfs(path: str) -> str:
        return f"{root}/open-images/v7/{Path(path).name}"

    catalog = local.catalog.model_dump(mode="json")
    for name in ("photos", "boxes"):
        catalog[name] = {subset: in_hdfs(path) for subset, path in catalog[name].items()}
    for name in ("classes", "hierarchy"):
        catalog[name] = in_hdfs(catalog[name])
    settings = miniature_settings(world, server, there, catalog=catalog)
    run(spark, "ingest_catalog", settings)
    for table, key in (("photos", t.IMAGE_ID), ("boxes", t.BOX_ID), ("classes", t.LABEL_MID)):
        found, expected = (
            sorted(rows_of(each, table), key=lambda row: row[key]) for each in (settings, local)
        )
        assert found == expected
    assert "nothing to do" in said_by(spark, "ingest_catalog", settings)
    # Of the same size and content, but written anew.
    storage.upload_file(Path(local.catalog.boxes["test"]), catalog["boxes"]["test"])
    assert run(spark, "ingest_catalog", settings).counts["files that had not changed"] == 5
    storage.remove(catalog["photos"]["train"])
    with pytest.raises(InputDataError, match=r"train.*: no such file"):
        run(spark, "ingest_catalog", settings)


def test_photos_in_hdfs_are_found_and_read(world: World, root: str) -> None:
    files = sorted((world.root / "mirror" / "train").glob("*.jpg"))[:3]
    for path in files:
        storage.upload_file(path, f"{root}/photos/{path.name}")
    found = dict(list_photos(f"{root}/photos"))
    assert sorted(found) == [path.stem for path in files]
    for path in files:
        assert storage.read_bytes(found[path.stem].uri) == path.read_bytes()
