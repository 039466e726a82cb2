"""The catalog from CSVs of the published size, and picking classes from it; pandas and DuckDB too.

CSVs are drawn with the published distributions, once, and at twice the size. Every contestant is a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from rich.console import Console

from croplake.conf import Settings
from croplake.conf.loading import load_settings
from croplake.jobs import ingest_catalog, select_boxes
from croplake.jobs.context import Job
from croplake.jobs.way import run_job
from croplake.miniature.csvs import (
    BOXES_FILES,
    CLASSES_FILE,
    HIERARCHY_FILE,
    PHOTOS_FILES,
    class_mids,
)
from croplake.miniature.full_size import NUM_CLASSES, write_full_size
from croplake.session import spark_session
from tests.benchmarks.processes import family
from tests.benchmarks.report import FOLDER, QUICK, Rounds, Target, publish

ELSEWHERE: Final = Path(__file__).with_name("catalog_elsewhere.py")
DUCKDB_PYTHON: Final = Path("build/readers/bin/python")
SCALE: Final = 0.02 if QUICK else 1.0
ONCE, TWICE = "published size", "twice the size"
SIZES: Final = {ONCE: SCALE, TWICE: 2 * SCALE}
INGEST, PICK, AGAIN = "croplake: ingest_catalog", "croplake: select_boxes", "croplake: ingest again"
PANDAS, DUCKDB = "pandas", "DuckDB"
NUM_PICKS: Final = 5
NUM_PICKED: Final = 20
_WATCH_S: Final = 0.2


def csvs(size: str) -> Path:
    """A catalog of that size, drawn when first needed."""
    folder = FOLDER / f"catalog-{SIZES[size]:g}"
    done = folder / "done"
    if not done.exists():
        print(f"drawing the CSVs: {size}", flush=True)
        write_full_size(folder, times=SIZES[size])
        done.touch()
    return folder


def picks() -> list[list[str]]:
    """Some sets of classes, by MID."""
    rng = np.random.default_rng(5)
    mids = sorted(class_mids().values())[:NUM_CLASSES]
    return [sorted(rng.choice(mids, NUM_PICKED, replace=False).tolist()) for _ in range(NUM_PICKS)]


@contextmanager
def greatest_memory() -> Iterator[list[int]]:
    """Watches what the processes below this one hold together; the list ends with the most."""
    most = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_WATCH_S):
            held = sum(process.rss_bytes for process in family() if process.role != "driver")
            most[0] = max(most[0], held)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


class Runs:
    """All figures, as they come in."""

    def __init__(self, size: str) -> None:
        self.size = size
        self.memory = Rounds("MB", title=f"memory of all processes together at most, {size}")
        self.details = Rounds("s", title=f"what follows ingest_catalog, {size}")

    def elsewhere(self, tool: str, python: Path) -> float:
        """pandas or DuckDB; seconds without the interpreter's start."""
        with tempfile.TemporaryDirectory(dir=FOLDER) as out, greatest_memory() as most:
            command = [str(python), str(ELSEWHERE), tool.lower(), str(csvs(self.size)), out]
            subprocess.run([*command, *picks()[0]], check=True)
            seconds = float(Path(out, "seconds.txt").read_text())
        self.memory.record(tool, most[0] / 1e6)
        return seconds

    def croplake(self) -> float:
        """The jobs, in one process; seconds of ingest_catalog without the session's start."""
        with tempfile.TemporaryDirectory(dir=FOLDER) as out, greatest_memory() as most:
            command = [sys.executable, "-m", "tests.benchmarks.bench_catalog", "--here"]
            subprocess.run([*command, str(csvs(self.size)), out], check=True)
            found = json.loads(Path(out, "seconds.json").read_text())
        self.memory.record("croplake", most[0] / 1e6)
        for name in (PICK, AGAIN):
            for seconds in found[name]:
                self.details.record(name, seconds)
        return float(found[INGEST])


def settings_for(folder: Path, out: Path, number: int, mids: list[str]) -> Settings:
    """A lake in `out` over the CSVs of a folder."""
    values: dict[str, Any] = {
        "lake": {"root": str(out / "lake")},
        "catalog": {
            "classes": str(folder / CLASSES_FILE),
            "hierarchy": str(folder / HIERARCHY_FILE),
            "photos": {subset: str(folder / name) for subset, name in PHOTOS_FILES.items()},
            "boxes": {subset: str(folder / name) for subset, name in BOXES_FILES.items()},
        },
        "dataset": {"name": f"pick{number}", "classes": mids},
    }
    conf = out / "conf.yaml"
    conf.write_text(yaml.safe_dump(values))
    return load_settings(str(conf))


def run_here(folder: Path, out: Path) -> None:
    """The jobs in this process, their seconds as JSON."""
    found: dict[str, Any] = {PICK: [], AGAIN: []}
    console = Console(quiet=True)
    all_settings = [settings_for(folder, out, *pick) for pick in enumerate(picks())]
    with spark_session("bench catalog", all_settings[0].spark) as spark:

        def seconds_of(job: Job, settings: Settings) -> float:
            started = time.monotonic()
            run_job(spark, job, settings, console)
            return time.monotonic() - started

        first = all_settings[0]
        found[INGEST] = seconds_of(ingest_catalog.JOB, first)
        for settings in all_settings:
            found[PICK].append(seconds_of(select_boxes.JOB, settings))
        found[AGAIN].append(seconds_of(ingest_catalog.JOB, first))
    (out / "seconds.json").write_text(json.dumps(found))


def measure(size: str) -> tuple[Rounds, Runs]:
    """All contestants on one size."""
    runs = Runs(size)
    rounds = Rounds("s", title=f"CSVs to a catalog, {size}")
    csvs(size)
    rounds.measure(
        {
            PANDAS: lambda: runs.elsewhere(PANDAS, Path(sys.executable)),
            DUCKDB: lambda: runs.elsewhere(DUCKDB, DUCKDB_PYTHON),
            INGEST: runs.croplake,
        }
    )
    return rounds, runs


def targets(once: Rounds, twice: Rounds, at_once: Runs, at_twice: Runs) -> list[Target]:
    """What must hold."""
    greatest = [max(runs.memory.by_name["croplake"]) for runs in (at_once, at_twice)]
    slowest_pick = max(at_once.details.by_name[PICK])
    return [
        Target("ingest ÷ pandas' whole run", once.ratio(INGEST, PANDAS), "≤", 1.2),
        Target(
            "pandas' whole run ÷ the slowest pick of 20 classes",
            once.median(PANDAS) / slowest_pick,
            "≥",
            4,
        ),
        Target("memory of driver and executors, MB", greatest[0], "≤", 4000),
        Target("the same at twice the size, MB", greatest[1], "≤", 4000),
        Target(
            "memory at twice the size ÷ at once the size",
            at_twice.memory.median("croplake") / at_once.memory.median("croplake"),
            "≤",
            1.1,
        ),
        Target(
            "ingest at twice the size ÷ at once the size",
            twice.median(INGEST) / once.median(INGEST),
            "≤",
            2.1,
        ),
    ]


def main() -> None:
    """Measures and publishes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", nargs=2, type=Path, metavar=("CSVS", "OUT"))
    args = parser.parse_args()
    if args.here:
        run_here(*args.here)
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    once, at_once = measure(ONCE)
    twice, at_twice = measure(TWICE)
    shutil.rmtree(csvs(TWICE))
    version = "import duckdb; print(duckdb.__version__)"
    found = subprocess.run(
        [str(DUCKDB_PYTHON), "-c", version], check=True, capture_output=True, text=True
    )
    publish(
        "catalog",
        [once, at_once.details, at_once.memory, twice, at_twice.details, at_twice.memory],
        targets(once, twice, at_once, at_twice),
        ["pandas", "pyarrow", "pyspark", "delta-spark"],
        versions={"DuckDB": found.stdout.strip()},
        notes=[
            "pandas (C parser) and DuckDB parse and type the same CSVs, write boxes and photos as "
            "Parquet, then pick 20 classes and join them with their photos. croplake's "
            "ingest_catalog also checks every field, keeps unreadable rows aside, gives each box "
            "its id, merges equal ones and lays boxes out by class. Times are without the start of "
            "interpreter or session. Memory is what all processes of a contestant hold together, "
            "looked at five times a second.",
        ],
    )


if __name__ == "__main__":
    main()
