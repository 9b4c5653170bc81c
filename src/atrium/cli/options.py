"""What every command takes, and how its failures are told."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from atrium.core.errors import AtriumError
from atrium.settings.load import load
from atrium.settings.tree import Loaded
from atrium.settings.units import read_duration

T = TypeVar("T")
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Data folder; default ~/.local/share/atrium")]
Config = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default atrium.yaml in the data folder")
]
Since = Annotated[
    str | None, typer.Option("--since", help="Not before: a date, a moment (UTC unless it says), or so long ago: 12h")
]
Until = Annotated[str | None, typer.Option("--until", help="Before: a date, a moment, or so long ago")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
FAILURE = 1


def loaded(data_dir: Path | None, config: Path | None) -> Loaded:
    """Raises ConfigError."""
    return load(config, data_dir, os.environ)


def fail(error: AtriumError) -> typer.Exit:
    """One sentence on stderr, with what to do next."""
    print(f"atrium: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)
    return typer.Exit(FAILURE)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do it; a failure of our tree becomes a sentence and exit code 1."""
    try:
        return asyncio.run(work)
    except AtriumError as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def moment_of(text: str | None) -> str | None:
    """As the API takes it: a duration becomes the moment so long ago, all else is the API's to judge."""
    if text is None:
        return None
    try:
        return (datetime.now(UTC) - timedelta(seconds=read_duration(text))).isoformat()
    except (ValueError, OverflowError):
        return text


def asked(**query: str | int | None) -> dict[str, str]:
    """A query of what was given."""
    return {name: str(value) for name, value in query.items() if value is not None}
