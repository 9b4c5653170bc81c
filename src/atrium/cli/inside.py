"""The whole application in this process: what a command needs only where no server runs beside it.

Loading it costs more than all else that a command does, so it is imported where it is used and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2

from atrium.app import Environment, opened
from atrium.http.server import control_app
from atrium.settings.tree import Loaded


def environment() -> Environment:
    return Environment(os.environ.get("ATRIUM_ADMIN_PASSWORD") or None, os.environ.get("ATRIUM_PEPPER") or None)


@asynccontextmanager
async def application(loaded: Loaded) -> AsyncGenerator[httpx2.ASGITransport]:
    """A way to the administrator's API. Raises FolderInUse and whatever opening the folder raises."""
    async with opened(loaded, environment(), tell=silent) as atrium:
        await atrium.services.configure_model.settled()
        yield httpx2.ASGITransport(control_app(atrium.app))


def silent(name: str, fields: object) -> None:
    """A command tells in its own words what happened."""
