"""The event log: one line per event on stderr, fixed names, typed fields, never a secret and never a prompt.

`docs/events.md` lists every name; a test compares.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

import orjson

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
        "model.overrun",
        "model.preload_failed",
        "model.installing",
        "model.installed",
        "model.install_failed",
        "model.deleted",
        "model.damaged",
        "model.adopted",
        "model.gone",
        "model.configured",
        "model.config_broken",
        "model.config_gone",
        "endpoint.changed",
        "config.reloaded",
        "config.refused",
        "login.failed",
        "document.failed",
        "stores.sweep_failed",
        "stores.opened",
        "stores.moved",
        "stores.indexed",
        "stores.upkeep_failed",
        "usage.unwritten",
        "upkeep.failed",
    }
)
SECRET = re.compile(r"lollms_[0-9a-f]{16}_[0-9a-f]{48}")
KEY_START = "lollms_"
LONGEST_FIELD = 2000
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
WARNINGS = frozenset(
    {
        "login.failed",
        "usage.unwritten",
        "upkeep.failed",
        "server.open_door",
        "runner.broken",
        "model.refused",
        "model.overrun",
        "model.preload_failed",
        "model.damaged",
        "model.config_broken",
    }
)
ERRORS = frozenset(
    {"request.failed", "document.failed", "stores.sweep_failed", "stores.upkeep_failed", "model.install_failed"}
)
FREQUENT = frozenset({"request.ended"})
"""Written together with what comes within the next moments: a write for each costs as much as answering it."""
LINGER = 0.05
MOST_WAITING = 512


class EventLog:
    """Callable as the parts expect it: a name of `NAMES` and its fields.

    A general logging library made each line in 15 µs, a third of what a relayed request may cost; this takes two.
    """

    def __init__(self, shape: Literal["json", "text"], level: Literal["debug", "info", "warning", "error"]) -> None:
        self._render = as_json if shape == "json" else as_text
        self._least = LEVELS[level]
        self._waiting: list[bytes] = []

    def __call__(self, name: str, fields: Mapping[str, object]) -> None:
        """Raises ValueError for a name that is not in the list."""
        if name not in NAMES:
            raise ValueError(f"'{name}' is not an event of the list")
        level = "error" if name in ERRORS else "warning" if name in WARNINGS else "info"
        if LEVELS[level] < self._least:
            return
        self._waiting.append(self._render(level, name, masked(fields)))
        if name not in FREQUENT or len(self._waiting) >= MOST_WAITING:
            self.flush()
        elif len(self._waiting) == 1:
            try:
                asyncio.get_running_loop().call_later(LINGER, self.flush)
            except RuntimeError:
                self.flush()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            # On a full disk, or with nobody at the other end of a pipe, there is no log; requests are answered still.
            with suppress(OSError):
                sys.stderr.write(b"".join(waiting).decode("utf-8", "replace"))
                sys.stderr.flush()


def as_json(level: str, name: str, fields: Mapping[str, object]) -> bytes:
    told = {"timestamp": datetime.now(UTC), "level": level, "event": name, **fields}
    return orjson.dumps(told, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def as_text(level: str, name: str, fields: Mapping[str, object]) -> bytes:
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    words = " ".join(f"{key}={value!r}" for key, value in fields.items())
    return f"{moment} [{level:<7}] {name} {words}\n".encode("utf-8", "replace")


def masked(fields: Mapping[str, object]) -> dict[str, object]:
    """No key reaches the log, and no field fills it."""
    told = dict(fields)
    for name, value in fields.items():
        if isinstance(value, str) and (len(value) > LONGEST_FIELD or KEY_START in value):
            told[name] = SECRET.sub("lollms_…", value)[:LONGEST_FIELD]
    return told
