"""`python -m bench.stores [--data-dir FOLDER] [pdf|search|pgvector|ingest|quality …]`: all unless some are named."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.served import run
from bench.stores.filling import ingest_rows
from bench.stores.finding import Rows, file_rows, pgvector_rows
from bench.stores.quality import quality_rows
from bench.stores.reading import pdf_rows

TABLES: dict[str, Callable[[Path], Rows]] = {
    "pdf": lambda folder: asyncio.run(pdf_rows(folder)),
    "search": lambda folder: asyncio.run(file_rows(folder)),
    "pgvector": lambda folder: asyncio.run(pgvector_rows(folder)),
    "ingest": lambda folder: asyncio.run(ingest_rows(folder)),
    "quality": lambda folder: asyncio.run(quality_rows(folder)),
}
WITH_MODELS = frozenset({"ingest", "quality"})


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.stores")
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="some of the tables")
    parser.add_argument("--data-dir", type=Path, help="a folder with the default models; otherwise they are installed")
    options = parser.parse_args()
    chosen: list[str] = options.tables or [*TABLES]
    with tempfile.TemporaryDirectory() as scratch:
        data_dir: Path = options.data_dir or Path(scratch) / "data"
        if not options.data_dir and WITH_MODELS & set(chosen):
            run(data_dir, "models", "install", "--defaults")
        for name in chosen:
            folder = data_dir if name in WITH_MODELS else Path(scratch)
            table = Table("what", "figure", "budget", title=name)
            for row in TABLES[name](folder):
                table.add_row(*row)
            Console().print(table)


if __name__ == "__main__":
    main()
