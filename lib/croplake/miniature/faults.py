"""Which photos of the world misbehave, and how: decided by the world's seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

Fault = Literal["gone", "mirror_gone", "truncated", "empty", "html", "busy"]

BUSY_ANSWERS: Final = 2
"""Requests for each address of a busy photo that get 503 before it is served: a run's two tries."""

_SHARES: Final[tuple[tuple[Fault, float], ...]] = (
    ("gone", 0.01),
    ("mirror_gone", 0.04),
    ("truncated", 0.003),
    ("empty", 0.002),
    ("html", 0.002),
    ("busy", 0.005),
)
"""`gone`: on no host. `mirror_gone`: only the original and the thumbnail are there. `truncated`,
`empty`, `html`: every host serves the same rubbish. `busy`: 503 at first."""
_LEAST_WORLD: Final = 200
"""From this size on a world has every fault at least once."""


def choose_faults(image_ids: Sequence[str], seed: int) -> dict[str, Fault]:
    """Draws the photos that misbehave.

    Args:
        image_ids: of all photos.
        seed: of the world.

    Returns:
        Image id to fault, for those that have one.
    """
    order = np.random.default_rng([seed, 1 << 21]).permutation(len(image_ids))
    faults: dict[str, Fault] = {}
    start = 0
    for fault, share in _SHARES:
        least = 1 if len(image_ids) >= _LEAST_WORLD else 0
        count = max(least, round(share * len(image_ids)))
        faults |= {image_ids[index]: fault for index in order[start : start + count]}
        start += count
    return faults
