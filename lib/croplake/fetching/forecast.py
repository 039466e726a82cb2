"""How long fetching will take and how much comes over the wire: a model of few constants.

A photo costs CPU time for itself, for its bytes (decoding, hashing) and for each of its boxes; its
host answers so many requests a second; tasks keep so many transfers open; the line carries so many
bytes. The slowest of the four decides. The constants are those of `make bench-fetch`, which holds
this model against what it measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from croplake.fetching.pacing import HostBudget

CPU_S_PER_PHOTO: Final = 1.2e-3
"""Transfer over https, address rules, hashes, rows, Spark's and Delta's part; measured."""
CPU_S_PER_BYTE: Final = 9.7e-9
"""Decoding a JPEG at full size; measured: 2.53 ms for 262 KB."""
CPU_S_PER_BOX: Final = 0.45e-3
"""Scaling and encoding a crop of 224 to 256 px; measured."""

MIRROR_PHOTO_BYTES: Final = 322_000
"""A photo of the mirror on average: 561 GB over the 1.74 million of the training subset."""
THUMBNAIL_BYTES: Final = 80_000
"""A Flickr thumbnail of 300,000 pixels; an assumption."""


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Attributes:
        num_bytes: over the wire.
        seconds: of fetching, cutting and committing.
        bound: what decides: `cores`, `host` (what it may be asked), `transfers` (that tasks make)
            or `bandwidth`.
    """

    num_bytes: float
    seconds: float
    bound: str


def forecast(
    *,
    num_photos: int,
    num_online: int,
    num_boxes: int,
    bytes_on_wire: float,
    bytes_decoded: float,
    num_cores: int,
    core_speed: float,
    budget: HostBudget,
    answer_s: float,
    bandwidth_bytes_per_s: float,
    max_transfers: int,
) -> Forecast:
    """Applies the model.

    Args:
        num_photos: to download or to read.
        num_online: of them, those to download.
        num_boxes: to cut out of them.
        bytes_on_wire: to download.
        bytes_decoded: to decode, those of photos at hand too.
        num_cores: that decode and cut.
        core_speed: of each, beside the one that the constants were measured on.
        budget: of the host that has the photos.
        answer_s: what the host takes for an answer, from the request to its last byte.
        bandwidth_bytes_per_s: of the line.
        max_transfers: of all tasks together.
    """
    cpu_s = (
        num_photos * CPU_S_PER_PHOTO + bytes_decoded * CPU_S_PER_BYTE + num_boxes * CPU_S_PER_BOX
    )
    host_per_s = budget.transfers / answer_s
    if budget.rate_per_s is not None:
        host_per_s = min(host_per_s, budget.rate_per_s)
    bounds = {
        "cores": cpu_s / (num_cores * core_speed),
        "host": num_online / host_per_s,
        "transfers": num_online * answer_s / max_transfers,
        "bandwidth": bytes_on_wire / bandwidth_bytes_per_s,
    }
    bound = max(bounds, key=lambda name: bounds[name])
    return Forecast(bytes_on_wire, bounds[bound], bound)
