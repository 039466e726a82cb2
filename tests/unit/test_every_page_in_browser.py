"""Pages as a person meets them: opened from a file in a browser, by day and night, on a phone."""

from __future__ import annotations

import pytest

from tests.unit.every_page import GALLERIES, KINDS, long_page_of, page_of
from tests.unit.in_browser import LOW_CONTRASTS, UNFOLD, OpenPage

pytestmark = pytest.mark.parametrize("kind", KINDS)


def test_it_opens_without_a_request_and_without_a_complaint(open_page: OpenPage, kind: str) -> None:
    opened = open_page(page_of(kind))
    opened.page.wait_for_load_state("networkidle")
    assert opened.requests == [opened.page.url]
    assert opened.complaints == []
    # What a title and an author tried.
    assert opened.page.title() != "taken"


def test_every_picture_is_drawn(open_page: OpenPage, kind: str) -> None:
    opened = open_page(page_of(kind))
    widths = opened.page.evaluate(
        "Promise.all([...document.images].map((image) => "
        "image.decode().then(() => image.naturalWidth, () => 0)))"
    )
    assert len(widths) >= GALLERIES[kind][1]
    assert all(widths)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_all_text_can_be_read_and_nothing_sticks_out(
    open_page: OpenPage, kind: str, scheme: str, width: int
) -> None:
    viewport = {"width": width, "height": 800}
    opened = open_page(page_of(kind), color_scheme=scheme, viewport=viewport)
    opened.page.evaluate(UNFOLD)
    seen, low = opened.page.evaluate(LOW_CONTRASTS)
    assert seen > 100
    assert low == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_phone_needs_no_sideways_scrolling_for_long_words(open_page: OpenPage, kind: str) -> None:
    opened = open_page(long_page_of(kind), viewport={"width": 360, "height": 780})
    opened.page.evaluate(UNFOLD)
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    beyond = opened.page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, p, figure, img, button, details, dl, .wide')]"
        ".filter((part) => part.getBoundingClientRect().right > 360).map((part) => part.outerHTML)"
    )
    assert beyond == []


def test_without_its_script_every_picture_is_there(open_page: OpenPage, kind: str) -> None:
    name, num_pictures = GALLERIES[kind]
    opened = open_page(page_of(kind), java_script_enabled=False)
    assert len(opened.visible_crops(name)) == num_pictures
    assert opened.page.get_by_role("button").count() == 0


def test_paper_gets_all_pictures_and_unfolded_tables(open_page: OpenPage, kind: str) -> None:
    name, num_pictures = GALLERIES[kind]
    opened = open_page(page_of(kind))
    assert len(opened.visible_crops(name)) < num_pictures
    num_folded = opened.page.locator("details:not([open])").count()
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(opened.visible_crops(name)) == num_pictures
    assert opened.page.locator("details:not([open])").count() == 0
    assert not opened.page.get_by_role("navigation").is_visible()
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.page.locator("details:not([open])").count() == num_folded
