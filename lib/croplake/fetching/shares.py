"""Shares of the hosts' budgets where nobody else has to be asked for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from croplake.fetching.pacing import HostBudget, Share

ANY_HOST: Final = "*"


@dataclass(frozen=True)
class Budgets:
    """The budget of every host.

    Attributes:
        by_host: registrable domain to its budget; `*` is the one of all others.
    """

    by_host: dict[str, HostBudget]

    def of(self, host: str) -> HostBudget:
        """The budget of one host."""
        return self.by_host.get(host) or self.by_host[ANY_HOST]

    def is_for_all(self, host: str, num_tasks: int) -> bool:
        """Whether a host's budget has a part for each of so many tasks."""
        return self.of(host).transfers >= num_tasks

    def share(self, host: str, num_tasks: int) -> Share:
        """One task's part of a host's budget, where so many tasks run at once.

        A budget below the number of tasks makes fewer parts, of one transfer each: who hands them
        out sees to it that no more tasks than parts have one.
        """
        budget = self.of(host)
        num_parts = max(1, min(num_tasks, budget.transfers))
        rate = None if budget.rate_per_s is None else budget.rate_per_s / num_parts
        return Share(budget.transfers // num_parts, rate)


@dataclass(frozen=True)
class EqualShares:
    """`transfers.Shares` without a driver: every task takes an equal part, whatever others do.

    Attributes:
        budgets: of the hosts.
        num_tasks: that run at once.
    """

    budgets: Budgets
    num_tasks: int = 1

    def want(self, host: str) -> Share:
        """The equal part."""
        return self.budgets.share(host, self.num_tasks)

    def holds(self, host: str) -> bool:
        """Nobody takes it away."""
        return True

    def let_go(self, host: str) -> None:
        """Nobody waits for it."""

    def learned(self, host: str, paused_for_s: float, level: float) -> None:
        """Nobody is told."""
