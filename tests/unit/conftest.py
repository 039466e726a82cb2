"""Shared by the unit tests: one drawn miniature world, small networks, a browser for pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from croplake.miniature import World, build_world
from tests.unit.in_browser import Opened, OpenPage, open_file


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """400 photos, drawn in parallel; tests look at it and change nothing."""
    return build_world(tmp_path_factory.mktemp("unit") / "world", num_photos=400, seed=9)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None and "CI" not in os.environ:
        pytest.skip("there is no chromium on the PATH (Debian's package chromium)")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    """Opens pages, each in a context of its own, until the test is over."""
    contexts = []

    def open_it(html: str, **options: Any) -> Opened:  # noqa: ANN401
        file = tmp_path / "a=b läke 100%.html"
        file.write_text(html, encoding="utf-8")
        opened = open_file(browser, file, **options)
        contexts.append(opened.page.context)
        return opened

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of MobileNetV2 a network of 12 weights, which is quick and has no BatchNorm."""
    from tests.toy_training import build_tiny

    monkeypatch.setattr("croplake.training.loop.build_classifier", build_tiny)


@pytest.fixture
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of MobileNetV2 a small network with BatchNorm and dropout."""
    from tests.toy_training import build_lively

    monkeypatch.setattr("croplake.training.loop.build_classifier", build_lively)


@pytest.fixture(scope="module")
def base() -> Any:  # noqa: ANN401
    """MobileNetV2 with weights like a trained one's."""
    from tests.mobilenet import bare_base

    return bare_base()


@pytest.fixture(scope="module")
def classifier() -> Any:  # noqa: ANN401
    """A classifier on it whose answers differ."""
    from tests.mobilenet import lively_classifier

    return lively_classifier()
