"""`atrium stores`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from atrium.cli.door import Door, door
from atrium.cli.options import AsJson, Config, DataDir, loaded, run
from atrium.cli.printing import print_json, print_table
from atrium.core.errors import AtriumError, NotFound

commands = typer.Typer(no_args_is_help=True, help="Document stores.")
ROOT = "/lollms/v1/rag"
USER = "x-atrium-user"
LONGEST_SHOWN = 300
COLUMNS = ("id", "name", "owner", "permission", "documents", "chunks", "public", "model")
Row = dict[str, Any]
User = Annotated[str, typer.Option("--user", help="The user to act for")]
StoreName = Annotated[str, typer.Argument(metavar="STORE", help="Name or id of a store")]


@commands.command("list")
def list_stores(
    everybody: Annotated[bool, typer.Option("--all", help="Those of all users")] = False,
    user: User = "admin",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show the stores that a user may query."""

    async def work() -> None:
        async with acting(user, data_dir, config) as api:
            rows: list[Row] = (await api.get("/api/admin/stores" if everybody else f"{ROOT}/databases"))["data"]
        if as_json:
            print_json(rows)
            return
        names = ("id", "name", "owner_username", "permission_level", "document_count", "chunk_count", "is_public")
        cells = [tuple(row[name] for name in (*names, "vectorizer")) for row in rows]
        print_table(COLUMNS, cells, "There are no stores.")

    run(work())


@commands.command("create")
def create_store(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique among the user's stores")],
    description: Annotated[str, typer.Option(help="What is in it")] = "",
    model: Annotated[str, typer.Option("--model", help="Embedding model; the default one unless given")] = "",
    public: Annotated[bool, typer.Option("--public", help="All users may query it")] = False,
    user: User = "admin",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Make a store."""

    async def work() -> None:
        async with acting(user, data_dir, config) as api:
            body = {"name": name, "description": description, "vectorizer": model, "is_public": public}
            made = await api.post(f"{ROOT}/databases", body)
        print(f"Store '{made['name']}' was made: {made['id']}")

    run(work())


@commands.command("add")
def add_documents(
    store: StoreName,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files to take in", exists=True)],
    user: User = "admin",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Take files into a store and wait until they are in; fails when one of them is not."""

    async def work() -> list[Row]:
        async with acting(user, data_dir, config) as api:
            path = f"{ROOT}/databases/{await id_of(api, store)}/documents"
            return [row for file in files for row in await sent(api, path, file)]

    rows = run(work())
    if as_json:
        print_json(rows)
    else:
        names = ("filename", "status", "chunks", "error")
        print_table(names, [tuple(row.get(name, "") for name in names) for row in rows], "Nothing was taken in.")
    if any(row["status"] != "indexed" for row in rows):
        raise typer.Exit(1)


@commands.command("query")
def query_store(
    store: StoreName,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for")],
    top: Annotated[int, typer.Option("--top", help="Most passages")] = 5,
    mode: Annotated[str, typer.Option("--mode", help="vector, text or hybrid")] = "hybrid",
    user: User = "admin",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show the passages that fit best."""

    async def work() -> None:
        async with acting(user, data_dir, config) as api:
            body = {"datastore_id": await id_of(api, store), "query": text, "top_k": top, "mode": mode}
            rows: list[Row] = await api.post(f"{ROOT}/query", body)
        if as_json:
            print_json(rows)
            return
        for row in rows:
            page = f", page {row['page']}" if row["page"] else ""
            place = f"{row['start_pos']}-{row['end_pos']}"
            print(f"{row['similarity_percent']:5.1f} %  {row['file_path']}{page}, {place}")
            print(f"  {' '.join(row['chunk_text'].split())[:LONGEST_SHOWN]}\n")
        if not rows:
            print("Nothing fits.")

    run(work())


@asynccontextmanager
async def acting(user: str, data_dir: Path | None, config: Path | None) -> AsyncGenerator[Door]:
    """The server's door, in the name of a user."""
    async with door(loaded(data_dir, config)) as api:
        api.client.headers[USER] = user
        yield api


async def id_of(api: Door, given: str) -> str:
    """Raises NotFound."""
    rows: list[Row] = (await api.get(f"{ROOT}/databases"))["data"]
    fitting = [row for row in rows if given in (row["id"], row["name"])]
    if not fitting:
        raise NotFound(f"There is no store '{given}'", hint="atrium stores list shows them")
    own = [row for row in fitting if row["permission_level"] == "owner"]
    return str((own or fitting)[0]["id"])


async def sent(api: Door, path: str, file: Path) -> list[Row]:
    """One file a request, so that one which cannot be read keeps none of the others out."""
    try:
        with file.open("rb") as opened:
            return (await api.send(path, file.name, opened))["data"]
    except AtriumError as error:
        return [{"filename": file.name, "status": "failed", "chunks": 0, "error": error.message}]
