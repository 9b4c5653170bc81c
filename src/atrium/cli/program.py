"""The program's commands, and nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from atrium import __version__
from atrium.cli import config, endpoints, keys, models, quotas, stores, users
from atrium.cli.audit import audit_command
from atrium.cli.chat import chat_command
from atrium.cli.doctor import doctor_command
from atrium.cli.explain import explain_command, top_command
from atrium.cli.serve import serve_command
from atrium.cli.usage import usage_command

program = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="One door to every model."
)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"atrium {__version__}")
        raise typer.Exit


@program.callback()
def begin(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    """One door to every model."""


program.command("serve")(serve_command)
program.command("chat")(chat_command)
program.command("doctor")(doctor_command)
program.command("explain")(explain_command)
program.command("top")(top_command)
program.command("usage")(usage_command)
program.command("audit")(audit_command)
program.add_typer(models.commands, name="models")
program.add_typer(users.commands, name="users")
program.add_typer(keys.commands, name="keys")
program.add_typer(quotas.commands, name="quotas")
program.add_typer(endpoints.commands, name="endpoints")
program.add_typer(stores.commands, name="stores")
program.add_typer(config.commands, name="config")


def main() -> None:
    program()
