"""The picture of a long run: its rate and its memory over time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final

import matplotlib as mpl

from tests.benchmarks.measured_run import Measured
from tests.benchmarks.processes import Sample

mpl.use("Agg")
from matplotlib import pyplot as plt

_BIN_S: Final = 5.0
_LIMIT_MB: Final = 400


def plot_run(run: Measured, file: Path) -> None:
    """Draws a run.

    Args:
        run: with its samples.
        file: PNG, 800×520 px.
    """
    figure, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(8, 5.2), layout="constrained")
    rates = _rates(run.samples)
    upper.step([at_s for at_s, _ in rates], [rate for _, rate in rates], where="mid")
    upper.set_ylim(bottom=0)
    upper.set_ylabel("photos/s")
    upper.set_title(f"fetch_crops: {run.num_photos:,} photos, {run.num_cores} cores")
    times = [sample.at_s for sample in run.samples]
    greatest = [max(sample.worker_bytes, default=0) / 1e6 for sample in run.samples]
    lower.plot(times, greatest, label="greatest Python worker")
    lower.plot(times, [sample.jvm_bytes / 1e6 for sample in run.samples], label="JVM")
    lower.axhline(_LIMIT_MB, linestyle="--", linewidth=1, color="grey", label="limit of a worker")
    lower.set_ylim(bottom=0)
    lower.set_ylabel("resident, MB")
    lower.set_xlabel("seconds")
    lower.legend(loc="center right")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def _rates(samples: list[Sample]) -> list[tuple[float, float]]:
    """Seconds and photos a second, in bins of `_BIN_S`, as the server was asked."""
    ends = [samples[0]]
    for sample in samples:
        if sample.at_s - ends[-1].at_s >= _BIN_S:
            ends.append(sample)
    return [
        (
            (first.at_s + last.at_s) / 2,
            (last.num_requests - first.num_requests) / (last.at_s - first.at_s),
        )
        for first, last in pairwise(ends)
    ]
