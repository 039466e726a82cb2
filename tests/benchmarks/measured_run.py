"""One run of `fetch_crops` in a session of its own: rate, memory, CPU time and idle slots.

A process of its own, so that runs of different lengths, or on fewer cores, share nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from croplake.conf import SparkConf
from croplake.session import spark_session
from tests.benchmarks.lake_setup import HOST, fetch_crops, prepare_lake, warm_up
from tests.benchmarks.nginx import serving
from tests.benchmarks.photos import build_photos
from tests.benchmarks.processes import Sample, watched
from tests.benchmarks.report import FOLDER
from tests.benchmarks.timeline import event_log_properties, fetching_tasks, idle_frac
from tests.benchmarks.workload import one_crop


@dataclass(frozen=True)
class Measured:
    """A run.

    Attributes:
        num_photos: fetched, one crop each.
        num_cores: that all processes, the server's too, shared.
        seconds: from the first chunk to the last Delta commit.
        cpu_s: of the same span, by role, without the server.
        job_cpu_s: of the whole job, planning and summary too, without the server.
        worker_peak_bytes: the most any Python worker held.
        num_chunks: the stages that fetched.
        idle_frac: share of the time in which not every slot ran a fetching task.
        samples: one a second.
    """

    num_photos: int
    num_cores: int
    seconds: float
    cpu_s: dict[str, float]
    job_cpu_s: float
    worker_peak_bytes: int
    num_chunks: int
    idle_frac: float
    samples: list[Sample]

    @property
    def photos_per_s(self) -> float:
        """The rate."""
        return self.num_photos / self.seconds

    @property
    def cpu_ms_per_photo(self) -> float:
        """CPU time of driver, JVM and workers."""
        return 1000 * sum(self.cpu_s.values()) / self.num_photos

    @property
    def worker_level_bytes(self) -> float:
        """What the greatest Python worker held in the middle of the run's moments."""
        return median(max(sample.worker_bytes) for sample in self.samples if sample.worker_bytes)


def measure(
    num_photos: int, *, warm_up_photos: int, cores: Sequence[int] | None = None
) -> Measured:
    """Runs this module in a process of its own.

    Args:
        num_photos: to fetch over https, one crop each.
        warm_up_photos: fetched first, uncounted.
        cores: to which taskset confines everything, the server included; None is all there are.

    Returns:
        Its figures.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        out = Path(folder, "measured.json")
        command = [sys.executable, "-m", "tests.benchmarks.measured_run", str(out)]
        command += [f"--photos={num_photos}", f"--warm-up={warm_up_photos}"]
        if cores is not None:
            command = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
        subprocess.run(command, check=True)
        found = json.loads(out.read_text())
    found["samples"] = [Sample(**sample) for sample in found["samples"]]
    return Measured(**found)


def run_here(num_photos: int, warm_up_photos: int) -> Measured:
    """The run itself, in this process and those it starts."""
    photos = build_photos(FOLDER / "photos")
    num_cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        events = folder / "events"
        events.mkdir()
        conf = SparkConf(properties=event_log_properties(events))
        with (
            serving(photos.folder, HOST, workers=num_cores) as nginx,
            spark_session("measured run", conf) as spark,
        ):
            slots = spark.sparkContext.defaultParallelism
            warm_up(spark, one_crop(warm_up_photos), nginx, "https")
            prepared = prepare_lake(spark, folder / "prepared", one_crop(num_photos))
            started_s = time.time()
            with watched(nginx.num_requests) as usage:
                fetched = fetch_crops(spark, prepared, nginx, "https", folder / "run")
        tasks = fetching_tasks(events, after_s=started_s)
        return Measured(
            num_photos=num_photos,
            num_cores=num_cores,
            seconds=fetched.fetching_seconds,
            cpu_s={role: used for role, used in fetched.cpu_s.items() if role != "server"},
            job_cpu_s=sum(usage.cpu_s.values()),
            worker_peak_bytes=usage.worker_peak_bytes,
            num_chunks=len({task.stage for task in tasks}),
            idle_frac=idle_frac(tasks, slots),
            samples=usage.samples,
        )


def main() -> None:
    """Writes the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--photos", type=int, required=True)
    parser.add_argument("--warm-up", type=int, required=True)
    args = parser.parse_args()
    measured = run_here(args.photos, args.warm_up)
    args.out.write_text(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
