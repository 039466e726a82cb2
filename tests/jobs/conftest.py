"""A miniature world for job tests, and its hosts."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from croplake.conf import Settings
from croplake.jobs.way import run_all
from croplake.miniature import MiniatureServer, World, build_world, serve_world
from tests.colour_model import write_colour_model
from tests.jobs.classify import FILES, NAMES
from tests.jobs.exports import make_odd_lake
from tests.jobs.probed_lake import ProbedLake, make_probed_lake
from tests.jobs.rich_lake import make_rich_lake
from tests.jobs.small_lake import SmallLake, copy_small_lake, make_small_lake
from tests.jobs.world import miniature_settings, run


@dataclass(frozen=True)
class WholeWay:
    """A run of all jobs: its settings and what it printed."""

    settings: Settings
    printed: str


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """240 photos with every fault at least once."""
    return build_world(tmp_path_factory.mktemp("miniature") / "world", num_photos=240, seed=5)


@pytest.fixture
def server(world: World) -> Iterator[MiniatureServer]:
    """The world's hosts, as if asked for the first time."""
    with serve_world(world) as running:
        yield running


@pytest.fixture(scope="session")
def whole_way(
    spark: SparkSession, world: World, tmp_path_factory: pytest.TempPathFactory
) -> WholeWay:
    """The whole way, run once; tests look at what it left and change nothing."""
    folder = tmp_path_factory.mktemp("way")
    printed = io.StringIO()
    with serve_world(world) as server:
        settings = miniature_settings(
            world,
            server,
            folder,
            train={
                "weights": "none",
                "alpha": 0.35,
                "input_side_px": 32,
                "phases": [{"trainable": "all", "epochs": 2}],
                "dense_units": 32,
            },
            classify={"photos": [str(world.new_photos_dir)]},
        )
        run_all(spark, settings, Console(file=printed, width=100))
    return WholeWay(settings, printed.getvalue())


@pytest.fixture(scope="session")
def catalog(spark: SparkSession, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the catalog and the selected boxes; each test copies what it needs of it."""
    folder = tmp_path_factory.mktemp("catalog")
    with serve_world(world) as server:
        settings = miniature_settings(world, server, folder)
        run(spark, "ingest_catalog", settings)
        run(spark, "select_boxes", settings)
    return folder


@pytest.fixture
def folder(catalog: Path, tmp_path: Path) -> Path:
    """A folder of one test's own with a copy of the catalog."""
    shutil.copytree(catalog, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="session")
def first_small_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> SmallLake:
    return make_small_lake(spark, tmp_path_factory.mktemp("small"))


@pytest.fixture
def small(first_small_lake: SmallLake, tmp_path: Path) -> SmallLake:
    """A small lake by hand, one test's own."""
    return copy_small_lake(first_small_lake, tmp_path)


@pytest.fixture(scope="session")
def first_probed(
    first_small_lake: SmallLake, tmp_path_factory: pytest.TempPathFactory
) -> ProbedLake:
    """A small lake with embeddings; tests change nothing of it."""
    return make_probed_lake(first_small_lake, tmp_path_factory.mktemp("probed"))


@pytest.fixture
def probed(first_probed: ProbedLake, tmp_path: Path) -> SmallLake:
    """Such a lake of one test's own, its settings those of the probe."""
    small = copy_small_lake(first_probed.small, tmp_path)
    probe = first_probed.context.settings.probe
    return SmallLake(small.lake, small.settings.model_copy(update={"probe": probe}), small.spark)


@pytest.fixture(scope="session")
def first_rich(first_small_lake: SmallLake, tmp_path_factory: pytest.TempPathFactory) -> SmallLake:
    """A small lake to report on; tests change nothing of it."""
    return make_rich_lake(first_small_lake, tmp_path_factory.mktemp("rich"))


@pytest.fixture
def rich(first_rich: SmallLake, tmp_path: Path) -> SmallLake:
    """Such a lake of one test's own."""
    return copy_small_lake(first_rich, tmp_path)


@pytest.fixture(scope="session")
def first_odd(first_small_lake: SmallLake, tmp_path_factory: pytest.TempPathFactory) -> SmallLake:
    """A small lake to export from; tests change nothing of it."""
    return make_odd_lake(first_small_lake, tmp_path_factory.mktemp("odd"))


@pytest.fixture
def odd(first_odd: SmallLake, tmp_path: Path) -> SmallLake:
    """Such a lake of one test's own."""
    return copy_small_lake(first_odd, tmp_path)


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model's folder; its categories have odd names."""
    return write_colour_model(tmp_path_factory.mktemp("model"), NAMES)


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Odd photos, and what is none; tests change nothing of it."""
    folder = tmp_path_factory.mktemp("album")
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    return folder
