"""`atrium quotas`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from atrium.cli.door import door
from atrium.cli.keys import found as found_key
from atrium.cli.options import AsJson, Config, DataDir, loaded, run
from atrium.cli.printing import moment, print_json, print_table
from atrium.core.errors import InvalidValue

commands = typer.Typer(no_args_is_help=True, help="How much users, keys and models may be used.")


class Period(Enum):
    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


@commands.command("list")
def list_quotas(as_json: AsJson = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show all quotas, with what is used of them."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            quotas = await api.get("/api/admin/quotas")
        if as_json:
            print_json(quotas)
            return
        rows = [
            (q["id"], whom(q), f"{q['amount']} {q['measure']} per {q['period']}", q["used"], moment(q["resets_at"]))
            for q in quotas
        ]
        print_table(("id", "for", "quota", "used", "resets"), rows, "There are no quotas.")

    run(work())


@commands.command("set")
def set_quota(
    per: Annotated[Period, typer.Option(help="A minute from the first use on, or the calendar's day or month, UTC")],
    requests: Annotated[int | None, typer.Option(min=0, help="So many requests")] = None,
    tokens: Annotated[int | None, typer.Option(min=0, help="So many tokens, prompt and answer together")] = None,
    user: Annotated[str | None, typer.Option(help="For this user; * for every user for themself")] = None,
    key: Annotated[str | None, typer.Option(help="For this key: its id, its prefix or its alias")] = None,
    model: Annotated[str, typer.Option(help="For models that match this pattern")] = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Set a quota of requests, of tokens, or of both; the same again takes another amount.

    For whom nothing says, it is everybody's together.
    """

    async def work() -> None:
        amounts = {"requests": requests, "tokens": tokens}
        if all(amount is None for amount in amounts.values()):
            raise InvalidValue("No amount was given", hint="Give it with --requests or --tokens")
        async with door(loaded(data_dir, config)) as api:
            key_id = (await found_key(api, key))["id"] if key else None
            subject = {"user": user, "key_id": key_id, "model": model, "period": per.value}
            for measure, amount in amounts.items():
                if amount is not None:
                    quota = await api.put("/api/admin/quotas", {**subject, "measure": measure, "amount": amount})
                    print(f"Quota {quota['id']}: {amount} {measure} per {per.value} for {whom(quota)}.")

    run(work())


@commands.command("delete")
def delete_quota(
    quota: Annotated[int, typer.Argument(metavar="ID", help="Its id: atrium quotas list shows it")],
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Lift a quota, at once."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            await api.delete(f"/api/admin/quotas/{quota}")
        print(f"Quota {quota} was lifted.")

    run(work())


def whom(quota: dict[str, Any]) -> str:
    words = ["each user" if quota["user"] == "*" else f"user {quota['user']}"] if quota["user"] else []
    words += [f"key {quota['key_id']}"] if quota["key_id"] else []
    words += [f"model {quota['model']}"] if quota["model"] else []
    words += [f"used by {quota['used_by']}"] if quota["used_by"] else []
    return ", ".join(words) or "everybody together"
