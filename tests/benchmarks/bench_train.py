"""Two workers of one thread each against one worker of one thread, with the same work for each.

Each training is a process or two of croplake's own, fed by Petastorm from shards on disk; the rate
is that of its epochs but the first, in which TensorFlow compiles.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from croplake.conf import TrainConf
from croplake.training.launching import run_as_processes
from croplake.training.workers import Examples, describe_job
from tests.benchmarks.report import QUICK, Rounds, Target, publish
from tests.training_data import jpeg_of, write_shard

LABELS: Final = ("one", "two", "three")
GROUPS_PER_WORKER: Final = 4
LEAST: Final = 1.7


@dataclass(frozen=True)
class Case:
    """A training to scale.

    Attributes:
        name: for people.
        num_rows: examples of a worker.
        conf: of the training, beside workers and threads.
        beside: further trainings of two workers, by name: what is otherwise in `conf`.
    """

    name: str
    num_rows: int
    conf: dict[str, Any]
    beside: Mapping[str, dict[str, Any]] = field(default_factory=dict)


CASES: Final = (
    Case(
        "top 40 layers of MobileNetV2, 224 px",
        64 if QUICK else 384,
        {"phases": [{"trainable": "top_40", "epochs": 3}], "alpha": 1.0, "input_side_px": 224},
    ),
    Case(
        "all of MobileNetV2 0.35, 96 px",
        128 if QUICK else 1536,
        {
            "weights": "none",
            "phases": [{"trainable": "all", "epochs": 3}],
            "alpha": 0.35,
            "input_side_px": 96,
            "sync_batch_norm": False,
        },
        {"2 workers, sync_batch_norm": {"sync_batch_norm": True}},
    ),
)


def write_examples(folder: Path, num_rows: int, side_px: int) -> str:
    """One worker's shard: noisy pictures of a crop's size."""
    rng = np.random.default_rng(side_px)
    pictures = []
    for _ in range(32):
        rough = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(side_px // 8, 0)
        pictures.append(jpeg_of(rough.repeat(side_px // 8, 1)))
    size = num_rows // GROUPS_PER_WORKER
    groups = [range(start, start + size) for start in range(0, num_rows, size)]
    return write_shard(
        folder / "shard.parquet",
        groups,
        picture=lambda row: pictures[row % len(pictures)],
        label=lambda row: row % len(LABELS),
    )


def measure(case: Case, shards: Sequence[str], weights: str, num_workers: int) -> float:
    """Images/s of all workers together."""
    conf = TrainConf.model_validate(
        {"weights": weights, "batch_size": 32, "shuffle_buffer": 512}
        | case.conf
        | {"num_workers": num_workers, "threads_per_worker": 1, "launch": "processes"}
    )
    files = list(shards[:num_workers])
    counts = [case.num_rows * num_workers // len(LABELS)] * len(LABELS)
    with tempfile.TemporaryDirectory() as folder:
        examples = Examples(files, [], LABELS, counts)
        job = describe_job(conf, examples, f"{folder}/model", f"{folder}/checkpoints")
        history = run_as_processes(job)[0]["history"]
    return float(median(record["images_per_s"] for record in history[1:]))


def side_by_side(run: Callable[[int], float]) -> float:
    """Images/s of two trainings that have nothing to tell each other: what the machine allows."""
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(run, (1, 1)))


def make_weights(folder: Path) -> str:
    """A base's weights, as random as any: a frozen base computes the same with them."""
    file = folder / "base.weights.h5"
    code = (
        "import sys; from croplake.training.base_network import make_base\n"
        "base = make_base('MobileNetV2', weights=None, side_px=224, asked='bench')\n"
        "base.save_weights(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True)
    return str(file)


def main() -> None:
    """Measures every case, prints the tables and publishes them."""
    measured, targets, notes = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        weights = make_weights(Path(scratch))
        for case in CASES:
            side_px = case.conf["input_side_px"]
            folder = Path(scratch, str(side_px))
            shards = [
                write_examples(folder / str(worker), case.num_rows, side_px) for worker in (0, 1)
            ]
            rounds = Rounds("images/s", title=case.name)
            run = partial(measure, case, shards, weights)
            others = {
                name: partial(measure, replace(case, conf=case.conf | changes), shards, weights, 2)
                for name, changes in case.beside.items()
            }
            rounds.measure(
                {
                    "1 worker": partial(run, 1),
                    "2 workers": partial(run, 2),
                    **others,
                    "2 trainings of 1 worker, side by side": partial(side_by_side, run),
                }
            )
            measured.append(rounds)
            ratio = rounds.ratio("2 workers", "1 worker")
            ceiling = rounds.ratio("2 trainings of 1 worker, side by side", "1 worker")
            notes.append(
                f"{case.name}: two trainings that have nothing to tell each other are "
                f"{ceiling:.2f} times as fast as one on this machine; more it does not allow."
            )
            targets.append(Target(f"2 workers ÷ 1, {case.name}", ratio, "≥", LEAST))
    publish(
        "train", measured, targets, ("tensorflow", "keras", "petastorm", "pyarrow"), notes=notes
    )


if __name__ == "__main__":
    main()
