"""The page about a dataset as a person meets it: opened from a file, in a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from croplake.report.dataset_page import dataset_page
from croplake.report.predictions_page import predictions_page
from tests.unit.dataset_figures import crop, dataset_figures
from tests.unit.prediction_figures import prediction_figures

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ,
    reason="there is no chromium on the PATH (Debian's package chromium)",
)

LOW_CONTRASTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const element = text.parentElement;
    const silent = ["SCRIPT", "STYLE", "title", "desc"];
    if (!text.data.trim() || silent.includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const ink = light(rgb(element.tagName === "text" ? style.fill : style.color));
    const paper = light(ground(element));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    seen += 1;
    if (ratio < 4.5) low.push(`${text.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return [seen, low];
}"""
"""Texts whose contrast with what is behind them is below WCAG's AA."""


@dataclass
class Opened:
    """A page in the browser, and all that it has asked for or complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def visible_crops(self, name: str) -> list[str]:
        images = self.page.locator(f'ul[data-name="{name}"] img')
        return [image.get_attribute("alt") or "" for image in images.all() if image.is_visible()]

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.outerHTML"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "a=b läke 100%.html"
    path.write_text(dataset_page(dataset_figures()), encoding="utf-8")
    return path


def open_page(browser: Browser, file: Path, **options: Any) -> Opened:  # noqa: ANN401
    context = browser.new_context(**options)
    opened = Opened(context.new_page())

    def only_the_file(route: Route) -> None:
        opened.requests.append(route.request.url)
        if route.request.url == file.as_uri():
            route.continue_()
        else:
            route.abort()

    context.route("**/*", only_the_file)
    opened.page.on("console", lambda message: opened.complaints.append(message.text))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.goto(file.as_uri())
    return opened


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
    # What a title and an author tried.
    assert opened.page.title() == "Dataset fruit – croplake"


def test_every_picture_is_drawn_and_has_a_text(opened: Opened) -> None:
    images = opened.page.evaluate(
        "[...document.images].map((image) => image.decode().then(() => [image.naturalWidth, "
        "image.alt], () => [0, image.alt]))"
        ".reduce((all, one) => all.then((list) => one.then((found) => [...list, found])), "
        "Promise.resolve([]))"
    )
    assert len(images) == 31
    assert all(width == 40 and ", crop of photo " in alt for width, alt in images)


def test_a_click_turns_the_page_and_says_so(opened: Opened) -> None:
    first = opened.visible_crops("Pear")
    assert len(first) == 12
    group = opened.page.get_by_role("group", name="Pear: pages")
    status = group.get_by_role("status")
    assert status.get_attribute("aria-live") == "polite"
    assert status.inner_text() == "crops 1 to 12 of 24"
    following = group.get_by_role("button", name="Pear: next crops")
    following.click()
    second = opened.visible_crops("Pear")
    assert len(second) == 12
    assert not set(first) & set(second)
    assert status.inner_text() == "crops 13 to 24 of 24"
    following.click(force=True)  # it is marked as disabled: the last page stays
    assert opened.visible_crops("Pear") == second
    group.get_by_role("button", name="Pear: previous crops").click()
    assert opened.visible_crops("Pear") == first


def test_the_keyboard_alone_turns_the_page(opened: Opened) -> None:
    keyboard, first = opened.page.keyboard, opened.visible_crops("Pear")
    opened.page.evaluate("document.querySelector('#crops').scrollIntoView()")
    for _ in range(200):
        keyboard.press("Tab")
        if "Pear: next crops" in opened.focused():
            break
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert opened.page.evaluate(outline) == "solid"
    keyboard.press("Enter")
    status = opened.page.get_by_role("status").first
    assert status.inner_text() == "crops 13 to 24 of 24"
    assert not set(first) & set(opened.visible_crops("Pear"))
    assert "Pear: next crops" in opened.focused()  # though there is no further page
    keyboard.press("Shift+Tab")
    keyboard.press("Space")
    assert opened.visible_crops("Pear") == first


def test_the_first_tab_skips_to_the_content(opened: Opened) -> None:
    opened.page.keyboard.press("Tab")
    skip = opened.page.locator(".skip")
    assert skip.evaluate("(link) => link === document.activeElement")
    place = skip.bounding_box()
    assert place is not None
    assert place["x"] >= 0
    opened.page.keyboard.press("Enter")
    assert opened.focused().startswith('<main id="main"')


def test_without_its_script_the_page_shows_every_crop(browser: Browser, file: Path) -> None:
    opened = open_page(browser, file, java_script_enabled=False)
    assert len(opened.visible_crops("Pear")) == 24
    assert opened.page.get_by_role("button").count() == 0
    opened.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_all_text_can_be_read_by_day_and_by_night(
    browser: Browser, file: Path, scheme: str, width: int
) -> None:
    opened = open_page(browser, file, color_scheme=scheme, viewport={"width": width, "height": 800})
    opened.page.evaluate(
        "document.querySelectorAll('details').forEach((part) => { part.open = true; })"
    )
    seen, low = opened.page.evaluate(LOW_CONTRASTS)
    assert seen > 300
    assert low == []
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    opened.page.context.close()


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, tmp_path: Path) -> None:
    long = "W" * 100
    galleries = {long: [crop(long, number, author="x" * 200, title=long) for number in range(30)]}
    path = tmp_path / "long.html"
    path.write_text(dataset_page(dataset_figures(galleries=galleries, dataset=long[:60])))
    opened = open_page(browser, path, viewport={"width": 360, "height": 780})
    opened.page.evaluate(
        "document.querySelectorAll('details').forEach((part) => { part.open = true; })"
    )
    widths = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths == [360, 360]
    beyond = opened.page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, p, figure, img, button, details, dl, .wide')]"
        ".filter((part) => part.getBoundingClientRect().right > 360).map((part) => part.outerHTML)"
    )
    assert beyond == []
    opened.page.context.close()


def test_paper_gets_all_crops_and_unfolded_tables(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(opened.visible_crops("Pear")) == 24
    assert opened.page.locator("details:not([open])").count() == 0
    assert not opened.page.get_by_role("navigation").is_visible()
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.page.locator("details:not([open])").count() > 0


def test_a_long_title_is_cut_on_a_screen_and_whole_on_paper(
    browser: Browser, tmp_path: Path
) -> None:
    long = "a pear on a table " * 20
    path = tmp_path / "long.html"
    galleries = {"Pear": [crop("Pear", 1, title=long)]}
    path.write_text(dataset_page(dataset_figures(galleries=galleries, duplicates=None)))
    opened = open_page(browser, path, viewport={"width": 1280, "height": 900})
    hidden_px = (
        "(() => { const title = document.querySelector('.crop figcaption > strong + span');"
        " return title.scrollHeight - title.clientHeight; })()"
    )
    assert opened.page.evaluate(hidden_px) > 0
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate(hidden_px) <= 0
    shown = opened.page.locator(".crop figcaption > strong + span")
    place = shown.bounding_box()
    assert place is not None
    assert place["height"] > 5 * 24  # of 24 px a line
    opened.page.context.close()


def test_the_page_about_photos_opens_turns_and_can_be_read(
    browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "photos.html"
    path.write_text(predictions_page(prediction_figures()), encoding="utf-8")
    for scheme, width in (("light", 1280), ("dark", 360)):
        viewport = {"width": width, "height": 800}
        opened = open_page(browser, path, color_scheme=scheme, viewport=viewport)
        opened.page.wait_for_load_state("networkidle")
        assert (opened.requests, opened.complaints) == ([path.as_uri()], [])
        assert opened.page.title() == "Photos classified by fruit-20261124 – croplake"
        assert len(opened.visible_crops("Pear")) == 12
        opened.page.get_by_role("button", name="Pear: next photos").click()
        status = opened.page.get_by_role("group", name="Pear: pages").get_by_role("status")
        assert status.inner_text() == "photos 13 to 24 of 24"
        seen, low = opened.page.evaluate(LOW_CONTRASTS)
        assert seen > 100
        assert low == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width
        opened.page.context.close()
