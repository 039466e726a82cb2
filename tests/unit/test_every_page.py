"""A page loads nothing, is made of proper parts, and takes nothing from data but text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re

import pytest

from tests.html_page import Page, parse_page
from tests.unit.dataset_figures import HANDLER, HOSTILE, SCRIPT
from tests.unit.every_page import KINDS, page_of

LOADS = {"src", "srcset", "data", "action", "formaction", "poster", "background", "ping", "style"}


@pytest.fixture(params=KINDS)
def page(request: pytest.FixtureRequest) -> Page:
    return parse_page(page_of(request.param))


def test_nothing_leads_to_a_request(page: Page) -> None:
    ids = {element["id"] for element in page.elements if element["id"]}
    for element in page.elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), element
            if element.tag == "img" and name == "src":
                assert re.fullmatch(r"data:image/(jpeg|png);base64,[\w+/=]+", value or "")
                base64.b64decode((value or "").partition(",")[2], validate=True)
            elif name == "href":
                if element.tag == "link":
                    assert (element["rel"], value) == ("icon", "data:,")
                elif (value or "").startswith("#"):
                    assert element.tag == "a"
                    assert (value or "")[1:] in ids
                else:
                    assert element.tag == "a"
                    assert (value or "").startswith("https://")
                    assert element["rel"] == "noopener noreferrer"
            else:
                assert name not in LOADS, element
                assert not name.startswith("xlink"), element
    (style,) = page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_the_policy_lets_only_the_pages_own_style_and_script_run(page: Page) -> None:
    (style,), (script,) = page.all("style"), page.all("script")
    (policy,) = [
        element["content"]
        for element in page.all("meta")
        if element["http-equiv"] == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    digests = {
        name: base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        for name, element in (("style-src", style), ("script-src", script))
    }
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        **{name: f"'sha256-{digest}'" for name, digest in digests.items()},
    }


def test_what_data_says_is_text_and_its_addresses_lead_to_the_web_or_nowhere(page: Page) -> None:
    assert SCRIPT in page.text
    assert HANDLER in page.text
    assert not {element["href"] for element in page.all("a")} & {*HOSTILE.values()}


def test_headings_landmarks_tables_and_pictures_are_what_a_screen_reader_needs(page: Page) -> None:
    (html,) = page.all("html")
    assert html["lang"] == "en"
    levels = [int(element.tag[1]) for element in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert [len(page.all(tag)) for tag in ("main", "nav", "header", "footer")] == [1, 1, 1, 1]
    ids = [element["id"] for element in page.elements if element["id"]]
    assert len(ids) == len(set(ids))
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert all(element["scope"] in ("row", "col") for element in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    for svg in page.all("svg"):
        if svg["aria-hidden"] != "true":
            assert svg["role"] == "img"
            assert {svg["aria-labelledby"], svg["aria-describedby"]} <= set(ids)
