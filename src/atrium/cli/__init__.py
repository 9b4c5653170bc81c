"""The command line: every command speaks HTTP to the administrator's API."""

import gc

# Nothing that is imported is garbage, and looking for some takes a quarter of the time of a start.
gc.disable()
from atrium.cli.program import main  # noqa: E402 - the collector pauses for it

gc.enable()

__all__ = ["main"]
