"""The page about a classification, read by a parser."""

from __future__ import annotations

from croplake.report.predictions_page import predictions_page
from tests.html_page import Page, parse_page
from tests.unit.dataset_figures import SCRIPT
from tests.unit.prediction_figures import prediction_figures, shown


def page(**changes: object) -> Page:
    return parse_page(predictions_page(prediction_figures(**changes)))


def test_the_numbers_are_those_of_the_run() -> None:
    found = page()
    assert found.numbers() == {
        "photos": 1_322,
        "with a category": 1_240,
        "unsure": 60,
        "without an answer": 22,
    }
    assert found.counts("Photos by category") == {"Pear": 1_200, SCRIPT: 40}
    assert found.counts("Photos without a category by status") == {
        "not_found": 20,
        "not_a_photo": 2,
    }
    assert len(found.table("Photos with the status not_found, some of them")) == 10
    assert len(found.table("Photos with the status not_a_photo")) == 2
    assert "Of 60 photos the best guess has a probability below 0.5" in found.text


def test_a_photo_has_its_guesses_its_name_and_the_credit_that_is_known() -> None:
    found = page()
    figures = found.all("figure")
    first = " ".join(next(f.text for f in figures if "Pear 5.jpg" in f.text).split())
    assert first == "Pear 0.75 Pear 5.jpg Hat 0.20 Shoe 0.04"
    sure = page(galleries={"Pear": [shown("Pear", 1, guesses=[("Pear", 0.996), ("Hat", 0.004)])]})
    assert "Pear 1.00 Pear 1.jpg" in sure.text
    assert "Hat" not in sure.text
    (credited,) = [f.text for f in figures if "00000000000000ff" in f.text]
    assert "by " in credited
    alts = [image["alt"] for image in found.all("img")]
    assert "Pear 0.jpg: Pear, probability 0.75, licence and author not known" in alts
    assert "licences and authors of these photos are not known" in found.text


def test_links_lead_to_the_web_only() -> None:
    found = page()
    links = [link["href"] for link in found.all("a")]
    assert {link for link in links if not link.startswith("#")} == {"https://example.org/a.jpg"}


def test_a_run_of_failures_alone_and_one_without_any_say_so() -> None:
    none: dict[str, object] = {"categories": {}, "galleries": {}, "unsure": []}
    found = page(statuses={"not_found": 20}, **none)
    for said in ("No photo has a category.", "No photo is unsure", "There is no photo to show."):
        assert said in found.text
    found = page(statuses={"ok": 1_240}, failures={}, unsure=[], min_probability=0.0)
    assert "Every photo could be read" in found.text
    assert "a probability of at least 0 (" in found.text


def test_a_photo_without_a_name_has_one() -> None:
    found = page(galleries={"Pear": [shown("Pear", 1, path="https://example.org/")]})
    assert "example.org" in found.text
    found = page(galleries={"Pear": [shown("Pear", 1, path=" ")]})
    assert "a photo without a name" in found.text
