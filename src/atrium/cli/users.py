"""`atrium users`."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from atrium.cli.door import Door, door
from atrium.cli.options import AsJson, Config, DataDir, loaded, run
from atrium.cli.printing import moment, print_json, print_table
from atrium.core.errors import InvalidValue, NotFound

STDIN = "-"
commands = typer.Typer(no_args_is_help=True, help="Who may use the server.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name")]
Password = Annotated[str | None, typer.Option("--password", help="The password; - asks for it or reads a pipe")]


@commands.command("list")
def list_users(as_json: AsJson = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show all users."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            users = await api.get("/api/admin/users")
        if as_json:
            print_json(users)
            return
        rows = [(u["id"], u["username"], rights(u), moment(u["created_at"])) for u in users]
        print_table(("id", "name", "rights", "created"), rows, "There are no users.")

    run(work())


@commands.command("create")
def create_user(
    name: Name,
    password: Password = None,
    admin: Annotated[bool, typer.Option("--admin", help="May change users, models and settings")] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Add a user. Without a password they can only use API keys."""

    async def work() -> None:
        body = {"username": name, "password": typed(password) if password else None, "is_admin": admin}
        async with door(loaded(data_dir, config)) as api:
            await api.post("/api/admin/users", body)
        print(f"User {name} was created.")

    run(work())


@commands.command("password")
def set_password(name: Name, password: Password = None, data_dir: DataDir = None, config: Config = None) -> None:
    """Set a user's password; asks for it on a terminal."""

    async def work() -> None:
        new = typed(password)
        async with door(loaded(data_dir, config)) as api:
            user = await found(api, name)
            await api.put(f"/api/admin/users/{user['id']}", {"password": new})
        print(f"The password of {name} was set.")

    run(work())


@commands.command("delete")
def delete_user(name: Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Remove a user and all of their keys, at once."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            user = await found(api, name)
            await api.delete(f"/api/admin/users/{user['id']}")
        print(f"User {name} was deleted.")

    run(work())


@commands.command("promote")
def promote_user(name: Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Make a user an administrator."""
    change_rights(name, {"is_admin": True}, data_dir, config)


@commands.command("demote")
def demote_user(name: Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Make an administrator an ordinary user; the last active one stays."""
    change_rights(name, {"is_admin": False}, data_dir, config)


@commands.command("activate")
def activate_user(name: Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Let a user in again; keys work as before, sessions begin anew."""
    change_rights(name, {"is_active": True}, data_dir, config)


@commands.command("deactivate")
def deactivate_user(name: Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Keep a user out, at once: keys are refused and sessions end, but nothing is lost."""
    change_rights(name, {"is_active": False}, data_dir, config)


def change_rights(name: str, given: dict[str, bool], data_dir: Path | None, config: Path | None) -> None:
    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            user = await found(api, name)
            changed = await api.put(f"/api/admin/users/{user['id']}", given)
        print(f"User {changed['username']}: {rights(changed)}.")

    run(work())


async def found(api: Door, name: str) -> dict[str, Any]:
    """Raises NotFound."""
    for user in await api.get("/api/admin/users"):
        if user["username"].casefold() == name.casefold():
            return user
    raise NotFound(f"There is no user '{name}'", hint="atrium users list shows them")


def typed(password: str | None) -> str:
    """As given, from standard input for `-`, or asked for twice on a terminal, unseen. Raises InvalidValue."""
    if password == STDIN and not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    if password is not None and password != STDIN:
        return password
    if not sys.stdin.isatty():
        raise InvalidValue("No password was given", hint="Give it with --password, or --password - to read it")
    first = getpass.getpass("New password: ")
    if getpass.getpass("Again: ") != first:
        raise InvalidValue("The two passwords differ")
    return first


def rights(user: dict[str, Any]) -> str:
    words = ["admin" if user["is_admin"] else "user"]
    words += [] if user["is_active"] else ["inactive"]
    words += ["password"] if user["has_password"] else ["keys only"]
    return ", ".join(words)
