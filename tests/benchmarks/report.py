"""What every benchmark prints and writes: medians with their spread, and which targets hold."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from rich.console import Console
from rich.table import Table

FOLDER = Path("build/bench")
README = Path(__file__).with_name("README.md")
QUICK: Final = os.environ.get("BENCH_QUICK") == "1"
"""A run that tries the benchmark itself: one short round, nothing written into the README."""
_SHORT_ROUND_S: Final = 60.0


@dataclass(frozen=True)
class Target:
    """A figure that must be at least, or at most, a limit; None could not be measured here."""

    name: str
    value: float | None
    sign: Literal["≥", "≤"]
    limit: float

    @property
    def holds(self) -> bool | None:
        """Whether it does; None where it could not be measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.sign == "≥" else self.value <= self.limit

    def as_json(self) -> dict[str, Any]:
        """As `build/bench/NAME.json` has it."""
        return {
            "name": self.name,
            "value": "not measured" if self.value is None else round(self.value, 4),
            "target": f"{self.sign} {self.limit:g}",
            "holds": self.holds,
        }

    @property
    def verdict(self) -> str:
        """In words."""
        return {None: "not measured", True: "holds", False: "MISSED"}[self.holds]


@dataclass
class Rounds:
    """Figures of several contestants, measured in turns.

    Attributes:
        unit: of every figure.
        by_name: contestant to its figure in each round.
        title: what they did.
    """

    unit: str
    by_name: dict[str, list[float]] = field(default_factory=dict)
    title: str = ""

    def measure(
        self, contestants: Mapping[str, Callable[[], float]], num_rounds: int | None = None
    ) -> None:
        """Runs all of them once a round, so that what slows the machine slows each.

        Args:
            contestants: name to what measures it.
            num_rounds: None is five where a round takes less than a minute, else three.
        """
        started = time.monotonic()
        self._measure_once(contestants)
        if num_rounds is None:
            num_rounds = 5 if time.monotonic() - started < _SHORT_ROUND_S else 3
        for _ in range(0 if QUICK else num_rounds - 1):
            self._measure_once(contestants)

    def record(self, name: str, figure: float) -> None:
        """Adds a figure."""
        self.by_name.setdefault(name, []).append(figure)

    def median(self, name: str) -> float:
        """The contestant's median."""
        return median(self.by_name[name])

    def ratio(self, name: str, other: str) -> float | None:
        """One contestant's median over another's; None where one was not measured."""
        if name not in self.by_name or other not in self.by_name:
            return None
        return self.median(name) / self.median(other)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Contestant, median, least and most, for people."""
        return [
            (name, _number(median(figures)), _number(min(figures)), _number(max(figures)))
            for name, figures in self.by_name.items()
        ]

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.title else self.unit

    def _measure_once(self, contestants: Mapping[str, Callable[[], float]]) -> None:
        for name, run in contestants.items():
            self.record(name, run())
            print(f"  {self.heading}: {name}: {self.by_name[name][-1]:,.1f}", flush=True)


def publish(
    name: str,
    rounds: Rounds | Sequence[Rounds],
    targets: Sequence[Target],
    packages: Sequence[str],
    *,
    versions: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Prints the tables, writes `build/bench/NAME.json` and the benchmark's part of the README.

    Args:
        name: of the benchmark.
        rounds: what was measured.
        targets: what must hold.
        packages: installed here, whose versions are told.
        versions: of what else takes part.
        notes: paragraphs and pictures (Markdown) under the README's tables.
    """
    groups = [rounds] if isinstance(rounds, Rounds) else list(rounds)
    console = Console()
    for group in groups:
        console.print(_table(name, group))
    for target in targets:
        found = target.as_json()
        console.print(f"{found['name']}: {found['value']} ({found['target']}) {target.verdict}")
    told = _machine() | {package: version(package) for package in packages} | dict(versions or {})
    content = {
        "targets": [target.as_json() for target in targets],
        "figures": {group.heading: group.by_name for group in groups},
        "versions": told,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-quick" if QUICK else name
    (FOLDER / f"{stem}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    if not QUICK:
        _write_readme(name, _markdown(groups, targets, told, notes))


def _table(name: str, group: Rounds) -> Table:
    table = Table(title=f"bench-{name}: {group.heading}", title_justify="left")
    for column in ("", "median", "least", "most"):
        table.add_column(column, justify="left" if column == "" else "right")
    for row in group.rows():
        table.add_row(*row)
    return table


def _number(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _machine() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0))
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cores": f"{cores} × {models[0] if models else platform.machine()}",
        "python": platform.python_version(),
    }


def _markdown(
    groups: Sequence[Rounds],
    targets: Sequence[Target],
    versions: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    lines: list[str] = []
    if targets:
        lines += ["| target | measured | wanted | |", "|---|--:|--:|---|"]
        for target in targets:
            found = target.as_json()
            lines.append(
                f"| {found['name']} | {found['value']} | {found['target']} | {target.verdict} |"
            )
    for group in groups:
        lines += ["", f"| {group.heading} | median | least | most |", "|---|--:|--:|--:|"]
        lines += [f"| {' | '.join(row)} |" for row in group.rows()]
    for note in notes:
        lines += ["", note]
    told = ", ".join(f"{name} {found}" for name, found in versions.items())
    return "\n".join([*lines, "", f"Measured with: {told}."])


def _write_readme(name: str, section: str) -> None:
    """Puts the section between the benchmark's markers; a new benchmark's goes to the end."""
    begin, end = f"<!-- bench-{name} -->", f"<!-- /bench-{name} -->"
    text = README.read_text(encoding="utf-8")
    if begin not in text:
        text += f"\n## bench-{name}\n\n{begin}\n{end}\n"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    README.write_text(f"{head}{begin}\n{section}\n{end}{tail}", encoding="utf-8")
