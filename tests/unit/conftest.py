"""Shared by the unit tests: one drawn miniature world."""

from __future__ import annotations

import pytest

from croplake.miniature import World, build_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """400 photos, drawn in parallel; tests look at it and change nothing."""
    return build_world(tmp_path_factory.mktemp("unit") / "world", num_photos=400, seed=9)
