"""The way to the administrator's API: the running server's control socket, or the same application in this process.

There is one code path: whether a server runs decides only who answers the request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import IO, Any

import httpx2

from atrium.core.errors import AtriumError, UpstreamFailed
from atrium.settings.tree import Loaded
from atrium.storage.folder import DataFolder

PATIENCE = httpx2.Timeout(30.0, read=None)
"""Seconds; reading waits for as long as a model takes to load and to answer."""
BASE = "http://localhost"


class Told(AtriumError):
    """What the API answered instead of success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answered = status


class Door:
    """Asks the API and gives back its JSON. Raises Told for an error answer."""

    def __init__(self, client: httpx2.AsyncClient, *, live: bool) -> None:
        self.client = client
        self.live = live
        """A running server answers, so work begun here goes on without us."""

    async def get(self, path: str, **query: str) -> Any:
        return self._json(await self.client.get(path, params=query or None))

    async def copy(self, path: str, into: IO[str], **query: str) -> None:
        """A text answer, as it comes."""
        async with self.client.stream("GET", path, params=query or None) as answer:
            if not answer.is_success:
                await answer.aread()
                raise told(answer.status_code, answer)
            async for piece in answer.aiter_text():
                into.write(piece)

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._json(await self.client.post(path, json=body))

    async def send(self, path: str, name: str, file: IO[bytes]) -> Any:
        """A file in a form, as the field `files`."""
        return self._json(await self.client.post(path, files={"files": (name, file)}))

    async def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._json(await self.client.put(path, json=body))

    async def delete(self, path: str) -> None:
        self._json(await self.client.delete(path))

    def _json(self, answer: httpx2.Response) -> Any:
        if answer.is_success:
            return answer.json() if answer.content else None
        raise told(answer.status_code, answer)


def told(status: int, answer: httpx2.Response) -> Told:
    try:
        return Told(status, answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return Told(status, f"The server answered {status}")


@asynccontextmanager
async def door(loaded: Loaded) -> AsyncGenerator[Door]:
    """Raises FolderInUse when a server starts in this very moment, and whatever opening the folder raises."""
    socket = DataFolder(loaded.data_dir).control_socket
    transport = httpx2.AsyncHTTPTransport(uds=str(socket))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE, timeout=PATIENCE) as client:
        if await answers(client):
            try:
                yield Door(client, live=True)
            except httpx2.TransportError as error:
                raise UpstreamFailed(f"The server went away: {error or type(error).__name__}") from None
            return
    from atrium.cli.inside import application  # noqa: PLC0415  # a second of loading that a running server saves us

    async with (
        application(loaded) as inside,
        httpx2.AsyncClient(transport=inside, base_url=BASE, timeout=PATIENCE) as client,
    ):
        yield Door(client, live=False)


async def answers(client: httpx2.AsyncClient) -> bool:
    """A socket that a killed server left behind refuses the connection."""
    try:
        return (await client.get("/internal/health")).is_success
    except httpx2.TransportError:
        return False
