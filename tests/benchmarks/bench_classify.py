"""`classify_photos`' engine against the loop that a good engineer would write with Keras alone.

Both classify the same JPEGs by the same MobileNetV2 (224 px, random weights), on the same two
cores. Ours is the whole of a run but its CSV and its page: Spark's tasks, each with a network on
one core, decoding with limits and EXIF, small pictures for the page, rows committed to a Delta
table. The loop is a process of its own that has the weights in memory and all cores for it:
`tf.data` from files, `decode_jpeg`, resizing, batches, `model.predict`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.conf import PhaseConf, SparkConf, TrainConf
from croplake.fetching.http import HttpLimits
from croplake.fetching.pacing import HostBudget
from croplake.fetching.shares import Budgets
from croplake.inference.listing import list_photos
from croplake.inference.photo_frames import classify, photos_frame
from croplake.inference.photos import ClassifyRun
from croplake.inference.task import ClassifyTask, ShowcasePlan
from croplake.lake import Lake
from croplake.session import spark_session
from tests.benchmarks.photos import build_photos
from tests.benchmarks.report import FOLDER, QUICK, Rounds, Target, publish

SIDE_PX: Final = 224
NUM_CATEGORIES: Final = 20
OURS, LOOP, LARGER_LOOP = (
    "classify_photos",
    "Keras loop, batches of 16",
    "Keras loop, batches of 64",
)
COPIES: Final = 1 if QUICK else 2
"""Times that the drawn files stand in a run, as links of other names."""
_LOOP: Final = Path(__file__).with_name("keras_loop.py")


def make_model(folder: Path) -> Path:
    """A MobileNetV2 as training saves it: preprocessing inside, labels and settings beside it."""
    if not (folder / "settings.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        # By another process: TensorFlow stays out of Spark's driver.
        with ProcessPoolExecutor(1, get_context("spawn")) as other:
            other.submit(_save_network, folder / "model.keras").result()
        labels = [f"category {number}" for number in range(NUM_CATEGORIES)]
        (folder / "labels.json").write_text(json.dumps(labels))
        (folder / "settings.json").write_text(json.dumps({"input_side_px": SIDE_PX}))
    return folder


def _save_network(path: Path) -> None:
    from croplake.training.network import build_classifier

    phases = (PhaseConf(trainable="all"),)
    conf = TrainConf(weights="none", input_side_px=SIDE_PX, phases=phases)
    build_classifier(conf, NUM_CATEGORIES).save(path)


def link_photos(folder: Path, drawn: Path) -> int:
    """The run's photos, more than were drawn.

    Returns:
        How many.
    """
    files = sorted(drawn.glob("*.jpg"))[: 100 if QUICK else None]
    folder.mkdir()
    for copy in range(COPIES):
        for file in files:
            os.link(file, folder / f"{copy}-{file.name}")
    return COPIES * len(files)


class KerasLoop:
    """The loop in a process that stays, as a notebook would: it loads its network once."""

    def __init__(self, model: Path, photos: Path, batch_size: int) -> None:
        command = [sys.executable, str(_LOOP), str(model), str(photos)]
        self._process = subprocess.Popen(
            [*command, str(batch_size), str(SIDE_PX)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def photos_per_s(self) -> float:
        """One pass over all photos."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


class Ours:
    """The engine in a session that has run before."""

    def __init__(self, spark: SparkSession, model: Path, photos: Path, lake: Path) -> None:
        self._spark, self._photos, self._lake = spark, photos, Lake(spark, str(lake))
        self._lake.mark()
        limits = HttpLimits(1, 1, 5, 64 * 1024 * 1024)
        self._task = ClassifyTask(
            model=str(model),
            run=ClassifyRun("bench", "bench", top=5, batch_size=16, transfers=4),
            limits=limits,
            budgets=Budgets({"*": HostBudget(8)}),
            num_tasks=2,
            max_pixels=64_000_000,
            scratch=str(lake.parent / "scratch"),
            showcase=ShowcasePlan(24, 128),
        )

    def photos_per_s(self) -> float:
        """From the listing of the folder to the commit."""
        started = time.monotonic()
        paths = list_photos([str(self._photos)])
        frame = photos_frame(self._spark, paths, [], batch_size=16, with_names=False)
        self._lake.append(classify(frame, self._task), t.PREDICTIONS)
        return len(paths) / (time.monotonic() - started)


def main() -> None:
    """Measures and publishes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)  # all processes that are started from here keep to them
    drawn = build_photos(FOLDER / "photos")
    model = make_model(FOLDER / "mobilenet_v2")
    rounds = Rounds("photos/s", title=f"{len(cores)} cores")
    with (
        tempfile.TemporaryDirectory(dir=FOLDER) as name,
        spark_session("bench classify", SparkConf(master=f"local[{len(cores)}]")) as spark,
    ):
        num_photos = link_photos(Path(name, "photos"), drawn.folder)
        ours = Ours(spark, model, Path(name, "photos"), Path(name, "lake"))
        loops = {
            LOOP: KerasLoop(model, Path(name, "photos"), 16),
            LARGER_LOOP: KerasLoop(model, Path(name, "photos"), 64),
        }
        contestants = {OURS: ours.photos_per_s} | {n: one.photos_per_s for n, one in loops.items()}
        for run in contestants.values():
            run()  # loads networks, starts workers
        rounds.measure(contestants)
        rows = Lake(spark, str(Path(name, "lake"))).read(t.PREDICTIONS)
        wrong = rows.where(f"{t.STATUS} != '{t.STATUS_OK}'").count()
        for loop in loops.values():
            loop.close()
        shutil.rmtree(Path(name, "photos"))
    best = max((LOOP, LARGER_LOOP), key=rounds.median)
    publish(
        "classify",
        rounds,
        [
            Target("classify_photos ÷ the faster Keras loop", rounds.ratio(OURS, best), "≥", 1.0),
            Target("photos without an answer", wrong, "≤", 0),
        ],
        ["tensorflow", "keras", "pyspark", "simplejpeg", "pillow"],
        notes=[
            f"{num_photos:,} JPEGs of 1024×768 px, {drawn.mean_bytes / 1000:.0f} KB each on the "
            f"average, by MobileNetV2 at {SIDE_PX} px with random weights. All processes are "
            "confined to the same two cores; `classify_photos` has two slots with a network of one "
            "thread each, the loop one network and all threads it wants. Both have run before.",
        ],
    )


if __name__ == "__main__":
    main()
