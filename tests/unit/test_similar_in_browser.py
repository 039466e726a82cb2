"""The page of similar crops as a person meets it: opened from a file, in a browser."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from croplake.report.similar_page import AskedPhoto, FoundCrop, SimilarFigures, similar_page
from tests.unit.dataset_figures import crop
from tests.unit.test_report_in_browser import (
    LOW_CONTRASTS,
    browser,
    open_page,
    pytestmark,
)

__all__ = ["browser", "pytestmark"]

HOSTILE = "</title><script>document.title = 'taken'</script><img src=x onerror=alert(1)> Ä 100%"


def figures(**changes: Any) -> SimilarFigures:  # noqa: ANN401
    made = crop("Pear", 0)
    assert made.jpeg is not None
    found = [
        FoundCrop(crop("Pear", number, title=HOSTILE, author=HOSTILE), 0.01 * number)
        for number in range(30)
    ]
    broken = FoundCrop(crop("Pear", 31, jpeg=None, license=None, author=None), 0.5)
    values: dict[str, Any] = {
        "asked": AskedPhoto(f"/home/{HOSTILE}.jpg", made.jpeg, 40, 30),
        "found": [*found, broken],
        "network": "imagenet:MobileNetV2 224",
        "num_vectors": 12_345,
        "is_exact": True,
        "dataset": None,
        "versions": {"embeddings": 3, "crops": 7},
        "made_at": datetime(2026, 11, 3, 9, 5, tzinfo=UTC),
    }
    return SimilarFigures(**values | changes)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "a=b läke 100%.html"
    path.write_text(similar_page(figures()), encoding="utf-8")
    return path


def test_the_page_asks_for_nothing_and_shows_the_nearest_first(
    browser: Browser,
    file: Path,
) -> None:
    opened = open_page(browser, file, viewport={"width": 1280, "height": 900})
    opened.page.wait_for_load_state("networkidle")
    assert opened.requests == [file.as_uri()]
    assert opened.complaints == []
    assert opened.page.title().startswith("Crops like /home/</title><script>")
    ranks = opened.page.locator(".rank")
    assert ranks.count() == 31
    assert [rank.inner_text() for rank in ranks.all()[:2]] == [
        "1. at a distance of 0.000",
        "2. at a distance of 0.010",
    ]
    assert len(opened.visible_crops("Similar crops")) == 24
    opened.page.get_by_role("button", name="Similar crops: next crops").click()
    assert len(opened.visible_crops("Similar crops")) == 6
    opened.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_all_text_can_be_read_and_nothing_sticks_out(
    browser: Browser,
    file: Path,
    scheme: str,
    width: int,
) -> None:
    opened = open_page(browser, file, color_scheme=scheme, viewport={"width": width, "height": 800})
    seen, low = opened.page.evaluate(LOW_CONTRASTS)
    assert seen > 60
    assert low == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    opened.page.context.close()
