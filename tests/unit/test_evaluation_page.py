"""The page about a model says what its figures are, whatever there is of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from croplake.evaluation.evaluated import Evaluated
from croplake.evaluation.intervals import Interval, wilson_interval
from croplake.report.charts import Chart
from croplake.report.evaluation_page import evaluation_page
from croplake.report.lines import draw_lines
from tests.html_page import Page, parse_page
from tests.unit.dataset_figures import HANDLER, SCRIPT
from tests.unit.evaluation_figures import evaluate, evaluated, evaluation_figures

RELIABILITY = "How often guesses are right, by their probability"
BY_CATEGORY = "Precision, recall, F1 and examples by category, the lowest F1 first"
PAIRS = "What is most often taken for what; the share is of the true category's examples"
MOST_CONFUSED = "the 20 categories that are most often taken for each other"
MATRIX = (
    "Confusion matrix: true categories down, guesses across; the stronger the colour, the larger "
    "the share of its row"
)


def page_of(*arguments: Any, **changes: Any) -> Page:  # noqa: ANN401
    return parse_page(evaluation_page(evaluation_figures(*arguments, **changes)))


@pytest.fixture(scope="module")
def page() -> Page:
    return page_of()


def test_what_data_says_is_text(page: Page) -> None:
    # A category in tables and the matrix, a slice, a note, a picture's title.
    assert page.text.count(SCRIPT) >= 6
    assert page.text.count(HANDLER) >= 2


def test_the_tables_say_what_the_figures_are(page: Page) -> None:
    metrics = evaluated().metrics
    rows = page.table(BY_CATEGORY)
    order = np.argsort(metrics.f1, kind="stable")
    assert [row[0] for row in rows] == [metrics.categories[index] for index in order]
    worst = order[0]
    assert rows[0][1:5] == [
        f"{metrics.precision[worst]:.3f}",
        f"{metrics.recall[worst]:.3f}",
        f"{metrics.f1[worst]:.3f}",
        f"{metrics.support[worst]:,}",
    ]
    assert rows[-1][2:5] == ["–", "–", "0"]  # the category without examples
    cells = [[int(cell or 0) for cell in row[1:]] for row in page.table(MATRIX)]
    assert cells == metrics.confusion.tolist()
    pairs = page.table(PAIRS)
    off = metrics.confusion - np.diag(metrics.confusion.diagonal())
    assert int(pairs[0][2]) == off.max()
    assert len(pairs) == min(np.count_nonzero(off), 12)
    bins = page.table(RELIABILITY)
    assert [int(row[1]) for row in bins] == metrics.calibration.counts.tolist()
    assert bins[14][0] == "0.93 to 1.00"
    assert page.table("Mistakes by distance in the class hierarchy") == [
        ["2 steps", "20"],
        ["4 steps", "30"],
    ]


def test_a_shade_is_the_share_of_the_row(page: Page) -> None:
    metrics = evaluated().metrics
    shades = [e["class"] for e in page.all("td") if e["class"].startswith("heat-")]
    assert len(shades) == np.count_nonzero(metrics.confusion)
    diagonal = metrics.recall[:-1]
    assert max(shades) == f"heat-{int(np.ceil(np.nanmax(diagonal) * 5))}"


def test_the_comparison_says_difference_interval_and_test(page: Page) -> None:
    assert "model-1 has +4.17 percentage points of top-1 against model-2" in page.text
    assert "(95 % interval −1.00 to +9.00" in page.text
    assert "with a probability of 0.203 where both are equally good" in page.text
    alone = page_of(comparison=None)
    assert "Comparison" not in alone.text
    assert not [row for row in alone.table(BY_CATEGORY) if len(row) != 6]


def test_a_slice_has_its_interval_beside_what_the_other_model_has(page: Page) -> None:
    (row,) = page.table("How the box was made")
    half = evaluated().slices[f"box_source={SCRIPT}"]
    low, high = wilson_interval(round(half.top1 * half.num_examples), half.num_examples)
    assert row[:4] == [
        SCRIPT,
        f"{half.num_examples}",
        f"{half.top1:.2%}",
        f"{100 * low:.1f}–{100 * high:.1f}%",
    ]
    assert len(row) == 7


def test_curves_are_drawn_of_what_training_recorded(page: Page) -> None:
    rows = page.table("Loss by epoch")
    assert rows[0] == ["1", "2", "2.2"]
    assert rows[1] == ["2", "1", "–"]  # a NaN is no point
    assert "A line down is where a phase of the training begins." in page.text
    assert page.table("Learning rate by epoch")[5] == ["6", "0.000167"]
    old = page_of(history=[{"loss": 1.5, "accuracy": 0.5}, {"loss": 1.0, "accuracy": 0.7}])
    assert "A line down" not in old.text
    assert old.table("Loss by epoch") == [["1", "1.5"], ["2", "1"]]
    for nothing in (None, [], [{"seconds": 3.0}], [{"loss": float("nan")}]):
        text = page_of(history=nothing).text
        assert "No record of the model's training can be read" in text


def test_of_many_categories_the_worst_pairs_and_a_picture_are_shown() -> None:
    text = evaluation_page(evaluation_figures(600, comparison=None))
    many = parse_page(text)
    assert many.table(MATRIX) == []
    matrix = many.table(MATRIX.replace("matrix", f"matrix of {MOST_CONFUSED}"))
    assert len(matrix) == 20
    pairs = many.table(PAIRS)
    assert {*pairs[0][:2], *pairs[1][:2]} <= {row[0] for row in matrix}
    support = {row[0]: int(row[4]) for row in many.table(BY_CATEGORY)}
    assert [sum(int(cell or 0) for cell in row[1:]) for row in matrix] == [
        support[row[0]] for row in matrix
    ]
    assert len(many.table(PAIRS)) == 40
    worst = many.table("The 15 lowest F1 of categories with 10 examples or more")
    assert [row[0] for row in worst] == [
        row[0] for row in many.table(BY_CATEGORY) if int(row[4]) >= 10
    ][:15]
    assert len(many.table(BY_CATEGORY)) == 600
    (picture,) = [e for e in many.all("img") if e["src"].startswith("data:image/png")]
    assert "all 600 categories" in picture["alt"]
    assert len(text) < 3_000_000


def test_a_category_of_few_examples_is_not_among_the_worst() -> None:
    labels = np.repeat(np.arange(20), [1, *[10] * 19])
    guesses = labels.copy()
    guesses[:2] = 5  # the only example of the first, one of ten of the second
    names = ["Rare", "Weak", *(f"Kind {index}" for index in range(2, 20))]
    metrics = evaluate(np.eye(20)[guesses], labels, names)
    page = page_of(evaluated=Evaluated("m", metrics, Interval(0.9, 1.0)), comparison=None)
    worst = page.table("The 15 lowest F1 of categories with 10 examples or more")
    assert [row[0] for row in worst[:2]] == ["Kind 5", "Weak"]
    assert len(worst) == 15
    assert page.table(BY_CATEGORY)[0][0] == "Rare"


def test_one_category_without_a_mistake_is_a_page_too() -> None:
    metrics = evaluate(np.ones((3, 1)), np.zeros(3, dtype=int), ["Only"])
    one = Evaluated("m", metrics, Interval(1.0, 1.0))
    page = page_of(evaluated=one, comparison=None, mistakes=[], history=None, notes=[])
    assert page.table(MATRIX) == [["Only", "3"]]
    assert page.text.count("There is no mistake.") == 2
    assert "There are no slices." in page.text
    assert "the lake does not tell where" in page.text
    assert "top-1" in [element.text for element in page.all("dt")]


def test_a_curve_is_drawn_where_its_values_lie() -> None:
    points = {1: 0.0, 2: 4.0, 3: float("inf")}
    chart = draw_lines("k", "T", {"a": points}, what="epoch", in_words="{:g}".format, marks=[2])
    circles = re.findall(r'<circle class="dot-0" cx="([\d.]+)%" cy="([\d.]+)"', str(chart.svg))
    assert ticks(chart) == ["1", "2"]
    assert circles == [("12.00", "170.0"), ("94.00", "42.0")]  # 4 of 5, on 160 px
    assert chart.rows == (("1", "0"), ("2", "4"))
    alone = draw_lines("k", "T", {"a": {7: 0.0}}, what="epoch", in_words="{:g}".format)
    assert 'cx="53.00%"' in str(alone.svg)


def test_of_many_epochs_round_ones_are_named_and_a_few_have_dots() -> None:
    lines = {name: dict.fromkeys(range(1, 101), value) for name, value in (("a", 1.0), ("b", 2.0))}
    chart = draw_lines("k", "T", lines, what="epoch", in_words="{:g}".format)
    assert ticks(chart) == ["20", "40", "60", "80", "100"]
    assert str(chart.svg).count('class="dot-0"') == str(chart.svg).count('class="dot-1"') == 25
    assert chart.legend == {"dot-0": "a", "dot-1": "b"}


def ticks(chart: Chart) -> list[str]:
    return re.findall(r'class="tick middle"[^>]*>([^<]+)<', str(chart.svg))
