"""What glibc is told so that a worker's memory stays flat; other C libraries are left alone."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

FLAT_MEMORY: Final = {"MALLOC_ARENA_MAX": "1"}
"""Environment of a process that streams. glibc gives each thread an arena of its own, so that what
one thread frees is of no use to the others: without this, memory grew over the epochs."""

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Their numbers in glibc's malloc.h."""
_KEPT_BYTES: Final = 64 * 2**20
_MAPPED_BYTES: Final = 4 * 2**20


@cache
def keep_freed_memory() -> None:
    """Keeps some freed memory for the next picture, and gives whole batches back at once.

    TensorFlow's generator datasets set the first threshold to 128 KiB, which also stops glibc from
    raising the second: from then on every decoded picture is new memory, a page fault for each 4 KB
    of it. So this is called when the generator runs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)
