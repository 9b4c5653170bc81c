"""Writes `docs/cli.md` from the program itself."""

from __future__ import annotations

import sys

import typer

from atrium.cli.program import program

HEAD = """# Commands

Made from the program by `scripts/command_page.py`; a test compares. Exit codes: 0 done, 1 failed, 2 used wrongly.
Every command takes `--data-dir` and `--config`. Next to a running server a command acts on it at once, over its control
socket.
"""
SHARED = {"--data-dir", "--config", "--help"}


def rows(command: click.Command, path: str) -> list[str]:
    if isinstance(command, click.Group):
        children = [
            rows(child, f"{path} {name}") for name, child in sorted(command.commands.items()) if not child.hidden
        ]
        return [line for child in children for line in child]
    arguments = [p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)]
    lines = ["", f"## `{' '.join([path, *arguments])}`", "", str(command.help)]
    options = [p for p in command.params if p.param_type_name == "option" and not SHARED & set(p.opts)]
    if options:
        lines.append("")
    lines += [f"- `{', '.join(option.opts)}`: {option.help}" for option in options]
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join([HEAD.rstrip(), *rows(typer.main.get_command(program), "atrium")]) + "\n")
