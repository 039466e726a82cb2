"""What the C library is told so that a worker's memory stays flat."""

from __future__ import annotations

from typing import Final

FLAT_MEMORY: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(256 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(4 * 2**20),
}
"""Environment of a process that streams. glibc gives each thread an arena of its own and raises its
thresholds with what is freed, so that memory freed by one thread is of no use to the others, nor to
the system: over epochs a process grew by half. Other C libraries do not look at these."""
