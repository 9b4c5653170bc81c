"""`atrium keys`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from atrium.cli.door import Door, door
from atrium.cli.options import AsJson, Config, DataDir, loaded, run
from atrium.cli.printing import moment, print_json, print_table
from atrium.core.errors import InvalidValue, NotFound
from atrium.settings.units import read_duration

commands = typer.Typer(no_args_is_help=True, help="API keys.")


@commands.command("list")
def list_keys(
    user: Annotated[str | None, typer.Option(help="Only this user's")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show keys, without their secrets."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            keys = await api.get("/api/admin/keys", **({"user": user} if user else {}))
        if as_json:
            print_json(keys)
            return
        rows = [
            (*(k[name] for name in ("id", "username", "alias", "key_prefix")), *moments(k), limits(k)) for k in keys
        ]
        print_table(("id", "user", "alias", "key", "created", "last used", "good for"), rows, "There are no keys.")

    run(work())


@commands.command("create")
def create_key(
    user: Annotated[str, typer.Option(help="Whose key it is")],
    alias: Annotated[str, typer.Option(help="A name to know it by, unique for the user")],
    expires_in: Annotated[str | None, typer.Option(help="How long it is good for, such as 12h; else for ever")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only models that match this pattern; repeatable")] = None,
    path: Annotated[list[str] | None, typer.Option(help="Only paths that match this pattern; repeatable")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the key alone")] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Make a key. It is shown this once."""

    async def work() -> None:
        body = {"username": user, "alias": alias, "models": model or [], "paths": path or []}
        async with door(loaded(data_dir, config)) as api:
            key = await api.post("/api/admin/keys", {**body, "expires_at": end_of(expires_in)})
        if quiet:
            print(key["full_key"])
        else:
            print(f"Key '{key['alias']}' of {key['username']}, shown this once:\n  {key['full_key']}")

    run(work())


@commands.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, its prefix lollms_…, or its alias")],
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Make a key worthless, at once."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            one = await found(api, key)
            await api.delete(f"/api/admin/keys/{one['id']}")
        print(f"Key '{one['alias']}' of {one['username']} was revoked.")

    run(work())


def moments(key: dict[str, Any]) -> tuple[str, str]:
    return moment(key["created_at"]), moment(key["last_used_at"])


def limits(key: dict[str, Any]) -> str:
    words = [*key["models"], *key["paths"]]
    words += [f"until {moment(key['expires_at'])}"] if key["expires_at"] else []
    return ", ".join(words) or "everything"


def end_of(expires_in: str | None) -> str | None:
    """Raises InvalidValue."""
    if expires_in is None:
        return None
    try:
        return (datetime.now(UTC) + timedelta(seconds=read_duration(expires_in))).isoformat()
    except (ValueError, OverflowError):
        raise InvalidValue(f"'{expires_in[:40]}' is no duration", hint="Write it as 30m or 720h") from None


async def found(api: Door, key: str) -> dict[str, Any]:
    """Raises NotFound, and InvalidValue when two users have a key of that alias."""
    keys: list[dict[str, Any]] = await api.get("/api/admin/keys")
    same = [k for k in keys if key in (str(k["id"]), k["key_prefix"]) or key.startswith(k["key_prefix"] + "_")]
    same = same or [k for k in keys if k["alias"] == key]
    if not same:
        raise NotFound(f"There is no key '{key[:30]}'", hint="atrium keys list shows them")
    if len(same) > 1:
        raise InvalidValue(f"Several users have a key '{key}'", hint="Name it by its id: atrium keys list")
    return same[0]
