"""Lines of the table: figures of each subject by round, the ratio the budget speaks of, and whether it is met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.relay.subject import ATRIUM, DIRECT, LITELLM, NGINX

Figures = Mapping[str, Sequence[float]]
"""By subject, one figure per round."""
SUBJECTS = (DIRECT, NGINX, LITELLM, ATRIUM)


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound on a ratio or, where there is nothing to compare with, on the figure."""

    sign: str
    bound: float
    unit: str = ""

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.sign == "≥" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Ratio:
    value: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        spread = "" if self.lowest == self.highest else f" ({self.lowest:.3g}–{self.highest:.3g})"
        return f"{self.value:.3g}{spread}"


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    unit: str
    figures: Figures
    budget: Budget | None = None
    ratio: Ratio | None = None

    def is_met(self) -> bool | None:
        """None where no budget stands, or what it speaks of was not measured."""
        ours = self.figures.get(ATRIUM)
        if not self.budget or not ours:
            return None
        if self.ratio:
            return self.budget.is_met(self.ratio.value)
        return self.budget.is_met(statistics.median(ours)) if self.budget.unit else None


def by_round(figures: Figures, against: str) -> Ratio | None:
    """Atrium's figure over another's of the same round: what slowed the machine then slowed both."""
    ours, theirs = figures.get(ATRIUM), figures.get(against)
    if not ours or not theirs:
        return None
    ratios = [o / t for o, t in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def of_medians(figures: Figures, against: str, *, resolution: float) -> Ratio | None:
    """For differences close to nothing: one below the resolution counts as the resolution."""
    ours, theirs = figures.get(ATRIUM), figures.get(against)
    if not ours or not theirs:
        return None
    value = max(statistics.median(ours), resolution) / max(statistics.median(theirs), resolution)
    return Ratio(value, value, value)


def shown(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.4g}"


def table_of(rows: Sequence[Row]) -> Table:
    table = Table("what", "unit", *SUBJECTS, "ratio", "budget", "met")
    for row in rows:
        cells = [shown(statistics.median(row.figures[s])) if row.figures.get(s) else "" for s in SUBJECTS]
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.is_met()]
        table.add_row(row.what, row.unit, *cells, str(row.ratio or ""), str(row.budget or ""), met)
    return table
