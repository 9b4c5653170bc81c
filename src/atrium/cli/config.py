"""`atrium config`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import typer

from atrium.cli.door import door
from atrium.cli.options import AsJson, Config, DataDir, fail, loaded, run
from atrium.cli.printing import print_json
from atrium.core.errors import AtriumError, Unavailable
from atrium.decisions.client_address import read_networks
from atrium.settings.describe import describe, json_schema, without_secrets
from atrium.settings.endpoints import read_endpoints
from atrium.settings.tree import Loaded, Settings

commands = typer.Typer(no_args_is_help=True, help="What the server is told to do.")
SECRET = re.compile(r"(?<=://)[^/@]*:[^/@]*(?=@)")


@commands.command("check")
def check_config(data_dir: DataDir = None, config: Config = None) -> None:
    """Read the configuration and say what is wrong with it."""
    read = checked(data_dir, config)
    try:
        read_endpoints(read.settings.endpoints)
        read_networks(read.settings.trusted_proxies)
    except AtriumError as error:
        raise fail(error) from None
    print(f"{read.config or 'The defaults'}: nothing is wrong. Data folder: {read.data_dir}")


@commands.command("show")
def show_config(as_json: AsJson = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Print what is in force, without secrets."""
    values = hidden(without_secrets(checked(data_dir, config).settings))
    if as_json:
        print_json(values)
        return
    for path, value in flat(values):
        print(f"{path}: {value}")


@commands.command("schema")
def show_schema() -> None:
    """Print the configuration's JSON Schema, for editors."""
    print_json(json_schema(Settings))


@commands.command("reload")
def reload_config(data_dir: DataDir = None, config: Config = None) -> None:
    """Have the running server read its configuration again: endpoints, aliases, limits."""

    async def work() -> None:
        async with door(checked(data_dir, config)) as api:
            if not api.live:
                raise Unavailable("No server runs on this data folder", hint="Start one with: atrium serve")
            changes = await api.post("/api/admin/reload", {})
        told = [f"{len(names)} {what}" for what, names in changes.items() if names]
        print(f"Read again. Endpoints: {', '.join(told) or 'as they were'}.")

    run(work())


@commands.command("docs", hidden=True)
def show_docs() -> None:
    """Print docs/configuration.md."""
    print(describe(Settings), end="")


def checked(data_dir: Path | None, config: Path | None) -> Loaded:
    try:
        return loaded(data_dir, config)
    except AtriumError as error:
        raise fail(error) from None


def hidden(value: Any) -> Any:
    """The same values without user names and passwords in addresses."""
    if isinstance(value, dict):
        return {key: hidden(inner) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [hidden(inner) for inner in cast("list[Any]", value)]
    return SECRET.sub("…", value) if isinstance(value, str) else value


def flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        inside = cast("dict[str, Any]", value)
        return [pair for key, inner in inside.items() for pair in flat(inner, f"{path}.{key}" if path else key)]
    return [(path, "null" if value is None else value)]
