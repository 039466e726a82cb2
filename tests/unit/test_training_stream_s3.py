"""Training shards in a bucket of a real S3 server on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.s3 import s3_server
from tests.training_data import write_shard

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

READ = """
import sys
from croplake.errors import CroplakeError
from croplake.training.shards import plan_shards
from croplake.training.stream import Order, Shard, make_stream, read_batches

files, endless = tuple(sys.argv[2:]), sys.argv[1] == "sampled"
try:
    for worker in range(2):
        shard = Shard(files, plan_shards(files, 2), worker, reader_threads=3)
        order = Order(1, 0, 8, (1.5,) * 40 if endless else None)
        stream = make_stream(shard, batch_size=4, side_px=32, order=order)
        for _, labels, weights in read_batches(stream):
            print(*labels.numpy()[weights.numpy() > 0])
except CroplakeError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def read(
    environment: dict[str, str], files: list[str], kind: str = "once"
) -> subprocess.CompletedProcess[str]:
    """Reads the shards of two workers in a process that knows the server by its environment."""
    return subprocess.run(
        [sys.executable, "-W", "always::FutureWarning", "-c", READ, kind, *files],
        env=os.environ | environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )


def test_shards_are_read_from_a_bucket_with_what_the_environment_says(tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "my #1 ü=%" / "split=train"
    groups = [[range(7), range(7, 12)], [range(12, 20)], [range(20, 26), range(26, 33)]]
    for number, rows in enumerate(groups):
        write_shard(folder / f"{number}.parquet", rows)
    files = [f"s3a://lake/my #1 ü=%/split=train/{number}.parquet" for number in range(3)]
    with s3_server(tmp_path) as environment:
        once = read(environment, files)
        assert once.returncode == 0, once.stderr
        assert sorted(map(int, once.stdout.split())) == list(range(33))
        assert "Warning" not in once.stderr
        sampled = read(environment, files, "sampled")
        assert len(sampled.stdout.split()) == 2 * 24, sampled.stderr
        (folder / "2.parquet").unlink()
        gone = read(environment, files)
        assert gone.returncode == 1
        assert "InputDataError: s3a://lake/my #1 ü=%/split=train/2.parquet: a" in gone.stderr
        stranger = read(environment | {"AWS_SECRET_ACCESS_KEY": "another"}, files)
        assert "InputDataError: s3a://lake/my #1 ü=%/split=train/0.parquet: a" in stranger.stderr
    silent = read(environment, files)
    assert "IncompleteError: s3a://lake/my #1 ü=%/split=train/0.parquet: the" in silent.stderr
