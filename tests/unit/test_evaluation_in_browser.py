"""The page about a model as a person meets it: in a browser, by day and night, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from croplake.report.evaluation_page import evaluation_page
from tests.unit.dataset_figures import crop
from tests.unit.evaluation_figures import evaluation_figures
from tests.unit.test_report_in_browser import (
    LOW_CONTRASTS,
    Opened,
    browser,
    open_page,
    pytestmark,
)

UNFOLD = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"

__all__ = ["browser", "pytestmark"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "a=b läke 100%.html"
    path.write_text(evaluation_page(evaluation_figures()), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    found = open_page(browser, file, viewport={"width": 1280, "height": 900})
    yield found
    found.page.context.close()


def test_the_page_opens_without_a_request_and_without_a_complaint(
    opened: Opened, file: Path
) -> None:
    opened.page.wait_for_load_state("networkidle")
    assert opened.requests == [file.as_uri()]
    assert opened.complaints == []
    assert opened.page.title() == "Model model-1 and model-2, test – croplake"
    assert len(opened.visible_crops("Mistakes")) == 12
    opened.page.get_by_role("button", name="Mistakes: next crops").click()
    assert len(opened.visible_crops("Mistakes")) == 3


def test_without_its_script_every_mistake_is_there(browser: Browser, file: Path) -> None:
    opened = open_page(browser, file, java_script_enabled=False)
    assert len(opened.visible_crops("Mistakes")) == 15
    opened.page.context.close()


def test_the_policy_lets_cells_have_their_shades(opened: Opened) -> None:
    colours = opened.page.evaluate(
        "[...new Set([...document.querySelectorAll('.matrix td')]"
        ".map((cell) => getComputedStyle(cell).backgroundColor))]"
    )
    assert len(colours) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_by_day_and_by_night(
    browser: Browser,
    file: Path,
    scheme: str,
) -> None:
    opened = open_page(browser, file, color_scheme=scheme, viewport={"width": 1280, "height": 800})
    opened.page.evaluate(UNFOLD)
    seen, low = opened.page.evaluate(LOW_CONTRASTS)
    assert seen > 300
    assert low == []
    opened.page.context.close()


def test_every_shade_can_be_read(browser: Browser, file: Path) -> None:
    for scheme in ("light", "dark"):
        opened = open_page(browser, file, color_scheme=scheme)
        opened.page.evaluate(
            "document.querySelectorAll('.matrix td').forEach((cell, place) => "
            "{ cell.className = `heat-${place % 5 + 1}`; })"
        )
        assert opened.page.evaluate(LOW_CONTRASTS)[1] == []
        opened.page.context.close()


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, tmp_path: Path) -> None:
    long = "W" * 100
    mistakes = [crop(long, number, note=f"→ {long}, 50.0%", title=long) for number in range(3)]
    path = tmp_path / "long.html"
    figures = evaluation_figures(25, mistakes=mistakes, dataset=long[:60])
    path.write_text(evaluation_page(figures), encoding="utf-8")
    opened = open_page(browser, path, viewport={"width": 360, "height": 780})
    opened.page.evaluate(UNFOLD)
    widths = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths == [360, 360]
    opened.page.context.close()


def test_paper_gets_all_mistakes_and_unfolded_tables(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(opened.visible_crops("Mistakes")) == 15
    assert opened.page.locator("details:not([open])").count() == 0
