"""The command line: every command speaks HTTP to the administrator's API."""

from atrium.cli.program import main

__all__ = ["main"]
