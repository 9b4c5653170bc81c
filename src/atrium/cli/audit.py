"""`atrium audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from atrium.cli.door import door
from atrium.cli.options import AsJson, Config, DataDir, Since, Until, asked, loaded, moment_of, run
from atrium.cli.printing import moment, print_json, print_table


def audit_command(
    actor: Annotated[str | None, typer.Option(help="Only what this user did")] = None,
    action: Annotated[str | None, typer.Option(help="Only acts with this in their path or detail")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="The newest so many, 1000 at most")] = 50,
    before: Annotated[int | None, typer.Option(help="Only acts older than the one with this id")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show what was changed, by whom and from where, newest first."""

    async def work() -> None:
        span = {"since": moment_of(since), "until": moment_of(until)}
        query = asked(limit=limit, before=before, actor=actor, action=action, **span)
        async with door(loaded(data_dir, config)) as api:
            acts = await api.get("/api/admin/audit", **query)
        if as_json:
            print_json(acts)
            return
        rows = [
            (act["id"], moment(act["at"]), act["actor"], act["address"], act["action"], act["detail"]) for act in acts
        ]
        print_table(("id", "when (UTC)", "who", "from", "what", "detail"), rows, "There are no such acts.")

    run(work())
