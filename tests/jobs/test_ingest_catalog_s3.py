"""The catalog from CSVs in a bucket, into a lake in a bucket."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from croplake import storage
from croplake import tables as t
from croplake.conf import Settings
from croplake.miniature import MiniatureServer, World
from tests.jobs.commands import write_conf
from tests.jobs.world import miniature_settings, outside_environment, rows_of, run
from tests.s3 import s3_server

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


def command(name: str, settings: Settings, folder: Path, environment: dict[str, str]) -> str:
    """A command, in a process of its own: a session knows S3 from its start, or not at all."""
    answer = subprocess.run(
        ["croplake", name, "--conf", write_conf(settings, folder)],
        env=outside_environment() | environment,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_csvs_in_a_bucket_give_the_catalog_that_local_ones_give(
    spark: SparkSession,
    world: World,
    server: MiniatureServer,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there, buckets = (tmp_path_factory.mktemp(name) for name in ("here", "there", "buckets"))
    local = miniature_settings(world, server, here)
    run(spark, "ingest_catalog", local)
    (buckets / "open-images").mkdir()
    catalog = local.catalog.model_dump(mode="json")
    with s3_server(buckets) as environment:
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        for path in world.csv_dir.iterdir():
            storage.upload_file(path, f"s3a://open-images/v7/{path.name}")

        def in_bucket(path: str) -> str:
            return f"s3a://open-images/v7/{Path(path).name}"

        for name in ("photos", "boxes"):
            catalog[name] = {subset: in_bucket(path) for subset, path in catalog[name].items()}
        for name in ("classes", "hierarchy"):
            catalog[name] = in_bucket(catalog[name])
        lake = {"root": "s3a://open-images/lake"}
        settings = miniature_settings(world, server, there, catalog=catalog, lake=lake)
        command("ingest-catalog", settings, there, environment)
        again = command("ingest-catalog", settings, there, environment)
        assert "nothing to do, the 6 files are those that are in the catalog" in again
        for table, key in (("photos", t.IMAGE_ID), ("boxes", t.BOX_ID), ("classes", t.LABEL_MID)):
            found, expected = (
                sorted(rows_of(each, table), key=lambda row: row[key]) for each in (settings, local)
            )
            assert found == expected
        # What reads the catalog's files in a bucket without Delta.
        command("select-boxes", settings, there, environment)
        planned = command("plan-fetch", settings, there, environment)
        run(spark, "select_boxes", local)
        rows = [
            sorted(rows_of(each, "selected_boxes"), key=lambda row: row[t.BOX_ID])
            for each in (settings, local)
        ]
        assert rows[0] == rows[1]
        photos = {row[t.IMAGE_ID] for row in rows[0] if row[t.REJECT_REASON] is None}
        assert re.search(rf"photos to fetch\W+{len(photos):,}\b", planned)
