"""A miniature world for job tests, and its hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from croplake.miniature import MiniatureServer, World, build_world, serve_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """240 photos with every fault at least once."""
    return build_world(tmp_path_factory.mktemp("miniature") / "world", num_photos=240, seed=5)


@pytest.fixture
def server(world: World) -> Iterator[MiniatureServer]:
    """The world's hosts, as if asked for the first time."""
    with serve_world(world) as running:
        yield running
