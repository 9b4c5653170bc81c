"""Writes `docs/cli.md` from the program itself."""

from __future__ import annotations

import sys
from typing import Any

import typer

from atrium.cli.program import program

HEAD = """# Commands

Made from the program by `scripts/command_page.py`; a test compares. Exit codes: 0 done, 1 failed, 2 used wrongly.
Every command takes `--data-dir` and `--config`. Next to a running server a command acts on it at once, over its control
socket.
"""
SHARED = {"--data-dir", "--config", "--help"}


def rows(command: Any, path: str) -> list[str]:
    """typer's commands are like click's in all but their classes."""
    if hasattr(command, "commands"):
        shown = [(name, child) for name, child in sorted(command.commands.items()) if not child.hidden]
        return [line for name, child in shown for line in rows(child, f"{path} {name}")]
    arguments = [p.metavar or p.name for p in command.params if p.param_type_name == "argument"]
    lines = ["", f"## `{' '.join([path, *arguments])}`", "", str(command.help)]
    options = [p for p in command.params if p.param_type_name == "option" and not SHARED & set(p.opts)]
    if options:
        lines.append("")
    lines += [f"- `{', '.join(option.opts)}`: {option.help}" for option in options]
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join([HEAD.rstrip(), *rows(typer.main.get_command(program), "atrium")]) + "\n")
