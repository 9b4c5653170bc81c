"""`atrium stores`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from atrium.cli.door import Door, door
from atrium.cli.options import AsJson, Config, DataDir, loaded, run
from atrium.cli.printing import print_json, print_table, size
from atrium.core.documents import Permission as Access
from atrium.core.errors import AtriumError, InvalidValue, NotFound
from atrium.decisions.name_store import Label, name_store

commands = typer.Typer(no_args_is_help=True, help="Document stores.")
ROOT = "/lollms/v1/rag"
USER = "x-atrium-user"
LONGEST_SHOWN = 300
COLUMNS = ("id", "name", "owner", "permission", "documents", "chunks", "public", "model")
Row = dict[str, Any]
User = Annotated[str, typer.Option("--user", help="The user to act for")]
StoreName = Annotated[str, typer.Argument(metavar="STORE", help="Name or id of a store")]
Reader = Annotated[str, typer.Argument(metavar="NAME", help="The other user's name")]


class Mode(Enum):
    VECTOR = "vector"
    TEXT = "text"
    HYBRID = "hybrid"


class Permission(Enum):
    QUERY = "read_query"
    WRITE = "read_write"
    REVECTORIZE = "revectorize"


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
        names = ("id", "name", "owner_username", "permission_level", "document_count", "chunk_count")
        cells = [
            (*(row[name] for name in names), "yes" if row["is_public"] else "no", row["vectorizer"]) for row in rows
        ]
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
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Files to take in", exists=True, dir_okay=False, readable=True),
    ],
    user: User = "admin",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Take files into a store and wait until they are in; fails when one of them is not."""

    async def work() -> list[Row]:
        check_names(files)
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
    mode: Annotated[Mode, typer.Option("--mode", help="By meaning, by words, or by both")] = Mode.HYBRID,
    user: User = "admin",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show the passages that fit best."""

    async def work() -> None:
        async with acting(user, data_dir, config) as api:
            body = {"datastore_id": await id_of(api, store), "query": text, "top_k": top, "mode": mode.value}
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


@commands.command("documents")
def list_documents(
    store: StoreName, user: User = "admin", as_json: AsJson = False, data_dir: DataDir = None, config: Config = None
) -> None:
    """Show what is in a store, and what could not be taken in."""

    async def work() -> None:
        async with acting(user, data_dir, config) as api:
            rows: list[Row] = (await api.get(f"{ROOT}/databases/{await id_of(api, store)}/documents"))["data"]
        if as_json:
            print_json(rows)
            return
        cells = [
            (row["filename"], row["status"], size(row["bytes"]), row["chunks"], row.get("error", "")) for row in rows
        ]
        print_table(("filename", "status", "size", "chunks", "error"), cells, "There are no documents.")

    run(work())


@commands.command("remove")
def remove_document(
    store: StoreName,
    document: Annotated[str, typer.Argument(metavar="FILENAME", help="Its name or id: atrium stores documents")],
    user: User = "admin",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Take a document out of a store, at once."""

    async def work() -> None:
        async with acting(user, data_dir, config) as api:
            path = f"{ROOT}/databases/{await id_of(api, store)}/documents/{quote(document, safe='')}"
            await api.delete(path)
        print(f"'{document}' was removed.")

    run(work())


@commands.command("delete")
def delete_store(store: StoreName, user: User = "admin", data_dir: DataDir = None, config: Config = None) -> None:
    """Delete a store with all that is in it."""

    async def work() -> None:
        async with acting(user, data_dir, config) as api:
            await api.delete(f"{ROOT}/databases/{await id_of(api, store)}")
        print(f"Store '{store}' was deleted.")

    run(work())


@commands.command("share")
def share_store(
    store: StoreName,
    reader: Reader,
    permission: Annotated[Permission, typer.Option("--permission", help="What they may do")] = Permission.QUERY,
    user: User = "admin",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Let another user query a store, or more; the same again changes it."""

    async def work() -> None:
        async with acting(user, data_dir, config) as api:
            body = {"target_username": reader, "permission_level": permission.value}
            shared = await api.post(f"{ROOT}/databases/{await id_of(api, store)}/share", body)
        print(f"Store '{store}' is shared with {shared['username']}: {shared['permission_level']}.")

    run(work())


@commands.command("unshare")
def unshare_store(
    store: StoreName, reader: Reader, user: User = "admin", data_dir: DataDir = None, config: Config = None
) -> None:
    """Take a share back, at once."""

    async def work() -> None:
        async with acting(user, data_dir, config) as api:
            await api.delete(f"{ROOT}/databases/{await id_of(api, store)}/share/{quote(reader, safe='')}")
        print(f"Store '{store}' is no longer shared with {reader}.")

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
    try:
        return str(name_store(given, rows, label)["id"])
    except NotFound as missing:
        whose = api.client.headers[USER]
        raise NotFound(
            f"{missing.message} that {whose} may query",
            hint=f"atrium stores list --user {whose} shows those there are; --user NAME acts for another user",
        ) from None


def label(row: Row) -> Label:
    return Label(row["id"], row["name"], row["owner_username"], Access(row["permission_level"]))


def check_names(files: Sequence[Path]) -> None:
    """A document is known by its file's name, so of two that share one the first would be lost in silence."""
    twice = [name for name, times in Counter(file.name for file in files).items() if times > 1]
    if twice:
        raise InvalidValue(
            f"{len(twice)} names stand for several files: {', '.join(twice[:5])}",
            hint="The same name again replaces a document; rename the files, or put them into stores of their own",
        )


async def sent(api: Door, path: str, file: Path) -> list[Row]:
    """One file a request, so that one which cannot be read keeps none of the others out."""
    try:
        with file.open("rb") as opened:
            return (await api.send(path, file.name, opened))["data"]
    except AtriumError as error:
        return [{"filename": file.name, "status": "failed", "chunks": 0, "error": error.message}]
