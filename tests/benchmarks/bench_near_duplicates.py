"""Finding near-duplicates among the looks of a million photos, and of two million.

Looks are drawn: random ones, and among them flat pictures, pairs that look alike, photos whose
hashes are close and whose colours are not, and a crowd that shares one hash.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.conf import NearDuplicatesSpec, SparkConf
from croplake.jobs.near_duplicates import find_groups
from croplake.session import spark_session
from tests.benchmarks.report import FOLDER, QUICK, Rounds, Target, publish

ONCE: Final = 20_000 if QUICK else 1_000_000
SIZES: Final = (ONCE, 2 * ONCE)
WARM_UP: Final = 2_000
PER_FILE: Final = 100_000
TURN: Final = 20
"""Of so many photos one is of each kind; the others are random."""
ORIGINAL, TWIN, STRANGER, CROWD, FLAT = range(5)
"""The twin looks like the original; the stranger only has a hash that is close to it."""
CROWD_EVERY: Final = 25 * TURN
"""One photo in so many is of the crowd."""


def image_id(number: int) -> str:
    """The id of a photo."""
    return f"{number:016x}"


def draw_looks(numbers: range) -> pa.Table:
    """Looks as `croplake.examples.near_duplicates.looks_of` gives them.

    Args:
        numbers: of the photos; the first is divisible by `CROWD_EVERY`.
    """
    rng, num = np.random.default_rng(numbers.start), len(numbers)
    dhash = rng.integers(1 << 64, size=num, dtype=np.uint64)
    colors = rng.integers(256, size=(num, 48), dtype=np.uint8)
    for kind in (TWIN, STRANGER):
        close = dhash[ORIGINAL::TURN][: len(dhash[kind::TURN])]
        dhash[kind::TURN] = close ^ three_bits(rng, len(close))
    colors[TWIN::TURN] = colors[ORIGINAL::TURN][: len(colors[TWIN::TURN])]
    colors[TWIN::TURN, 0] ^= 0x40
    dhash[FLAT::TURN], colors[FLAT::TURN] = 0, 200
    dhash[CROWD::CROWD_EVERY], colors[CROWD::CROWD_EVERY] = 0x0F0F0F0F, np.arange(48)
    return pa.table(
        {
            t.IMAGE_ID: [image_id(number) for number in numbers],
            t.PHOTO_SHA256: [f"{number:064x}" for number in numbers],
            t.PHOTO_DHASH: dhash.view(np.int64),
            t.PHOTO_COLORS: pa.array([look.tobytes() for look in colors], pa.binary()),
            "aspect_ratio": np.full(num, 1.5),
        }
    )


def three_bits(rng: np.random.Generator, num: int) -> NDArray[np.uint64]:
    """Random words with up to three bits set."""
    bits = np.uint64(1) << rng.integers(64, size=(3, num), dtype=np.uint64)
    words: NDArray[np.uint64] = np.bitwise_or.reduce(bits, axis=0)
    return words


def planted_pairs(num_photos: int) -> set[tuple[str, str]]:
    """What looks alike by its drawing: originals and twins, and the crowd with its first."""
    twins = zip(range(ORIGINAL, num_photos, TURN), range(TWIN, num_photos, TURN), strict=False)
    crowd = ((CROWD, number) for number in range(CROWD + CROWD_EVERY, num_photos, CROWD_EVERY))
    return {(image_id(one), image_id(other)) for one, other in [*twins, *crowd]}


def write_looks(folder: Path, num_photos: int) -> Path:
    """Draws looks into Parquet files of one folder."""
    folder.mkdir()
    for start in range(0, num_photos, PER_FILE):
        table = draw_looks(range(start, min(start + PER_FILE, num_photos)))
        pq.write_table(table, folder / f"{start:09}.parquet")
    return folder


class Search:
    """Runs of one size, and what they found.

    Attributes:
        found: share of the planted pairs that were found, in the worst run.
        num_wrong: photos that were joined to what they do not look like, in the worst run.
    """

    def __init__(self, spark: SparkSession, folder: Path, num_photos: int) -> None:
        self._spark, self._folder = spark, write_looks(folder, num_photos)
        self._planted = planted_pairs(num_photos)
        self.found, self.num_wrong = 1.0, 0

    def seconds(self) -> float:
        """Seconds from looks to groups."""
        looks = self._spark.read.parquet(str(self._folder))
        started = time.monotonic()
        groups = find_groups(self._spark, looks, NearDuplicatesSpec()).groups
        seconds = time.monotonic() - started
        met = sum(groups.get(one) == groups.get(other, "") for one, other in self._planted)
        photos = {photo for pair in self._planted for photo in pair}
        # Each planted pair joins one photo to its group's first.
        joined = len(groups) - len(set(groups.values()))
        self.found = min(self.found, met / len(self._planted))
        self.num_wrong = max(self.num_wrong, len(groups.keys() - photos), joined - met)
        return seconds


def main() -> None:
    """Measures and publishes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    rounds = Rounds("s", title="looks to groups")
    names = [f"{num_photos:,} photos" for num_photos in SIZES]
    with (
        tempfile.TemporaryDirectory(dir=FOLDER) as name,
        spark_session("bench near-duplicates", SparkConf()) as spark,
    ):
        folder = Path(name)
        Search(spark, folder / "warm-up", WARM_UP).seconds()
        searches = [Search(spark, folder / str(size), size) for size in SIZES]
        rounds.measure({n: search.seconds for n, search in zip(names, searches, strict=True)})
    publish(
        "near_duplicates",
        rounds,
        [
            Target(
                "time at twice the size ÷ at once the size", rounds.ratio(*names[::-1]), "≤", 2.5
            ),
            Target("planted pairs found, of all", min(one.found for one in searches), "≥", 1),
            Target("photos joined wrongly", max(one.num_wrong for one in searches), "≤", 0),
        ],
        ["pyspark", "pyarrow", "numpy"],
        notes=[
            f"Looks lie in Parquet files. Of {TURN} photos one is flat, one looks like another "
            "(up to 3 bits of the dHash and a little colour apart) and one has a dHash as close "
            f"and other colours; one in {CROWD_EVERY} is of a crowd that looks alike and shares "
            "one dHash. The others' dHashes are random, which those of real photos are not: these "
            "make larger buckets. Time is from reading the looks to the groups on the driver, in a "
            "session that has run before.",
        ],
    )


if __name__ == "__main__":
    main()
