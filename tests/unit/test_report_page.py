"""The page about a dataset says what its figures are, and whose its crops are."""

from __future__ import annotations

import pytest

from croplake.report.credit import licence_name, safe_link
from croplake.report.dataset import Author, CreditFigures
from croplake.report.dataset_page import dataset_page
from croplake.report.gallery import address_bytes, fit_galleries
from tests.html_page import Page, parse_page
from tests.unit.dataset_figures import CC_BY, HANDLER, SCRIPT, crop, dataset_figures


@pytest.fixture(scope="module")
def page() -> Page:
    return parse_page(dataset_page(dataset_figures()))


def test_what_data_says_is_text_in_charts_tables_and_pictures(page: Page) -> None:
    assert page.text.count(SCRIPT) >= 6  # a category, a title, a licence, in charts and tables
    assert page.text.count(HANDLER) == 2
    (alt,) = [e["alt"] for e in page.all("img") if e["alt"].startswith(SCRIPT)]
    assert alt.endswith(f"by {HANDLER}")


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\tscript:alert(1)",
        " https://a.example/",
        "https://a.example/ onclick=alert(1)",
        "https://a.example/\nb",
        'https://a.example/"onclick="alert(1)',
        "data:text/html,hello",
        "ftp://a.example/",
        "//a.example/",
        "a.example",
        "https://",
        "vbscript:https://a.example",
    ],
)
def test_only_addresses_of_the_web_are_linked(address: str | None) -> None:
    assert safe_link(address) is None
    assert safe_link("http://a.example/b?c=d&e#f") == "http://a.example/b?c=d&e#f"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (CC_BY, "CC BY 2.0"),
        ("http://creativecommons.org/licenses/by-nc-sa/4.0", "CC BY-NC-SA 4.0"),
        ("https://www.creativecommons.org/licenses/by/2.0/de/deed.en", "CC BY 2.0 DE"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "Public Domain Mark 1.0"),
        ("https://evil.example/creativecommons.org/licenses/by/2.0/", None),
        ("https://creativecommons.org/publicdomain/other/1.0/", None),
        ("All rights reserved", None),
        (None, "licence not given"),
        (" ", "licence not given"),
    ],
)
def test_a_licence_has_its_short_name_or_stays_as_it_is(
    address: str | None, name: str | None
) -> None:
    assert licence_name(address) == (name or address)


def test_every_crop_says_what_it_is_and_whose(page: Page) -> None:
    alts = [element["alt"] for element in page.all("img")]
    assert len(alts) == 24 + 1 + 6
    assert "Pear, crop of photo 0000000000000001, licence CC BY 2.0, by Ann" in alts
    captions = [" ".join(element.text.split()) for element in page.all("figcaption")]
    assert captions.count("Pear Plain 7 by Ann CC BY 2.0") == 1
    assert captions.count("Pear Plain 0 by Ann CC BY 2.0") == 2  # once as a near-duplicate


def test_a_crop_that_does_not_decode_says_so_and_one_without_an_author_too() -> None:
    broken = crop("Pear", 1, jpeg=None, width_px=None, height_px=None)
    bare = crop("Pear", 2, author=None, author_url=None, license=None, title=None)
    figures = dataset_figures(galleries={"Pear": [broken, bare]}, duplicates=None)
    page = parse_page(dataset_page(figures))
    assert "The crop of photo 0000000000000001 does not decode." in page.text
    (alt,) = [element["alt"] for element in page.all("img")]
    assert alt == "Pear, crop of photo 0000000000000002, no licence given, author not given"
    assert "photo 0000000000000002 by an unknown author licence not given" in page.text


@pytest.mark.parametrize("blank", ["", "   ", "\t\n", "\u200b \u00a0"])
def test_a_link_without_a_text_to_see_gets_one(blank: str) -> None:
    galleries = {"Pear": [crop("Pear", 1, title=blank, author=blank)]}
    authors = [Author(blank, "https://www.flickr.com/people/x/", 1), Author(blank, None, 1)]
    credit = CreditFigures(
        licences={CC_BY: 2}, num_other_licences=0, num_authors=2, authors=authors
    )
    figures = dataset_figures(galleries=galleries, credit=credit, duplicates=None)
    page = parse_page(dataset_page(figures))
    texts = {element["href"]: element.text for element in page.all("a")}
    assert texts["https://www.flickr.com/photos/ann/1"] == "photo 0000000000000001"
    assert texts["https://www.flickr.com/people/ann/"] == "an unknown author"
    (alt,) = [element["alt"] for element in page.all("img")]
    assert alt.endswith("author not given")
    assert page.counts("Authors with the most photos") == {
        "https://www.flickr.com/people/x/": 1,
        "an unknown author": 1,
    }


def test_space_around_a_title_is_left_out() -> None:
    galleries = {"Pear": [crop("Pear", 1, title="  A  pear \n")]}
    page = parse_page(dataset_page(dataset_figures(galleries=galleries, duplicates=None)))
    texts = [element.text for element in page.all("a")]
    assert "A  pear" in texts


def test_the_figures_are_on_the_page(page: Page) -> None:
    assert page.numbers() == {
        "boxes kept": 1_851,
        "boxes rejected": 63,
        "photos with a kept box": 1_500,
        "crops": 1_700,
        "boxes without a crop": 120,
        "boxes not fetched yet": 31,
        "train examples": 1_500,
        "validation examples": 0,
        "test examples": 90,
        "examples rejected": 110,
    }
    caption = "Kept boxes by subset and in all, rejected boxes, crops and examples, by category"
    assert page.table(caption) == [
        ["Pear", "1,200", "0", "34", "1,234", "56", "1,100", "1,000"],
        [SCRIPT, "617", "0", "0", "617", "0", "600", "590"],
        ["Quince", "0", "0", "0", "0", "7", "0", "0"],
    ]
    assert "Pear, has 2.0 times the boxes of the smallest" in page.text
    assert "No box is kept of Quince." in page.text
    assert page.counts("Boxes without a crop by source and status") == {
        "mirror: not_found": 100,
        "none: no_source": 20,
    }
    assert page.counts("Photos by licence") == {
        "CC BY 2.0": 1_400,
        SCRIPT: 60,
        "licence not given": 30,
        "other licences": 10,
    }
    assert "1,500 photos by 321 authors." in page.text
    assert "11 photos are in 4 groups of near-duplicates; 50 examples are rejected" in page.text
    assert "max_bucket: 1,006 buckets not compared." in page.text
    assert page.counts("Versions of the tables") == {"selected_boxes": 3, "crops": 1_234}


def test_a_part_without_data_says_so_in_a_sentence() -> None:
    figures = dataset_figures(
        fetched=None,
        examples=None,
        example_rejects={},
        box_rejects={},
        credit=None,
        duplicates=None,
        galleries={},
    )
    text = parse_page(dataset_page(figures)).text
    for sentence in (
        "there are no crops.",
        "No examples have been built yet.",
        "are known once there are crops",
        "No box is rejected.",
        "Which examples are rejected is known once they have been built.",
        "No box has been fetched yet.",
        "The lake has no table of photos",
        "Nobody has looked for near-duplicates yet.",
        "There is no crop to show.",
    ):
        assert sentence in text


def test_a_dataset_without_a_kept_box_still_has_a_page() -> None:
    categories = [dataset_figures().categories[2]]
    page = parse_page(dataset_page(dataset_figures(categories=categories, flags={}, fetched=None)))
    assert page.numbers()["boxes kept"] == 0
    assert "No box is kept." in page.text


@pytest.mark.parametrize("num_bytes", [0, 1, 2, 3, 4, 300])
def test_the_length_of_an_address_is_known_before_its_picture(num_bytes: int) -> None:
    address = crop("Pear", 1, jpeg=b"x" * num_bytes).address
    assert address is not None
    assert len(address) == address_bytes(num_bytes)


def test_galleries_share_their_room_evenly_and_none_goes_beyond_it() -> None:
    numbers = {"a": 20, "b": 2, "c": 20}
    crops = {
        name: [crop(name, number, jpeg=b"x" * 300) for number in range(num)]
        for name, num in numbers.items()
    }
    size = len("data:image/jpeg;base64,") + 400
    for room in range(60):
        fitted = fit_galleries(crops, room * size + size // 2)
        counts = {name: len(found) for name, found in fitted.items()}
        assert sum(counts.values()) == min(room, 42)
        assert all(fitted[name] == crops[name][:count] for name, count in counts.items())
        assert 0 <= counts["a"] - counts["c"] <= 1
        assert counts["b"] in (min(2, counts["a"]), min(2, counts["c"]))
