"""What every benchmark prints and writes: medians with their spread, and which targets hold."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

FOLDER = Path("build/bench")


@dataclass(frozen=True)
class Target:
    """A figure that must be at least, or at most, a limit."""

    name: str
    value: float
    sign: Literal["≥", "≤"]
    limit: float

    def as_json(self) -> dict[str, Any]:
        """As `build/bench/NAME.json` has it."""
        holds = self.value >= self.limit if self.sign == "≥" else self.value <= self.limit
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "target": f"{self.sign} {self.limit:g}",
            "holds": holds,
        }


@dataclass
class Rounds:
    """Figures of several contestants, measured in turns.

    Attributes:
        unit: of every figure.
        by_name: contestant to its figure in each round.
    """

    unit: str
    by_name: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, contestants: Mapping[str, Callable[[], float]], num_rounds: int) -> None:
        """Runs all of them once a round, so that what slows the machine slows each."""
        for _ in range(num_rounds):
            for name, run in contestants.items():
                self.by_name.setdefault(name, []).append(run())

    def median(self, name: str) -> float:
        """The contestant's median."""
        return median(self.by_name[name])


def publish(name: str, rounds: Rounds, targets: Sequence[Target], packages: Sequence[str]) -> None:
    """Prints the table and writes `build/bench/NAME.json`."""
    table = Table(title=f"bench-{name}: {rounds.unit}", title_justify="left")
    for column in ("", "median", "least", "most"):
        table.add_column(column, justify="left" if column == "" else "right")
    for contestant, figures in rounds.by_name.items():
        numbers = (median(figures), min(figures), max(figures))
        table.add_row(contestant, *(f"{number:,.1f}" for number in numbers))
    console = Console()
    console.print(table)
    found = [target.as_json() for target in targets]
    for target in found:
        holds = "holds" if target["holds"] else "MISSED"
        console.print(f"{target['name']}: {target['value']} ({target['target']}) {holds}")
    content = {
        "targets": found,
        "figures": {rounds.unit: rounds.by_name},
        "versions": {package: version(package) for package in packages}
        | {"python": platform.python_version()},
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
