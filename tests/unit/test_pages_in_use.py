"""What a page does when it is used: galleries turn, titles unfold on paper."""

from __future__ import annotations

import pytest

from croplake.report.dataset_page import dataset_page
from tests.unit.dataset_figures import crop, dataset_figures
from tests.unit.every_page import page_of
from tests.unit.in_browser import LOW_CONTRASTS, Opened, OpenPage


@pytest.fixture
def opened(open_page: OpenPage) -> Opened:
    return open_page(page_of("dataset"))


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


def test_a_long_title_is_cut_on_a_screen_and_whole_on_paper(
    open_page: OpenPage,
) -> None:
    long = "a pear on a table " * 20
    galleries = {"Pear": [crop("Pear", 1, title=long)]}
    opened = open_page(dataset_page(dataset_figures(galleries=galleries, duplicates=None)))
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


def test_a_page_of_photos_turns_photos(open_page: OpenPage) -> None:
    opened = open_page(page_of("predictions"))
    assert len(opened.visible_crops("Pear")) == 12
    opened.page.get_by_role("button", name="Pear: next photos").click()
    status = opened.page.get_by_role("group", name="Pear: pages").get_by_role("status")
    assert status.inner_text() == "photos 13 to 24 of 24"


def test_similar_crops_are_seen_24_at_a_time_the_nearest_first(open_page: OpenPage) -> None:
    opened = open_page(page_of("similar"))
    ranks = opened.page.locator(".rank:first-child")
    assert ranks.count() == 31
    assert [rank.inner_text() for rank in ranks.all()[:2]] == ["1. at 0.000", "2. at 0.010"]
    assert len(opened.visible_crops("Similar crops")) == 24
    opened.page.get_by_role("button", name="Similar crops: next crops").click()
    assert len(opened.visible_crops("Similar crops")) == 6  # and one that does not decode


def test_the_policy_lets_cells_of_the_matrix_have_their_shades(open_page: OpenPage) -> None:
    colours = open_page(page_of("evaluation")).page.evaluate(
        "[...new Set([...document.querySelectorAll('.matrix td')]"
        ".map((cell) => getComputedStyle(cell).backgroundColor))]"
    )
    assert len(colours) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_shade_can_be_read(open_page: OpenPage, scheme: str) -> None:
    opened = open_page(page_of("evaluation"), color_scheme=scheme)
    opened.page.evaluate(
        "document.querySelectorAll('.matrix td').forEach((cell, place) => "
        "{ cell.className = `heat-${place % 5 + 1}`; })"
    )
    assert opened.page.evaluate(LOW_CONTRASTS)[1] == []
