"""How far installations are: bars on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from atrium.core.models import Installing

TENTHS = 10


@dataclass(slots=True)
class ProgressView:
    """Shown the installations again and again, it prints what is new. `rich` bars only where there is a terminal."""

    terminal: bool = field(default_factory=sys.stderr.isatty)
    bars: Progress = field(
        default_factory=lambda: Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=Console(stderr=True),
            transient=True,
        )
    )
    rows: dict[str, TaskID] = field(default_factory=dict[str, TaskID])
    told: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])

    def __enter__(self) -> Self:
        if self.terminal:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.terminal:
            self.bars.stop()

    def show(self, states: Iterable[Installing]) -> None:
        present = {state.name: state for state in states}
        for state in present.values():
            (self._draw if self.terminal else self._tell)(state)
        for name in [name for name in self.told if name not in present]:
            del self.told[name]
            print(f"{name}: installed", file=sys.stderr)
        for name in [name for name in self.rows if name not in present]:
            self.bars.remove_task(self.rows.pop(name))
            self.bars.console.print(f"{name}: installed")

    def _draw(self, state: Installing) -> None:
        text = f"{state.name}: {state.stage}"
        if state.name not in self.rows:
            self.rows[state.name] = self.bars.add_task(text, total=state.total or None)
        self.bars.update(self.rows[state.name], description=text, completed=state.done, total=state.total or None)

    def _tell(self, state: Installing) -> None:
        tenth = TENTHS * state.done // state.total if state.total else 0
        if self.told.get(state.name) == (state.stage, tenth):
            return
        self.told[state.name] = (state.stage, tenth)
        share = f" {tenth * TENTHS} %" if state.total else ""
        print(f"{state.name}: {state.stage}{share}", file=sys.stderr, flush=True)
