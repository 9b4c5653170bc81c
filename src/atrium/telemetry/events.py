"""The event log: one line per event on stderr, fixed names, typed fields, never a secret and never a prompt.

`docs/events.md` lists every name; a test compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Literal

import structlog

NAMES = frozenset(
    {
        "server.started",
        "server.stopping",
        "server.stopped",
        "server.open_door",
        "request.ended",
        "request.failed",
        "runner.started",
        "runner.ready",
        "runner.exited",
        "runner.broken",
        "model.unloaded",
        "model.refused",
        "model.preload_failed",
        "model.installing",
        "model.installed",
        "model.install_failed",
        "model.deleted",
        "model.damaged",
        "endpoint.changed",
    }
)
SECRET = re.compile(r"lollms_[0-9a-f]{16}_[0-9a-f]{48}")
LONGEST_FIELD = 2000
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
WARNINGS = frozenset({"server.open_door", "runner.broken", "model.refused", "model.preload_failed", "model.damaged"})
ERRORS = frozenset({"request.failed", "model.install_failed"})


class EventLog:
    """Callable as the parts expect it: a name of `NAMES` and its fields."""

    def __init__(self, shape: Literal["json", "text"], level: Literal["debug", "info", "warning", "error"]) -> None:
        renderer = (
            structlog.processors.JSONRenderer() if shape == "json" else structlog.dev.ConsoleRenderer(colors=False)
        )
        self._least = LEVELS[level]
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[structlog.processors.TimeStamper(fmt="iso", utc=True), masked, renderer],
            wrapper_class=structlog.BoundLogger,
        )

    def __call__(self, name: str, fields: Mapping[str, object]) -> None:
        """Raises ValueError for a name that is not in the list."""
        if name not in NAMES:
            raise ValueError(f"'{name}' is not an event of the list")
        level = "error" if name in ERRORS else "warning" if name in WARNINGS else "info"
        if LEVELS[level] >= self._least:
            self._log.msg(name, level=level, **fields)


def masked(_: object, __: str, fields: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """No key reaches the log, and no field fills it."""
    for name, value in fields.items():
        if isinstance(value, str):
            fields[name] = SECRET.sub("lollms_…", value)[:LONGEST_FIELD]
    return fields
