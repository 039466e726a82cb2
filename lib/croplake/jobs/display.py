"""How far fetching is: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from croplake.tables import STATUS_OK

_LINE_EVERY_S: Final = 5.0


class FetchDisplay:
    """Adds up what executors report and shows it."""

    def __init__(self, console: Console, num_photos: int, progress: Progress | None) -> None:
        self._console = console
        self._num_photos = num_photos
        self._progress = progress
        self._task = progress.add_task("photos", total=num_photos, note="") if progress else None
        self._started = self._printed = time.monotonic()
        self._photos = 0
        self._statuses: Counter[str] = Counter()

    def add(self, photos: int, statuses: Counter[str]) -> None:
        """Further photos are done; their boxes ended in these statuses."""
        self._photos += photos
        self._statuses += statuses
        rate = self._photos / max(time.monotonic() - self._started, 1e-9)
        failures = Counter({k: n for k, n in self._statuses.items() if k != STATUS_OK})
        note = f"{rate:.0f}/s" + "".join(f" · {k} {n}" for k, n in failures.most_common(4))
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._photos, note=note)
        elif time.monotonic() - self._printed >= _LINE_EVERY_S:
            self._printed = time.monotonic()
            eta_s = (self._num_photos - self._photos) / max(rate, 1e-9)
            done = f"{self._photos:,} of {self._num_photos:,} photos"
            text = f"{done} · {note} · {eta_s:.0f} s left"
            self._console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def fetch_display(console: Console, num_photos: int) -> Iterator[FetchDisplay]:
    """Shows progress while it is open; on a terminal the bar goes when it closes."""
    if not console.is_terminal:
        yield FetchDisplay(console, num_photos, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield FetchDisplay(console, num_photos, progress)
