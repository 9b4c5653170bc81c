"""`atrium endpoints`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from atrium.cli.door import door
from atrium.cli.options import AsJson, Config, DataDir, loaded, run
from atrium.cli.printing import print_json, print_table

commands = typer.Typer(no_args_is_help=True, help="Servers that requests are relayed to.")
COLUMNS = (
    "name",
    "type",
    "url",
    "status",
    "priority",
    "models",
    "in flight",
    "requests",
    "success",
    "circuit",
    "issues",
)
REFRESH = 1.0
Row = dict[str, Any]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The endpoint's name")]


def cells(row: Row) -> tuple[object, ...]:
    names = ("name", "type", "url", "status", "priority", "model_count", "active_connections", "request_count")
    return tuple(row[name] for name in (*names, "success_rate", "circuit", "issues"))


@commands.command("list")
def list_endpoints(
    live: Annotated[bool, typer.Option("--live", help="Go on showing them until Ctrl-C")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show endpoints and how they do."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            if live:
                with Live(console=Console(), refresh_per_second=4) as shown:
                    while True:
                        table = Table(*COLUMNS, box=None, pad_edge=False)
                        for row in await api.get("/api/admin/endpoints"):
                            table.add_row(*(str(cell) for cell in cells(row)))
                        shown.update(table)
                        await asyncio.sleep(REFRESH)
            rows: list[Row] = await api.get("/api/admin/endpoints")
        if as_json:
            print_json(rows)
        else:
            print_table(COLUMNS, [cells(row) for row in rows], "There are no endpoints.")

    run(work())


@commands.command("add")
def add_endpoint(
    url: Annotated[str, typer.Argument(metavar="URL", help="http://host:port")],
    name: Annotated[str, typer.Option(help="A name of its own; host:port unless given")] = "",
    kind: Annotated[str, typer.Option("--type", help="ollama, lmstudio, vllm, openai, …")] = "openai",
    priority: Annotated[int, typer.Option(help="Higher first")] = 100,
    api_key: Annotated[str | None, typer.Option(help="Sent as its bearer token", envvar="ATRIUM_ENDPOINT_KEY")] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Add an endpoint; it is checked, used at once, and remembered."""

    async def work() -> None:
        given = {"url": url, "name": name, "type": kind, "priority": priority, "api_key": api_key}
        async with door(loaded(data_dir, config)) as api:
            added = await api.post("/api/admin/endpoints", given)
        print(f"Endpoint '{added['name']}' was added: {added['status']}, {added['model_count']} models.")

    run(work())


@commands.command("remove")
def remove_endpoint(name: Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Forget an endpoint that was added; answers under way go on to their end."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            await api.delete(f"/api/admin/endpoints/{name}")
        print(f"Endpoint '{name}' was removed.")

    run(work())


@commands.command("check")
def check_endpoints(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of them; all unless given")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Probe endpoints now; fails when one is not up."""

    async def work() -> list[Row]:
        async with door(loaded(data_dir, config)) as api:
            names = [name] if name else [row["name"] for row in await api.get("/api/admin/endpoints")]
            return [await api.post(f"/api/admin/endpoints/{one}/check", {}) for one in names]

    rows = run(work())
    if as_json:
        print_json(rows)
    else:
        print_table(COLUMNS, [cells(row) for row in rows], "There are no endpoints.")
    if any(row["status"] not in ("healthy", "busy") for row in rows):
        raise typer.Exit(1)
