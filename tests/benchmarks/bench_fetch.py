"""`fetch_crops` against img2dataset, and against the leanest pipeline without Spark.

nginx serves the same photos to all of them on the same cores. croplake's time runs from its first
chunk's start to its last Delta commit, in a session that has run before; img2dataset's from its
first shard's start to its last one's end, the yardstick's from its first request on. What comes
before and after, planning and the summary, does not grow with the photos; a line of its own shows
the whole job.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pyspark.sql import SparkSession

from croplake.conf import FetchConf, SparkConf
from croplake.fetching.addresses import host_key
from croplake.fetching.forecast import CPU_S_PER_BYTE, forecast
from croplake.fetching.pacing import HostBudget
from croplake.session import spark_session
from tests.benchmarks import lean, nginx
from tests.benchmarks.img2dataset import PROCESSES, THREADS, Img2dataset
from tests.benchmarks.lake_setup import HOST, PreparedLake, fetch_crops, prepare_lake, warm_up
from tests.benchmarks.nginx import Nginx, serving
from tests.benchmarks.parts import DECODING, parts_of_a_photo
from tests.benchmarks.photos import Photos, build_photos
from tests.benchmarks.quality import mean_difference
from tests.benchmarks.report import FOLDER, QUICK, Rounds, Target, publish
from tests.benchmarks.workload import Workload, five_crops, one_crop

NUM_PHOTOS: Final = 400 if QUICK else 4000
CROPLAKE: Final = "croplake"
DELAYED: Final = "croplake, +100 ms an answer"
WHOLE_JOB: Final = "croplake, planning and summary too"
LEAN: Final = "lean pipeline without Spark"
PACKAGES: Final = (
    "pyspark",
    "delta-spark",
    "pyarrow",
    "pycurl",
    "simplejpeg",
    "opencv-python-headless",
)

CPU_ROLES: Final = {"worker": "Python workers", "jvm": "JVM", "server": "nginx"}

_LOOPBACK_BYTES_PER_S: Final = 1e10
"""Nothing that bounds a forecast."""
_ANSWER_S: Final = 0.002
_DELAYED_ANSWER_S: Final = 0.1
"""What nginx takes; the second is what it is told to wait."""

Contestant = Callable[[], float]


class Contest:
    """What all contestants share: the server, the session, the lakes and a folder to write in."""

    def __init__(self, spark: SparkSession, server: Nginx, folder: Path) -> None:
        self._spark, self._server, self._folder = spark, server, folder
        self._lakes: dict[Workload, PreparedLake] = {}
        self.whole_job: dict[tuple[Workload, str], list[float]] = {}
        self.cpu_ms: dict[tuple[Workload, str], dict[str, list[float]]] = {}

    def croplake(self, workload: Workload, door: str) -> float:
        """Photos a second of the job from its first chunk to its last commit, into a fresh lake."""
        if workload not in self._lakes:
            place = self._folder / f"prepared-{len(self._lakes)}"
            self._lakes[workload] = prepare_lake(self._spark, place, workload)
        prepared, folder = self._lakes[workload], self._folder / "croplake"
        fetched = fetch_crops(self._spark, prepared, self._server, door, folder)
        roles = self.cpu_ms.setdefault((workload, door), {})
        for role in CPU_ROLES:
            used_ms = 1000 * fetched.cpu_s[role] / workload.num_photos
            roles.setdefault(role, []).append(used_ms)
        rates = self.whole_job.setdefault((workload, door), [])
        rates.append(fetched.whole_photos_per_s)
        return fetched.photos_per_s

    def lean(self, workload: Workload, door: str) -> float:
        """Photos a second of the yardstick."""
        url, folder = self._server.url(door), self._folder / "lean"
        return lean.photos_per_s(workload, url, self._server.ca_file, folder, PROCESSES)

    def img2dataset(self, other: Img2dataset, workload: Workload, door: str) -> float:
        """Photos a second of img2dataset."""
        url, folder = self._server.url(door), (self._folder / "img2dataset").resolve()
        return other.photos_per_s(workload, url, self._server.ca_file, folder)


def measure(contest: Contest, others: list[Img2dataset]) -> list[Rounds]:
    """All groups, each in rounds of its own."""
    whole, five = one_crop(NUM_PHOTOS), five_crops(NUM_PHOTOS)
    img2dataset = {
        _name(other): partial(contest.img2dataset, other, whole, "http") for other in others[:1]
    }
    over_http = Rounds("photos/s", title="http, one 256 px crop a photo")
    over_http.measure(
        {
            **img2dataset,
            CROPLAKE: lambda: contest.croplake(whole, "http"),
            DELAYED: lambda: contest.croplake(whole, "slow_http"),
            LEAN: lambda: contest.lean(whole, "http"),
        }
    )
    over_https = Rounds("photos/s", title="https, one 256 px crop a photo")
    over_https.measure(
        {
            **{_name(o): partial(contest.img2dataset, o, whole, "https") for o in others},
            CROPLAKE: lambda: contest.croplake(whole, "https"),
            LEAN: lambda: contest.lean(whole, "https"),
        }
    )
    five_over_https = Rounds("photos/s", title="https, five 224 px crops a photo")
    five_over_https.measure(
        {
            CROPLAKE: lambda: contest.croplake(five, "https"),
            LEAN: lambda: contest.lean(five, "https"),
        }
    )
    for rounds, workload, door in (
        (over_http, whole, "http"),
        (over_https, whole, "https"),
        (five_over_https, five, "https"),
    ):
        rounds.by_name[WHOLE_JOB] = contest.whole_job[workload, door]
    profile = core_time(five_over_https, contest.cpu_ms[five, "https"])
    return [over_http, over_https, five_over_https, profile]


def core_time(rounds: Rounds, cpu_ms: dict[str, list[float]]) -> Rounds:
    """Where the cores' time goes with croplake, beside all that the yardstick takes.

    Args:
        rounds: rates of both.
        cpu_ms: CPU time a photo of croplake's processes, by role and round.
    """
    profile = Rounds("ms of core time a photo", title=rounds.title)
    num_cores = len(os.sched_getaffinity(0))
    for name in (LEAN, CROPLAKE):
        for rate in rounds.by_name[name]:
            profile.record(f"{name}, all", 1000 * num_cores / rate)
    for role, name in CPU_ROLES.items():
        profile.by_name[f"croplake: {name}"] = cpu_ms[role]
    return profile


def core_speed(photos: Photos, parts: Rounds) -> float:
    """How fast a core is beside the one that the forecast's constants are of, by decoding alone."""
    return 1000 * CPU_S_PER_BYTE * photos.mean_bytes / parts.median(DECODING)


def forecast_error(
    rate: float, workload: Workload, photos: Photos, *, answer_s: float, core_speed: float
) -> float:
    """How far `plan-fetch` is off, as a share of what was measured.

    Args:
        rate: measured, in photos a second.
        workload: that was measured.
        photos: of it.
        answer_s: what the server takes.
        core_speed: of this machine.
    """
    slots, conf = len(os.sched_getaffinity(0)), FetchConf()
    mirror = host_key(urlsplit(conf.mirror_url).hostname or "")
    num_bytes = workload.num_photos * photos.mean_bytes
    said = forecast(
        num_photos=workload.num_photos,
        num_online=workload.num_photos,
        num_boxes=workload.num_photos * len(workload.boxes),
        bytes_on_wire=num_bytes,
        bytes_decoded=num_bytes,
        num_cores=slots,
        budget=HostBudget(**conf.hosts[mirror].model_dump()),
        core_speed=core_speed,
        answer_s=answer_s,
        bandwidth_bytes_per_s=_LOOPBACK_BYTES_PER_S,
        max_transfers=slots * conf.transfers_per_task,
    )
    return abs(workload.num_photos / said.seconds / rate - 1)


def targets(groups: list[Rounds], parts: Rounds, difference: float, photos: Photos) -> list[Target]:
    """What must hold."""
    over_http, over_https, five, _ = groups
    error = partial(forecast_error, photos=photos, core_speed=core_speed(photos, parts))
    one = one_crop(NUM_PHOTOS)
    one_error = error(over_https.median(CROPLAKE), one, answer_s=_ANSWER_S)
    slow_error = error(over_http.median(DELAYED), one, answer_s=_DELAYED_ANSWER_S)
    five_error = error(five.median(CROPLAKE), five_crops(NUM_PHOTOS), answer_s=_ANSWER_S)
    other = "img2dataset, Python {}"
    return [
        Target("http ÷ img2dataset", over_http.ratio(CROPLAKE, other.format("3.11")), "≥", 1.4),
        Target(
            "https ÷ img2dataset on Python 3.12",
            over_https.ratio(CROPLAKE, other.format("3.12")),
            "≥",
            2.0,
        ),
        Target("five crops, https ÷ lean pipeline", five.ratio(CROPLAKE, LEAN), "≥", 0.9),
        Target("+100 ms an answer ÷ without", over_http.ratio(DELAYED, CROPLAKE), "≥", 0.95),
        Target("mean difference to LANCZOS, of 255", difference, "≤", 2.2),
        Target("plan-fetch's forecast is off by, one crop", one_error, "≤", 0.15),
        Target("plan-fetch's forecast is off by, +100 ms an answer", slow_error, "≤", 0.15),
        Target("plan-fetch's forecast is off by, five crops", five_error, "≤", 0.15),
    ]


def notes(photos: Photos, parts: Rounds) -> list[str]:
    """What a reader of the figures has to know."""
    return [
        f"{NUM_PHOTOS:,} addresses of 400 distinct 1024×768 photos, {photos.mean_bytes / 1000:.0f} "
        f"KB on average, from nginx (2 workers) on the same cores, keep-alive, a P-256 certificate "
        f"beside this machine's own authorities. img2dataset: Parquet, `keep_ratio_largest` to 256 "
        f"px, quality {lean.JPEG_QUALITY} (4:2:0, croplake's are 4:4:4), {PROCESSES} processes × "
        f"{THREADS} threads, one shard a process, SHA-256 on as in croplake, EXIF off; its time is "
        "that of its own statistics, first shard's start to last shard's end. croplake's time is "
        "from its first chunk's start to its last Delta commit, with the host's budget that the "
        "settings ship for the mirror; the line below includes planning and summary, a few seconds "
        "whatever the number of photos, as img2dataset's would the sharding of its list. "
        "Ratios are of medians.",
        "plan-fetch's forecast is that of `croplake.fetching.forecast` for these photos, boxes and "
        f"2 ms (or 100 ms) an answer, with `plan.core_speed: {core_speed(photos, parts):.2f}`, "
        "which is this machine's: what decoding takes by the model's constants ÷ what it takes in "
        "the table of parts.",
        "Why five crops stay behind the yardstick: the table of core time says how much of it the "
        "JVM has (Arrow from the workers, Parquet, Delta's commit, compiling in a short run) and "
        "how much the workers, who do what the yardstick does and also SHA-256, dHash, pacing and "
        "a full row of provenance a crop; the rest is start, end and waiting. What bounds https is "
        "decoding at full size by libjpeg-turbo, see the table of parts: the yardstick, which "
        "decodes alike and has no rules at all, is the most that is to be had.",
    ]


def _name(other: Img2dataset) -> str:
    return f"img2dataset, Python {other.python_version}"


def main() -> None:
    """Measures in turns and publishes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    photos = build_photos(FOLDER / "photos")
    candidates = [Img2dataset(version, FOLDER.resolve()) for version in ("3.11", "3.12")]
    others = [other for other in candidates if other.install()]
    workers = len(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(dir=FOLDER) as folder,
        serving(photos.folder, HOST, workers=workers) as server,
        spark_session("bench", SparkConf()) as spark,
    ):
        for workload in (one_crop(NUM_PHOTOS), five_crops(NUM_PHOTOS)):
            warm_up(spark, workload, server, "https")
        groups = measure(Contest(spark, server, Path(folder)), others)
    differences = Rounds("of 255", title="mean absolute difference to full decode and LANCZOS")
    for name, workload in (("one crop", one_crop(1)), ("five crops", five_crops(1))):
        differences.record(name, mean_difference(photos.folder, workload))
    worst = max(differences.median(name) for name in differences.by_name)
    parts = parts_of_a_photo(photos.folder)
    versions = {"nginx": nginx.version()}
    for other in others:
        versions |= other.versions()
    publish(
        "fetch",
        [*groups, parts, differences],
        targets(groups, parts, worst, photos),
        PACKAGES,
        versions=versions,
        notes=notes(photos, parts),
    )


if __name__ == "__main__":
    main()
