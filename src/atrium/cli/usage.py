"""`atrium usage`."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated, Any

import typer

from atrium.cli.door import door
from atrium.cli.keys import found as found_key
from atrium.cli.options import AsJson, Config, DataDir, Since, Until, asked, loaded, moment_of, run
from atrium.cli.printing import moment, print_json, print_table
from atrium.core.errors import InvalidValue

COUNTS = ("requests", "failures", "prompt_tokens", "completion_tokens", "total_tokens")
HEADS = ("requests", "failed", "tokens in", "tokens out", "tokens")
Share = dict[str, Any]


class Step(Enum):
    HOUR = "hour"
    DAY = "day"


def usage_command(
    days: Annotated[int | None, typer.Option(help="So many days, today among them; 30 unless given")] = None,
    since: Since = None,
    until: Until = None,
    step: Annotated[Step, typer.Option(help="Of the series")] = Step.DAY,
    user: Annotated[str | None, typer.Option(help="Only this user's")] = None,
    key: Annotated[str | None, typer.Option(help="Only by this key: its id, its prefix or its alias")] = None,
    model: Annotated[str | None, typer.Option(help="Only with this model")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every hour as CSV")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show what was used: in all, in steps, by user, key, model and door."""

    async def work() -> None:
        if as_csv and as_json:
            raise InvalidValue("It is printed as CSV or as JSON", hint="Give one of --csv and --json")
        async with door(loaded(data_dir, config)) as api:
            key_id = (await found_key(api, key))["id"] if key else None
            span = {"days": days, "since": moment_of(since), "until": moment_of(until)}
            query = asked(step=step.value, user=user, key_id=key_id, model=model, **span)
            if as_csv:
                await api.copy("/api/admin/usage", sys.stdout, format="csv", **query)
                return
            usage = await api.get("/api/admin/usage", **query)
        if as_json:
            print_json(usage)
        else:
            show(usage, step)

    run(work())


def show(usage: dict[str, Any], step: Step) -> None:
    print(f"From {moment(usage['since'])} to {moment(usage['until'])} UTC:")
    print_table(HEADS, [counts(usage["totals"])], "")
    if not usage["series"]:
        print("Nothing was used.")
        return
    shares = {
        step.value: [(moment(one["at"])[: 16 if step is Step.HOUR else 10], one) for one in usage["series"]],
        "user": [(one["username"], one) for one in usage["users"]],
        "key": [(name_of_key(one), one) for one in usage["keys"]],
        "model": [(one["model"] or "none", one) for one in usage["models"]],
        "door": [(one["door"], one) for one in usage["doors"]],
    }
    for head, rows in shares.items():
        print()
        print_table((head, *HEADS), [(name, *counts(share)) for name, share in rows], "")


def counts(share: Share) -> tuple[int, ...]:
    return tuple(share[name] for name in COUNTS)


def name_of_key(share: Share) -> str:
    if not share["key_id"]:
        return "no key"
    return f"{share['alias']} of {share['username']}" if share["alias"] else f"deleted key {share['key_id']}"
