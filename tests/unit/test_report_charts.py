"""Charts say what they draw: in lengths, in words, in a table."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from croplake.report.charts import (
    MAX_BARS,
    Bar,
    Bins,
    Chart,
    draw_bars,
    draw_histogram,
    short_count,
)

BINS = Bins(edges=(1.0, 2.0, 4.0), texts=("1", "2", "4"), ticks=(0, 2))


def drawn(chart: Chart, kind: str) -> list[ET.Element]:
    """The chart's elements of a class, read as XML."""
    svg = ET.fromstring(str(chart.svg))  # noqa: S314  # we have made it
    return [element for element in svg.iter() if kind in element.get("class", "").split()]


def across(element: ET.Element, name: str) -> float:
    return float(element.get(name, "").removesuffix("%"))


def test_bars_are_as_long_as_their_values_end_to_end() -> None:
    bars = [Bar("Pear", (30, 10), "40"), Bar("Apple", (0, 20), "20")]
    chart = draw_bars("k", "Boxes", bars, what="category", series=("train", "test"))
    train, test = drawn(chart, "series-0"), drawn(chart, "series-1")
    assert [(across(bar, "x"), across(bar, "width")) for bar in train] == [(0, 75)]
    assert [(across(bar, "x"), across(bar, "width")) for bar in test] == [(75, 25), (0, 50)]
    assert test[1][0].text == "Apple, test: 20"
    assert chart.columns == ("category", "train", "test", "all")
    assert chart.rows == (("Pear", "30", "10", "40"), ("Apple", "0", "20", "20"))


def test_of_600_bars_40_are_drawn_and_the_table_has_all() -> None:
    bars = [Bar(f"class {n}", (600 - n,), str(600 - n)) for n in range(600)]
    chart = draw_bars("k", "Boxes", bars, what="category", series=("boxes",))
    assert len(drawn(chart, "series-0")) == len(drawn(chart, "track")) == MAX_BARS == 40
    assert len(chart.rows) == 600
    assert "600 bars. class 0: 600; class 599: 1." in str(chart.svg)
    assert "The first 40 are drawn" in str(chart.svg)


def test_a_histograms_bars_are_as_high_as_their_counts() -> None:
    chart = draw_histogram("k", "Sides", BINS, [5, 0, 20, 10], what="px", unit="boxes")
    bars = drawn(chart, "series-0")
    heights = [float(bar.get("height", "")) for bar in bars]
    assert heights == [40, 160, 80]
    assert {
        float(bar.get("y", "")) + height for bar, height in zip(bars, heights, strict=True)
    } == {170}
    lefts = [across(bar, "x") for bar in bars]
    assert lefts[2] - lefts[1] == pytest.approx((lefts[1] - lefts[0]) / 2)
    assert chart.rows == (
        ("below 1", "5"),
        ("1 to 2", "0"),
        ("2 to 4", "20"),
        ("4 and more", "10"),
    )
    ticks = [element.text for element in drawn(chart, "middle")]
    assert ticks == ["1", "4"]
    assert "35 boxes in 4 bins; most of them, 20, are 2 to 4." in str(chart.svg)


def test_a_chart_has_a_name_and_a_text_for_who_does_not_see_it() -> None:
    chart = draw_bars("k", "Boxes", [Bar("a", (1,), "1")], what="w", series=("boxes",))
    svg = ET.fromstring(str(chart.svg))  # noqa: S314
    assert svg.get("role") == "img"
    names = {element.get("id"): element.text for element in svg}
    assert names[svg.get("aria-labelledby")] == "Boxes"
    assert "a: 1" in (names[svg.get("aria-describedby")] or "")


def test_names_are_text_whatever_they_hold_and_long_ones_are_cut() -> None:
    name = "<script>&'\"</script>" * 3
    chart = draw_bars("k", name, [Bar(name, (1,), name)], what=name, series=(name,))
    tags = set(re.findall(r"<(\w+)", str(chart.svg)))
    assert tags == {"svg", "title", "desc", "g", "text", "rect"}
    (label,) = drawn(chart, "name")
    assert label.text == name[:35] + "…"
    assert label[0].text == name


def test_empty_counts_are_drawn_as_nothing() -> None:
    assert drawn(draw_histogram("k", "t", BINS, [0, 0, 0, 0], what="w", unit="u"), "series-0") == []
    bars = draw_bars("k", "t", [Bar("a", (0,), "0")], what="w", series=("u",))
    assert drawn(bars, "series-0") == []


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1.5, "1.5"), (950, "950"), (1_500, "1.5k"), (20_000, "20k"), (14_600_000, "14.6M")],
)
def test_a_count_for_a_narrow_place_has_three_digits(number: float, text: str) -> None:
    assert short_count(number) == text
