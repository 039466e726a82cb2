"""A lake in a bucket: its crops become vectors there, and a photo in a bucket finds its like."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from croplake import storage
from tests.html_page import parse_page
from tests.jobs.probed_lake import NUM_EACH, colour_of, image_id_of, jpeg, save_network
from tests.jobs.small_lake import SmallLake
from tests.jobs.world import outside_environment
from tests.s3 import s3_server

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


def croplake(environment: dict[str, str], *arguments: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-m", "croplake.cli", *arguments],
        env=outside_environment() | environment,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_a_lake_in_a_bucket_is_probed_and_searched(
    probed: SmallLake,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buckets = tmp_path_factory.mktemp("buckets")
    for name in ("embeddings", "networks"):
        shutil.rmtree(probed.folder / name)
    (buckets / "lakes").mkdir()
    (buckets / "photos").mkdir()
    network = save_network(Path(buckets).parent / "my #1 network?")
    common = ["--conf", probed.conf, "--set", "lake.root=s3a://lakes/meine läke"]
    with s3_server(buckets) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        storage.upload_folder(probed.folder, "s3a://lakes/meine läke")
        said = croplake(
            environment, "probe-examples", *common, "--set", f"probe.network='{network}'"
        )
        assert "test top-1 100.00%" in said
        assert list((buckets / "lakes" / "meine läke" / "networks").rglob("model.keras"))
        photo = "s3a://photos/my photo.jpg"
        storage.write_bytes(photo, jpeg(colour_of(NUM_EACH + 2)))
        said = croplake(environment, "find-similar", photo, "--top", "3", *common)
    (page,) = (buckets / "lakes" / "meine läke" / "reports").iterdir()
    shown = parse_page(page.read_text()).all("img")
    assert len(shown) == 4
    assert f"crop of photo {image_id_of(NUM_EACH + 2)}" in shown[1]["alt"]
