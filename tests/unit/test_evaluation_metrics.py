"""The figures, against a reference in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from croplake.errors import InputDataError
from croplake.evaluation.metrics import Metrics, measure_tally
from croplake.evaluation.tally import Cells, Tally
from tests.unit.evaluation_figures import evaluate

ABC = ["apple", "banana", "cherry"]


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[str]]:
    """Probabilities with ties, labels that may leave categories empty, names."""
    num_examples = draw(st.integers(1, 30))
    num_categories = draw(st.integers(1, 9))
    row = st.lists(st.integers(0, 4), min_size=num_categories, max_size=num_categories)
    rows = draw(st.lists(row, min_size=num_examples, max_size=num_examples))
    scores = np.array(rows, dtype=np.float64) + 1e-9
    label = st.integers(0, num_categories - 1)
    labels = draw(st.lists(label, min_size=num_examples, max_size=num_examples))
    names = [f"category {index}" for index in range(num_categories)]
    return scores / scores.sum(axis=1, keepdims=True), np.array(labels), names


def by_loops(probabilities: Any, labels: Any, num_categories: int) -> dict[str, Any]:  # noqa: ANN401
    """The same figures, one example and one category after the other."""
    confusion = [[0] * num_categories for _ in range(num_categories)]
    loss, top1, top5 = 0.0, 0, 0
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        ranked = sorted(range(num_categories), key=lambda index: (-row[index], index))
        confusion[label][ranked[0]] += 1
        top1 += ranked[0] == label
        top5 += label in ranked[:5]
        loss -= math.log(min(max(row[label], 1e-7), 1.0))
    precision, recall, f1 = [], [], []
    for index in range(num_categories):
        true_positives = confusion[index][index]
        predicted = sum(confusion[other][index] for other in range(num_categories))
        support = sum(confusion[index])
        precision.append(true_positives / predicted if predicted else 0.0)
        recall.append(true_positives / support if support else math.nan)
        if not support:
            f1.append(math.nan)
        elif true_positives == 0:
            f1.append(0.0)
        else:
            f1.append(2 * precision[-1] * recall[-1] / (precision[-1] + recall[-1]))
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        best = max(range(num_categories), key=lambda index: (row[index], -index))
        bins[min(int(row[best] * 15), 14)].append((row[best], best == label))
    ece = sum(
        abs(sum(sure for sure, _ in found) - sum(is_hit for _, is_hit in found)) for found in bins
    ) / len(labels)
    with_examples = [value for value in f1 if not math.isnan(value)]
    return {
        "loss": loss / len(labels),
        "top1": top1 / len(labels),
        "top5": top5 / len(labels),
        "macro_f1": sum(with_examples) / len(with_examples),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "confusion": confusion,
        "ece": ece,
        "counts": [len(found) for found in bins],
        "confidence": [np.mean([sure for sure, _ in found]) if found else np.nan for found in bins],
        "accuracy": [np.mean([hit for _, hit in found]) if found else np.nan for found in bins],
    }


def assert_same(metrics: Metrics, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        whose = metrics if hasattr(metrics, name) else metrics.calibration
        np.testing.assert_allclose(getattr(whose, name), value, atol=1e-12, err_msg=name)


@given(answers())
@settings(max_examples=150, deadline=None)
def test_every_figure_is_that_of_the_plain_loops(case: Any) -> None:  # noqa: ANN401
    probabilities, labels, names = case
    assert_same(evaluate(*case), by_loops(probabilities, labels, len(names)))


@given(answers())
@settings(max_examples=60, deadline=None)
def test_rows_of_the_confusion_matrix_add_up_to_the_support(case: Any) -> None:  # noqa: ANN401
    _, labels, names = case
    metrics = evaluate(*case)
    assert metrics.support.tolist() == np.bincount(labels, minlength=len(names)).tolist()
    assert metrics.confusion.sum(axis=1).tolist() == metrics.support.tolist()
    assert metrics.top5 >= metrics.top1 == metrics.confusion.trace() / len(labels)


@given(answers(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_examples_changes_nothing(case: Any, random: Any) -> None:  # noqa: ANN401
    probabilities, labels, names = case
    order = random.sample(range(len(labels)), len(labels))
    shuffled = evaluate(probabilities[order], labels[order], names)
    assert_same(shuffled, by_loops(probabilities, labels, len(names)))


@given(answers(), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_tallies_of_parts_sent_as_cells_add_up_to_the_whole(case: Any, cut: int) -> None:  # noqa: ANN401
    probabilities, labels, names = case
    parts = [
        Tally.of(probabilities[:cut], labels[:cut]),
        Tally.of(probabilities[cut:], labels[cut:]),
    ]
    cells = Cells(*map(np.concatenate, zip(*(part.cells() for part in parts), strict=True)))
    expected = by_loops(probabilities, labels, len(names))
    assert_same(measure_tally(Tally.from_cells(cells, len(names)), names), expected)
    assert_same(measure_tally(parts[0] + parts[1], names), expected)


def test_a_category_that_is_never_predicted_has_precision_0() -> None:
    metrics = evaluate(np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]]), np.array([0, 1]), ABC)
    assert metrics.precision.tolist() == [0.5, 0.0, 0.0]
    assert metrics.f1[1] == 0.0


def test_a_category_without_examples_has_no_recall_and_no_share_in_macro_f1() -> None:
    metrics = evaluate(np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]), np.array([0, 1]), ABC)
    assert math.isnan(metrics.recall[2])
    assert math.isnan(metrics.f1[2])
    assert metrics.macro_f1 == 1.0


def test_a_certain_miss_costs_what_keras_says_it_costs() -> None:
    metrics = evaluate(np.array([[1.0, 0.0, 0.0]]), np.array([1]), ABC)
    assert metrics.loss == pytest.approx(-math.log(1e-7))


def test_a_bin_holds_its_lower_edge_and_the_last_one_both() -> None:
    sure = np.array([[3 / 15, 12 / 15, 0.0], [1.0, 0.0, 0.0], [2 / 3, 1 / 3, 0.0]])
    found = evaluate(sure, np.array([1, 1, 0]), ABC).calibration
    assert np.flatnonzero(found.counts).tolist() == [10, 12, 14]
    assert found.accuracy[[10, 12, 14]].tolist() == [1.0, 1.0, 0.0]
    assert found.bin_names[14] == "0.93 to 1.00"
    assert found.ece == pytest.approx((1 / 3 + 0.2 + 1.0) / 3)


def test_no_examples_are_an_error_of_the_data() -> None:
    with pytest.raises(InputDataError, match="no example to measure"):
        evaluate(np.zeros((0, 3)), np.zeros(0, dtype=int), ABC)


@pytest.mark.parametrize(
    ("probabilities", "labels", "said"),
    [
        ([[0.5, 0.5, 0.0]], [3], r"labels must be in 0\.\.2, got 3\.\.3"),
        ([[0.5, 0.5, 0.0]], [-1], r"got -1\.\.-1"),
        ([[math.nan, 0.5, 0.5]], [0], "NaN or infinity"),
        ([[0.5, 0.5, 0.0]], [0, 1], r"got \(1, 3\) and \(2,\)"),
        ([[0.5, 0.5]], [0], "2 categories were counted, 3 are named"),
    ],
)
def test_answers_that_cannot_be_counted_are_refused(
    probabilities: list[list[float]], labels: list[int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        evaluate(np.array(probabilities), np.array(labels), ABC)
