"""The linear classifier of a probe, beside plain gradient descent in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from croplake.inference import linear_head
from croplake.inference.linear_head import STRENGTHS, Examples, train_head


def blobs(seed: int, num_each: int, spread: float = 1.0) -> Examples:
    """Three categories in six dimensions, of very different scales and off the middle."""
    draw = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], num_each)
    centres = np.eye(3, 6) * 3
    vectors = centres[labels] + draw.normal(0, spread, (len(labels), 6))
    order = draw.permutation(len(labels))
    scaled = vectors * [1, 10, 0.01, 1, 1, 100] + [0, 5, 3, 0, 0, 1000]
    return Examples(scaled[order].astype(np.float32), labels[order])


def copied(examples: Examples) -> Examples:
    return Examples(examples.vectors.copy(), examples.labels)


def reference(train: Examples, strength: float) -> Any:  # noqa: ANN401
    """The probabilities of the smallest loss, found by 40,000 small steps downhill."""
    vectors = train.vectors.astype(np.float64)
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    scaled = (vectors - mean) / deviation
    wanted = np.eye(3)[train.labels]
    weights, bias = np.zeros((6, 3)), np.zeros(3)

    def softmax(rows: Any) -> Any:  # noqa: ANN401
        powers = np.exp(rows @ weights + bias)
        return powers / powers.sum(axis=1, keepdims=True)

    for _ in range(40_000):
        errors = (softmax(scaled) - wanted) / len(wanted)
        weights = weights - 0.5 * (scaled.T @ errors + strength * weights)
        bias = bias - 0.5 * errors.sum(axis=0)
    return lambda rows: softmax((rows - mean) / deviation)


def test_the_probabilities_are_those_of_the_smallest_loss() -> None:
    train, validation = blobs(1, 60, 1.5), blobs(2, 40, 1.5)
    head = train_head(copied(train), copied(validation), 3)
    assert head.strength in STRENGTHS
    expected = reference(train, head.strength)(validation.vectors)
    np.testing.assert_allclose(head.probabilities(validation.vectors), expected, atol=5e-3)
    right = head.probabilities(validation.vectors).argmax(axis=1) == validation.labels
    assert right.mean() > 0.85


def test_the_strength_is_the_one_that_does_best_on_the_validation_split() -> None:
    draw = np.random.default_rng(3)
    noise = Examples(draw.normal(size=(80, 40)).astype(np.float32), draw.integers(0, 3, 80))
    others = Examples(draw.normal(size=(80, 40)).astype(np.float32), draw.integers(0, 3, 80))
    assert train_head(copied(noise), copied(others), 3).strength == max(STRENGTHS)
    clear = blobs(4, 60, 0.1)
    assert train_head(copied(clear), copied(clear), 3).strength == min(STRENGTHS)


def test_the_result_is_the_same_each_time_and_block_by_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, validation = blobs(1, 60), blobs(2, 40)
    first = train_head(copied(train), copied(validation), 3)
    again = train_head(copied(train), copied(validation), 3)
    np.testing.assert_array_equal(first.weights, again.weights)
    monkeypatch.setattr(linear_head, "_BLOCK_ROWS", 7)
    in_blocks = train_head(copied(train), copied(validation), 3)
    np.testing.assert_allclose(
        in_blocks.probabilities(validation.vectors),
        first.probabilities(validation.vectors),
        atol=5e-3,
    )


def test_of_many_examples_a_sample_leads_the_way_to_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, validation = blobs(1, 200, 1.5), blobs(2, 40, 1.5)
    expected = train_head(copied(train), copied(validation), 3)
    monkeypatch.setattr(linear_head, "_SAMPLE_ROWS", 60)
    fitted: list[tuple[int, float]] = []
    fit = linear_head._fit

    def note(examples: Examples, num_categories: int, strength: float, start: Any) -> Any:  # noqa: ANN401
        fitted.append((len(examples.labels), strength))
        return fit(examples, num_categories, strength, start)

    monkeypatch.setattr(linear_head, "_fit", note)
    head = train_head(copied(train), copied(validation), 3)
    assert head.strength == expected.strength
    np.testing.assert_allclose(
        head.probabilities(validation.vectors),
        expected.probabilities(validation.vectors),
        atol=5e-3,
    )
    by_all = [strength for num, strength in fitted if num == 600]
    assert {num for num, _ in fitted} == {60, 600}
    assert 0 < len(by_all) < len(STRENGTHS)


def test_without_a_validation_split_a_part_of_the_training_split_judges() -> None:
    train = blobs(1, 60)
    nothing = Examples(np.zeros((0, 6), np.float32), np.zeros(0, np.int64))
    head = train_head(copied(train), nothing, 3)
    right = head.probabilities(train.vectors).argmax(axis=1) == train.labels
    assert right.mean() > 0.95


@pytest.mark.parametrize("num_rows", [1, 2, 5])
def test_a_few_examples_constant_features_and_categories_without_any_do(num_rows: int) -> None:
    vectors = np.full((num_rows, 4), 7.0, np.float32)
    nothing = Examples(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    head = train_head(Examples(vectors.copy(), np.zeros(num_rows, np.int64)), nothing, 3)
    answer = head.probabilities(vectors)
    assert np.isfinite(answer).all()
    assert (answer.argmax(axis=1) == 0).all()


def test_features_that_are_small_by_themselves_count_as_any_other() -> None:
    train, validation = blobs(1, 60), blobs(2, 40)
    tiny = [Examples(part.vectors * np.float32(1e-9), part.labels) for part in (train, validation)]
    head = train_head(copied(tiny[0]), copied(tiny[1]), 3)
    right = head.probabilities(tiny[1].vectors).argmax(axis=1) == validation.labels
    assert right.mean() > 0.9
