"""A linear classifier on vectors: multinomial logistic regression, without TensorFlow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from croplake.inference.embedding import Vectors

Labels: TypeAlias = NDArray[np.integer[Any]]
_Floats: TypeAlias = NDArray[np.float64]

STRENGTHS: Final = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Of the penalty on the squared weights; each fit begins where the one before it ended."""
_UNJUDGED: Final = 1e-2
"""Where there is nothing to judge it by."""
_BLOCK_ROWS: Final = 4096
_MAX_STEPS: Final = 200
_REMEMBERED: Final = 10
_LEAST_GAIN: Final = 1e-6
_SAMPLE_ROWS: Final = 20_000
_MANY: Final = 2
"""From so many times the sample the strength is looked for by it first."""
_HELD_OUT: Final = 5
"""Without a validation split the first fifth of the training examples judges the strength."""


class Examples(NamedTuple):
    """Vectors and the indices of their categories.

    Attributes:
        vectors: float32, shape (N, D).
        labels: int, shape (N,).
    """

    vectors: Vectors
    labels: Labels


@dataclass(frozen=True)
class LinearHead:
    """A trained classifier: vectors as the network gives them in, probabilities out.

    Attributes:
        weights: float32, shape (D, C).
        bias: float32, shape (C,).
        strength: of the penalty it was trained with.
        num_steps: of its training, those with other strengths before it among them.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    num_steps: int

    def probabilities(self, vectors: Vectors) -> NDArray[np.float32]:
        """Classifies.

        Args:
            vectors: float32, shape (N, D).

        Returns:
            float32, shape (N, C).
        """
        return _softmax(vectors @ self.weights + self.bias)


def train_head(train: Examples, validation: Examples, num_categories: int) -> LinearHead:
    """Trains with each strength, and keeps the one that does best on the validation split.

    The features are brought to mean 0 and deviation 1 first, in place: a second copy of so many
    would not fit. The smallest mean of (cross-entropy + strength / 2 · squared weights) is found by
    L-BFGS over all examples at once, so the result depends on nothing but them. Of many examples
    the first ones narrow the strength down.

    Args:
        train: N examples in an order of no meaning, N at least 1; its vectors are changed.
        validation: examples, maybe none: then the first fifth of the training examples takes their
            place, and the final training is on all; its vectors are changed.
        num_categories: C.

    Returns:
        The classifier.
    """
    mean, scale = _spread_of(train.vectors)
    for vectors in (train.vectors, validation.vectors):
        vectors -= mean
        vectors /= scale
    learn, judge, is_held_out = train, validation, False
    if not len(validation.labels) and len(train.labels) > _HELD_OUT:
        is_held_out = True
        num_held = len(train.labels) // _HELD_OUT
        judge = Examples(train.vectors[:num_held], train.labels[:num_held])
        learn = Examples(train.vectors[num_held:], train.labels[num_held:])
    best = _choose(learn, judge, num_categories)
    if is_held_out:
        final = _fit(train, num_categories, best.strength, best.parameters)
        best = final._replace(num_steps=best.num_steps + final.num_steps)
    weights = best.parameters[:-1] / scale[:, None]
    bias = best.parameters[-1] - mean @ weights
    return LinearHead(
        weights.astype(np.float32), bias.astype(np.float32), best.strength, best.num_steps
    )


class _Fit(NamedTuple):
    parameters: _Floats
    """Shape (D + 1, C), the bias last."""
    strength: float
    num_steps: int


def _choose(learn: Examples, judge: Examples, num_categories: int) -> _Fit:
    start = np.zeros((learn.vectors.shape[1] + 1, num_categories))
    if not len(judge.labels):
        return _fit(learn, num_categories, _UNJUDGED, start)
    if len(learn.labels) < _MANY * _SAMPLE_ROWS:
        return _descend(learn, judge, STRENGTHS, start)
    # A few say about how strong it should be, and lead most of the way. The more there are, the
    # less of a penalty they need: all of them go on from there.
    sample = Examples(learn.vectors[:_SAMPLE_ROWS], learn.labels[:_SAMPLE_ROWS])
    rough = _descend(sample, judge, STRENGTHS, start)
    left = STRENGTHS[STRENGTHS.index(rough.strength) :]
    best = _descend(learn, judge, left, rough.parameters)
    return best._replace(num_steps=rough.num_steps + best.num_steps)


def _descend(learn: Examples, judge: Examples, strengths: Sequence[float], start: _Floats) -> _Fit:
    """Fits with ever less of a penalty, as long as the judge finds it better."""
    num_categories = start.shape[1]
    best = _fit(learn, num_categories, strengths[0], start)
    best_loss, num_steps = _loss(judge, best.parameters), best.num_steps
    for strength in strengths[1:]:
        fit = _fit(learn, num_categories, strength, best.parameters)
        loss, num_steps = _loss(judge, fit.parameters), num_steps + fit.num_steps
        if loss >= best_loss:
            break  # less of a penalty only overfits more from here on
        best, best_loss = fit, loss
    return best._replace(num_steps=num_steps)


def _spread_of(vectors: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of each feature; the deviation of a constant one is 1."""
    sums = np.zeros(vectors.shape[1])
    squares = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), _BLOCK_ROWS):
        sums += vectors[start : start + _BLOCK_ROWS].sum(axis=0, dtype=np.float64)
    mean = sums / len(vectors)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        squares += np.square(vectors[start : start + _BLOCK_ROWS] - mean).sum(axis=0)
    scale = np.sqrt(squares / len(vectors))
    # Of a constant feature float32 leaves a little; what is small by itself counts as any other.
    scale[(scale <= 1e-6 * np.abs(mean)) | (scale < np.finfo(np.float32).tiny)] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    logits = logits - logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def _blocks_of(examples: Examples, parameters: _Floats) -> Any:  # noqa: ANN401  # a generator
    weights, bias = parameters[:-1].astype(np.float32), parameters[-1].astype(np.float32)
    for start in range(0, len(examples.labels), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        vectors, labels = examples.vectors[part], examples.labels[part]
        yield vectors, labels, _softmax(vectors @ weights + bias)


def _loss(examples: Examples, parameters: _Floats) -> float:
    total = 0.0
    for _, labels, probabilities in _blocks_of(examples, parameters):
        of_label = probabilities[np.arange(len(labels)), labels]
        total -= float(np.log(of_label.clip(1e-30)).sum(dtype=np.float64))
    return total / len(examples.labels)


def _fit(examples: Examples, num_categories: int, strength: float, start: _Floats) -> _Fit:
    num_rows = len(examples.labels)

    def objective(flat: _Floats) -> tuple[float, _Floats]:
        parameters = flat.reshape(-1, num_categories)
        gradient = np.zeros_like(parameters)
        loss = 0.0
        for vectors, labels, errors in _blocks_of(examples, parameters):
            rows = np.arange(len(labels))
            loss -= float(np.log(errors[rows, labels].clip(1e-30)).sum(dtype=np.float64))
            errors[rows, labels] -= 1
            gradient[:-1] += vectors.T @ errors
            gradient[-1] += errors.sum(axis=0)
        gradient /= num_rows
        gradient[:-1] += strength * parameters[:-1]
        penalty = strength / 2 * float(np.square(parameters[:-1]).sum())
        return loss / num_rows + penalty, gradient.reshape(-1)

    found, num_steps = _minimise(objective, start.reshape(-1))
    return _Fit(found.reshape(-1, num_categories), strength, num_steps)


def _minimise(
    objective: Callable[[_Floats], tuple[float, _Floats]], start: _Floats
) -> tuple[_Floats, int]:
    """L-BFGS with a backtracking line search (Nocedal and Wright, algorithms 7.4 and 3.1)."""
    here, (value, gradient) = start, objective(start)
    pairs: deque[tuple[_Floats, _Floats, float]] = deque(maxlen=_REMEMBERED)
    for step in range(_MAX_STEPS):
        direction = -_two_loops(gradient, pairs)
        slope = float(direction @ gradient)
        if slope >= 0:
            return here, step
        length = 1.0 if pairs else min(1.0, 1 / float(np.abs(gradient).sum()))
        while True:
            there = here + length * direction
            new_value, new_gradient = objective(there)
            if new_value <= value + 1e-4 * length * slope:
                break
            length /= 2
            if length < 1e-10:
                return here, step
        moved, turned = there - here, new_gradient - gradient
        if (curvature := float(moved @ turned)) > 1e-12:
            pairs.append((moved, turned, 1 / curvature))
        gain = value - new_value
        here, value, gradient = there, new_value, new_gradient
        if gain <= _LEAST_GAIN * max(abs(value), 1e-3):
            return here, step + 1
    return here, _MAX_STEPS


def _two_loops(gradient: _Floats, pairs: deque[tuple[_Floats, _Floats, float]]) -> _Floats:
    """The gradient, multiplied by what is known of the inverse Hessian."""
    found = gradient.copy()
    shares = []
    for moved, turned, inverse in reversed(pairs):
        shares.append(inverse * float(moved @ found))
        found -= shares[-1] * turned
    if pairs:
        moved, turned, inverse = pairs[-1]
        found /= inverse * float(turned @ turned)
    for (moved, turned, inverse), share in zip(pairs, reversed(shares), strict=True):
        found += moved * (share - inverse * float(turned @ found))
    return found
