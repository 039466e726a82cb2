"""The linear classifier of `probe_examples` on the driver: how long it takes to train.

The vectors are drawn: as many numbers as MobileNetV2 gives, none below zero, a centre for each
category and much noise, the categories' sizes long-tailed as those of Open Images are. How many
steps a training takes depends on them, what a step takes does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from croplake.inference.linear_head import Examples, train_head
from tests.benchmarks.report import QUICK, Rounds, Target, publish

NUM_FEATURES: Final = 1280
_BLOCK_ROWS: Final = 8192
_DRAW: Final = np.random.default_rng(17)


@dataclass(frozen=True)
class Size:
    """Of a probe.

    Attributes:
        num_categories: of the dataset.
        num_examples: of its training split; the validation split is a tenth.
    """

    num_categories: int
    num_examples: int

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.num_categories} categories, {self.num_examples:,} examples"


SMALL: Final = Size(10, 2_000 if QUICK else 10_000)
LARGE: Final = Size(600, 2_000 if QUICK else 50_000)


def draw_examples(size: Size) -> tuple[Examples, Examples]:
    """Training and validation examples."""
    centres = _DRAW.gamma(0.5, 1, (size.num_categories, NUM_FEATURES)).astype(np.float32)
    shares = 1 / np.arange(1, size.num_categories + 1) ** 0.7
    parts = []
    for num_rows in (size.num_examples, size.num_examples // 10):
        labels = _DRAW.choice(size.num_categories, num_rows, p=shares / shares.sum())
        vectors = np.empty((num_rows, NUM_FEATURES), np.float32)
        for start in range(0, num_rows, _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            vectors[rows] = _around(centres[labels[rows]])
        parts.append(Examples(vectors, labels.astype(np.int32)))
    return parts[0], parts[1]


def _around(centres: NDArray[np.float32]) -> NDArray[np.float64]:
    noise = _DRAW.gamma(0.5, 1, centres.shape)
    return np.maximum(0, 0.25 * centres + noise - 0.3)


def trainer(size: Size, rights: list[float]) -> Callable[[], float]:
    """What trains once and says how many seconds it took; what was right goes to `rights`."""
    train, validation = draw_examples(size)

    def run() -> float:
        # The training changes its vectors.
        learn, judge = (Examples(part.vectors.copy(), part.labels) for part in (train, validation))
        started = time.monotonic()
        head = train_head(learn, judge, size.num_categories)
        seconds = time.monotonic() - started
        answers = head.probabilities(validation.vectors).argmax(axis=1)
        rights.append(float((answers == validation.labels).mean()))
        return seconds

    return run


def main() -> None:
    """Measures and publishes."""
    num_cores = len(os.sched_getaffinity(0))
    rounds = Rounds("s", title=f"a training, {num_cores} cores")
    rights: list[float] = []
    rounds.measure({size.name: trainer(size, rights) for size in (SMALL, LARGE)})
    publish(
        "probe",
        rounds,
        [Target(f"seconds, {LARGE.name}", rounds.median(LARGE.name), "≤", 600.0)],
        ["numpy"],
        notes=[
            f"Drawn vectors of {NUM_FEATURES:,} float32 numbers; the strength of the penalty is "
            "chosen by a validation split of a tenth as many, which answers rightly for "
            f"{min(rights):.1%} to {max(rights):.1%}. Vectors are made before, by Spark.",
        ],
    )


if __name__ == "__main__":
    main()
