"""`python -m bench [--short]`: local models beside the engine itself, installed into a folder of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench.local import Row, rows_of
from bench.scheduling import scheduling_rows
from bench.served import run, served

MIB = 1024 * 1024


def start_rows(data_dir: Path, rounds: int) -> list[tuple[str, str, str]]:
    """Seconds to healthy and resident memory of the gateway without models."""
    times: list[float] = []
    sizes: list[float] = []
    for _ in range(rounds):
        with served(data_dir) as server:
            times.append(server.healthy_after)
            sizes.append(psutil.Process(server.process.pid).memory_info().rss / MIB)
    return [
        ("healthy after exec", f"{statistics.median(times):.2f} s", "≤ 1.5 s"),
        ("gateway without models", f"{max(sizes):.0f} MiB", "≤ 150 MiB"),
    ]


def shown(rows: list[Row], starts: list[tuple[str, str, str]]) -> Table:
    table = Table("what", "Atrium", "engine itself", "ratio", "budget")
    for row in rows:
        ratio = f"{row.ours - row.theirs:+.1f} ms" if row.unit == "ms" else f"{row.ratio:.3f}"
        table.add_row(row.what, f"{row.ours:.1f} {row.unit}", f"{row.theirs:.1f} {row.unit}", ratio, row.budget)
    for what, figure, budget in starts:
        table.add_row(what, figure, "", "", budget)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Speed and memory as ratios, side by side in one run.")
    parser.add_argument("--short", action="store_true", help="fewer rounds: a look for regressions")
    parser.add_argument("--data-dir", type=Path, help="a folder with the default models; otherwise they are installed")
    options = parser.parse_args()
    rounds, tokens = (3, 64) if options.short else (9, 192)
    with tempfile.TemporaryDirectory() as folder:
        data_dir: Path = options.data_dir or Path(folder) / "data"
        if not options.data_dir:
            run(data_dir, "models", "install", "--defaults")
        with served(data_dir) as server:
            rows = asyncio.run(rows_of(server, rounds=rounds, tokens=tokens))
        rows += scheduling_rows(rounds)
        starts = start_rows(data_dir, rounds)
    console = Console()
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {rounds} rounds")
    console.print(shown(rows, starts))


if __name__ == "__main__":
    main()
