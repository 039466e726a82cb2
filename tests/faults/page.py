"""The fault cases as Markdown: what is promised of each, and what came of it in a run.

`make faults` writes both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from croplake import tables as t
from tests.faults.case import PHOTO_TIMEOUT_S, Case
from tests.faults.cases import CASES, SECTIONS
from tests.faults.running import Outcome

PROMISES: Final = Path(__file__).parent / "README.md"
BUILD: Final = Path(__file__).parents[2] / "build"
_LONGEST_DETAIL: Final = 120

_INTRO: Final = f"""\
# Faults of photos' hosts

Generated from `tests/faults/cases.py` by `make faults`; do not edit.

{len(CASES)} photos whose hosts misbehave, each in its own way, on loopback, a few sound ones among
them. `test_faults.py` has all of them in one partition at once, `test_faults_job.py` in one run of
`fetch_crops`. Every photo ends with the status below on all its boxes, within its own time
({PHOTO_TIMEOUT_S:g} s here, `fetch.photo_timeout_s` in the settings); none hangs, none fails a
task, none loses a row. [OUTCOMES.md](OUTCOMES.md) says what came of them in a run, with times;
`make faults` writes it anew.

"Requests" is what the photo's hosts see: what may pass is tried once more in the same run.
"Detail" is a piece of what the `detail` column says.
"""


def promises_page() -> str:
    """What is promised of each case."""
    parts = [_INTRO]
    for title, cases in SECTIONS.items():
        header = ("case", "its host …", "status", "HTTP", "requests", "detail")
        rows = [
            (
                f"`{case.name}`",
                case.does,
                f"`{case.status}`" + (f" by {case.source}" if case.source != "original" else ""),
                str(case.http_status or ""),
                "" if case.num_requests is None else str(case.num_requests),
                case.detail,
            )
            for case in cases
        ]
        parts += [f"\n## {title}\n", _table(header, rows)]
    return "\n".join(parts) + "\n"


def outcomes_page(title: str, outcomes: dict[str, Outcome], cases: Iterable[Case] = CASES) -> str:
    """What came of each case."""
    header = ("case", "its host …", "status", "detail", "seconds")
    rows = []
    for case in cases:
        outcome = outcomes[case.name]
        if not outcome.rows:
            rows.append((f"`{case.name}`", case.does, "**no row**", "", ""))
            continue
        row = outcome.row
        detail = str(row[t.DETAIL] or f"{row[t.SOURCE]}, {row[t.HTTP_STATUS] or 'no HTTP'}")
        if len(detail) > _LONGEST_DETAIL:
            detail = detail[:_LONGEST_DETAIL] + "…"
        seconds = f"{max(0.0, outcome.seconds):.2f}"
        rows.append((f"`{case.name}`", case.does, f"`{row[t.STATUS]}`", detail, seconds))
    return f"# {title}\n\n{_table(header, rows)}\n"


def write_outcomes(name: str, title: str, outcomes: dict[str, Outcome]) -> None:
    """Writes a page of outcomes below `build/`."""
    BUILD.mkdir(exist_ok=True)
    (BUILD / name).write_text(outcomes_page(title, outcomes), encoding="utf-8")


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(promises_page())
