"""Endpoints that were added while a server ran. A file among the secrets, since it holds their credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import orjson

from atrium.core.errors import ConfigError
from atrium.storage.folder import write_file

NAME = "endpoints.json"


class EndpointFile:
    def __init__(self, secrets: Path) -> None:
        self._path = secrets / NAME

    async def all(self) -> Sequence[Mapping[str, Any]]:
        """Raises ConfigError for a file that is damaged."""
        return await asyncio.to_thread(self._read)

    async def replace(self, given: Sequence[Mapping[str, Any]]) -> None:
        await asyncio.to_thread(write_file, self._path, orjson.dumps([dict(one) for one in given]), 0o600)

    def _read(self) -> Sequence[Mapping[str, Any]]:
        try:
            found = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, orjson.JSONDecodeError):
            raise ConfigError(f"{self._path} cannot be read", hint="Remove it, and add the endpoints again") from None
        return cast("Sequence[Mapping[str, Any]]", found)
