"""Datasets taken away into a bucket."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from croplake.export.plan import FORMATS
from tests.jobs.exports import export, tree
from tests.jobs.small_lake import SmallLake
from tests.jobs.world import outside_environment
from tests.s3 import s3_server

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

LAST = {
    "folders": "attribution/train-*.csv",
    "webdataset": "train-*.tar",
    "tfrecord": "train-*.tfrecord",
    "imagefolder": "train/*/metadata.csv",
}
"""The file of each format that shows that a shard is finished."""
COMMANDS = """
import sys
from croplake.cli import main
from croplake.conf import SparkConf
from croplake.session import spark_session
conf, *formats = sys.argv[1:]
with spark_session("exports", SparkConf(master="local[2]")):
    for name in formats:
        into = f"s3a://away/v 1/{name}"
        assert main(["export-examples", "--conf", conf, "--format", name, "--into", into]) == 0
"""


def to_bucket(small: SmallLake, environment: dict[str, str]) -> str:
    """All formats, in a process whose executors know the bucket's address from their start."""
    answer = subprocess.run(
        [sys.executable, "-c", COMMANDS, small.conf, *FORMATS],
        env=outside_environment() | environment,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_a_bucket_gets_the_files_that_a_folder_gets_and_those_it_lost_again(
    small: SmallLake, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here, buckets = (tmp_path_factory.mktemp(name) for name in ("here", "buckets"))
    (buckets / "away").mkdir()
    for format in FORMATS:
        assert export(small, format, here / format) == 0
    with s3_server(buckets) as environment:
        assert to_bucket(small, environment).count("shards written: 2 of 2") == len(FORMATS)
        there = {format: tree(buckets / "away" / "v 1" / format) for format in FORMATS}
        assert there == {format: tree(here / format) for format in FORMATS}
        lost = [next(Path(buckets / "away" / "v 1" / f).glob(LAST[f])) for f in FORMATS]
        for file in lost:
            file.unlink()
        assert to_bucket(small, environment).count("shards written: 1 of 2") == len(FORMATS)
    assert {format: tree(buckets / "away" / "v 1" / format) for format in FORMATS} == there
