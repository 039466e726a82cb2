"""The same crops through Petastorm, as training reads them, and as TFRecord: images/s and memory.

Both are decoded, resized, shuffled and batched by the same functions and the same numbers of
threads, each in a process of its own; the processes take turns, an epoch or two each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from croplake.training.allocator import FLAT_MEMORY
from tests.benchmarks.drawn_crops import draw_crops, write_parquet, write_tfrecord
from tests.benchmarks.report import FOLDER, QUICK, Rounds, Target, publish

PETASTORM: Final = "Petastorm (croplake)"
TFRECORD: Final = "TFRecord"
NUM_CROPS: Final = 1_024 if QUICK else 8_000
EPOCHS: Final = 1 if QUICK else 2
"""Of one turn."""
LONG_EPOCHS: Final = 10
NUM_CORES: Final = 2
_QUIET: Final = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


class Reader:
    """A process that reads epochs, `tests.benchmarks.stream_reader`, and what it said of each."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.rss_bytes: list[int] = []
        self.cpu_ms: list[float] = []

    def images_per_s(self, num_epochs: int = EPOCHS) -> float:
        """Reads as many epochs."""
        seconds = 0.0
        for _ in range(num_epochs):
            said = self._read_one()
            seconds += said["seconds"]
            self.cpu_ms.append(1000 * said["cpu_s"] / NUM_CROPS)
            self.rss_bytes.append(int(said["rss_bytes"]))
        return num_epochs * NUM_CROPS / seconds

    def _read_one(self) -> dict[str, float]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the reader has no pipes")
        self._process.stdin.write(f"{len(self.rss_bytes)}\n")
        self._process.stdin.flush()
        said: dict[str, float] = json.loads(self._process.stdout.readline())
        if said["num_images"] != NUM_CROPS:
            raise RuntimeError(f"{said['num_images']:.0f} images read of {NUM_CROPS}")
        return said


@contextmanager
def reader(kind: str, folder: Path, cores: list[int]) -> Iterator[Reader]:
    """Starts a process on these cores; the first epoch, in which all is loaded, is read."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.stream_reader", kind, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | FLAT_MEMORY | _QUIET,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    try:
        started = Reader(process)
        started.images_per_s(1)
        yield started
    finally:
        process.communicate()


def main() -> None:
    """Measures and publishes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))[:NUM_CORES]
    rates = Rounds("images/s", title=f"decoded, 224 px, shuffled, in batches, {len(cores)} cores")
    cpu = Rounds("ms", title="CPU time of an image, each epoch")
    memory = Rounds("MiB", title=f"resident after each of {LONG_EPOCHS} epochs")
    with tempfile.TemporaryDirectory(dir=FOLDER) as name, ExitStack() as stack:
        folder = Path(name)
        crops = draw_crops(NUM_CROPS)
        mean_bytes = sum(len(jpeg) for jpeg, _ in crops) / len(crops)
        write_tfrecord(folder, crops)
        write_parquet(folder, crops)
        del crops
        readers = {
            PETASTORM: stack.enter_context(reader("petastorm", folder, cores)),
            TFRECORD: stack.enter_context(reader("tfrecord", folder, cores)),
        }
        turns: dict[str, Callable[[], float]] = {
            name: one.images_per_s for name, one in readers.items()
        }
        rates.measure(turns, 5)
        for one in readers.values():
            one.images_per_s(max(1, LONG_EPOCHS - len(one.rss_bytes)))
    for name, one in readers.items():
        for cpu_ms in one.cpu_ms[1:]:
            cpu.record(name, cpu_ms)
        for rss_bytes in one.rss_bytes[:LONG_EPOCHS]:
            memory.record(name, rss_bytes / 2**20)
    held = readers[PETASTORM].rss_bytes
    publish(
        "stream",
        [rates, cpu, memory],
        [
            Target("images/s, Petastorm ÷ TFRecord", rates.ratio(PETASTORM, TFRECORD), "≥", 1.0),
            Target(
                f"Petastorm's resident memory after epoch {LONG_EPOCHS} ÷ after epoch 2",
                held[LONG_EPOCHS - 1] / held[1],
                "≤",
                1.05,
            ),
        ],
        ["tensorflow", "petastorm", "pyarrow"],
        notes=[
            f"{NUM_CROPS:,} drawn crops, their longer side 96 to 256 px, JPEG quality 92, "
            f"{mean_bytes / 1024:.1f} KiB on average. Both readers run with one malloc arena, "
            "decode and resize with `croplake.training.decoding` by as many calls, shuffle in a "
            "buffer of 2,048 and make batches of 64; the TFRecord reader interleaves eight files "
            "and need not keep an order, the Petastorm reader's order repeats with its seed. The "
            "files are in the page cache; an epoch before the first round is not counted.",
        ],
    )


if __name__ == "__main__":
    main()
