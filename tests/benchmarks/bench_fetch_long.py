"""`fetch_crops` over many photos: its memory, its CPU time, its idle slots, and one core or two.

Every run is a process of its own with its own server and session (`measured_run`), over https with
one 256 px crop a photo. Photos repeat under distinct ids.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.benchmarks import nginx
from tests.benchmarks.bench_fetch import PACKAGES
from tests.benchmarks.measured_run import Measured, measure
from tests.benchmarks.photos import build_photos
from tests.benchmarks.plot import plot_run
from tests.benchmarks.report import FOLDER, QUICK, Rounds, Target, publish

PICTURE: Final = Path(__file__).with_name("fetch_100000.png")
SCALE: Final = 10 if QUICK else 1
SHORT, MIDDLE, LONG, LONGEST = (count // SCALE for count in (4000, 10_000, 40_000, 100_000))
WARM_UP: Final = 4000 // SCALE
ONE_CORE, TWO_CORES = "one core", "two cores"


def measure_cores() -> Rounds:
    """The same run, everything confined to one core and to two."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    rounds = Rounds("photos/s", title="everything, the server too, confined by taskset")

    def rate(confined: list[int]) -> float:
        return measure(SHORT, warm_up_photos=WARM_UP, cores=confined).photos_per_s

    contestants = {ONE_CORE: lambda: rate(cores[:1])}
    if len(cores) == 2:
        contestants[TWO_CORES] = lambda: rate(cores)
    rounds.measure(contestants)
    return rounds


def figures_of(runs: list[Measured]) -> list[Rounds]:
    """Tables of single runs."""
    rate = Rounds("photos/s", title="one run each")
    cpu = Rounds("ms", title="CPU time a photo (driver, JVM and Python workers)")
    whole = Rounds("ms", title="the same of the whole job, planning and summary too")
    memory = Rounds("MB", title="greatest Python worker")
    idle = Rounds("%", title="time between chunks in which not every slot fetched")
    for run in runs:
        name = f"{run.num_photos:,} photos"
        rate.record(name, run.photos_per_s)
        cpu.record(name, run.cpu_ms_per_photo)
        for role, cpu_s in run.cpu_s.items():
            if role != "other":
                cpu.record(f"{name}: {role}", 1000 * cpu_s / run.num_photos)
        whole.record(name, 1000 * run.job_cpu_s / run.num_photos)
        memory.record(f"{name}: median over the run", run.worker_level_bytes / 1e6)
        memory.record(f"{name}: peak", run.worker_peak_bytes / 1e6)
        if run.num_chunks > 1:
            idle.record(f"{name}, {run.num_chunks} chunks", 100 * run.idle_frac)
    return [rate, cpu, whole, memory, idle]


def targets(short: Measured, middle: Measured, long: Measured, longest: Measured) -> list[Target]:
    """What must hold of the runs; see `main` for the cores."""
    flat_cpu = abs(longest.cpu_ms_per_photo / middle.cpu_ms_per_photo - 1)
    peaks = [run.worker_peak_bytes / 1e6 for run in (short, middle, long, longest)]
    return [
        Target("worker memory at its peak, MB", max(peaks), "≤", 400),
        Target(
            "worker memory, median over the run, 40,000 photos ÷ 4,000",
            long.worker_level_bytes / short.worker_level_bytes,
            "≤",
            1.1,
        ),
        Target("CPU time a photo, change from 10,000 to 100,000", flat_cpu, "≤", 0.1),
        Target("idle between chunks, 100,000 photos", longest.idle_frac, "≤", 0.05),
    ]


def main() -> None:
    """Measures and publishes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    build_photos(FOLDER / "photos")
    cores = measure_cores()
    runs = []
    for num_photos in (SHORT, MIDDLE, LONG, LONGEST):
        runs.append(measure(num_photos, warm_up_photos=WARM_UP))
        print(f"  {num_photos:,} photos: {runs[-1].photos_per_s:,.1f} photos/s", flush=True)
    picture = FOLDER / "fetch_quick.png" if QUICK else PICTURE
    plot_run(runs[-1], picture)
    both = Target("two cores ÷ one core", cores.ratio(TWO_CORES, ONE_CORE), "≥", 1.8)
    publish(
        "fetch_long",
        [cores, *figures_of(runs)],
        [*targets(*runs), both],
        PACKAGES,
        versions={"nginx": nginx.version()},
        notes=[
            "One 256 px crop a photo over https, each run in a session of its own that has fetched "
            f"{WARM_UP:,} photos before. Rates run from the first chunk to the last Delta "
            "commit, and so does CPU time, which leaves the server's out. The peak of memory is "
            "the kernel's mark of the most that was ever resident in one Python worker. Idle is "
            "looked at in Spark's event log, from the start of the first fetching task to that of "
            "the last: the share of that time in which not every slot ran one.",
            f"![Rate and memory over {LONGEST:,} photos]({PICTURE.name})",
        ],
    )


if __name__ == "__main__":
    main()
