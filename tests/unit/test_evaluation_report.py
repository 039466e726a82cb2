"""The picture and the table."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from croplake.evaluation.evaluated import Evaluated
from croplake.evaluation.intervals import Interval
from croplake.evaluation.metrics import Metrics
from croplake.evaluation.picture import confusion_png
from croplake.evaluation.summary import summarize
from tests.unit.evaluation_figures import evaluate


def of_categories(num_categories: int) -> Metrics:
    """Every category is recognised, but the last: it has no examples."""
    labels = np.arange(num_categories - 1)
    names = [f"Kind [{index}] $a$" for index in range(num_categories)]
    return evaluate(np.eye(num_categories)[labels], labels, names)


def as_text(metrics: Metrics, *, max_categories: int = 40) -> str:
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        evaluated = Evaluated("m1", metrics, Interval(0.5, 0.75))
        console.print(summarize(evaluated, title="m1 [test]", max_categories=max_categories))
    return capture.get()


@pytest.mark.parametrize(("num_categories", "width_px"), [(2, 804), (10, 900), (600, 1992)])
def test_the_picture_is_a_png_that_shows_the_diagonal(num_categories: int, width_px: int) -> None:
    png = confusion_png(of_categories(num_categories), title="m1")
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.width) == ("PNG", width_px)
    pixels = np.asarray(image.convert("RGB")).astype(int)
    dark_blue = (np.abs(pixels - (8, 48, 107)).sum(axis=2) < 12) & (
        np.arange(image.width) < 0.85 * image.width  # right of it stands the colour bar
    )
    rows, columns = np.nonzero(dark_blue)
    assert len(rows) > 100
    if num_categories > 2:
        assert np.corrcoef(rows, columns)[0, 1] > 0.95


def test_a_row_without_examples_is_grey_in_the_picture() -> None:
    image = Image.open(io.BytesIO(confusion_png(of_categories(3), title="m1"))).convert("RGB")
    grey = (np.abs(np.asarray(image).astype(int) - 217) <= 1).all(axis=2)
    assert grey.sum() > 10_000


def test_the_table_says_every_category_and_a_dash_where_nothing_can_be_said() -> None:
    text = as_text(of_categories(3))
    assert "m1 [test]" in text
    assert "top-3" in text
    assert "50.00% to 75.00%" in text
    assert "calibration error (ECE)" in text
    assert "Kind [0] $a$" in text
    last = next(line for line in text.splitlines() if "Kind [2]" in line)
    assert [cell.strip() for cell in last.split("│")[2:6]] == ["0.000", "–", "–", "0"]


def test_of_many_categories_the_table_shows_the_worst_and_says_so() -> None:
    labels = np.arange(50)
    guesses = labels.copy()
    guesses[7] = 8
    names = [f"kind {index}" for index in range(50)]
    text = as_text(evaluate(np.eye(50)[guesses], labels, names), max_categories=2)
    assert "the 2 lowest F1 of 50 categories" in text
    assert "kind 7 " in text
    assert "kind 8 " in text
    assert "kind 9 " not in text


def test_examples_that_could_not_be_scored_are_named_in_the_table() -> None:
    metrics = of_categories(3)
    assert "could not be scored" not in as_text(metrics)
    text = as_text(dataclasses.replace(metrics, num_unscored=1234))
    line = next(line for line in text.splitlines() if "could not be scored" in line)
    assert line.split("│")[2].strip() == "1,234"
