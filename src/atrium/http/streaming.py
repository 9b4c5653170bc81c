"""Writing an event stream: each event as it is made, comments in silence, and a break that looks like one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Generic, Protocol, Self, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from atrium.core.errors import AtriumError, Internal
from atrium.http.reading import while_connected

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
SILENCE = 15.0
"""Seconds after which a comment keeps proxies from closing the connection."""
PING = b": ping\n\n"


async def nothing() -> None:
    """For a wire on which a silence stays one."""


class BrokenAnswer(Exception):
    """The answer cannot be completed; its connection is closed without the final chunk."""


class Stream(Protocol[E_co]):
    """What comes bit by bit, and is closed by whoever has it, also when it was never read."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> E_co: ...

    async def aclose(self) -> None: ...


class EventAnswer(Response, Generic[E]):
    """A rendered stream. It owns `events` from its first call on, and closes them however it ends."""

    media_type = "text/event-stream"
    ping = PING
    """What fills a silence."""

    def __init__(
        self,
        events: Stream[E],
        render: Callable[[E], bytes],
        render_error: Callable[[AtriumError], bytes],
        headers: dict[str, str],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers})
        del self.headers["content-length"]
        self._events = events
        self._render = render
        self._render_error = render_error
        self._last = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Raises BrokenAnswer when the stream failed in its midst, ClientGone when its reader left."""
        async with aclosing(self._events):
            await while_connected(receive, self._run(send))

    async def _run(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        pinging = asyncio.create_task(self._ping(send) if self.ping else nothing())
        try:
            await self._write(send)
        except AtriumError as error:
            await self._send(send, self._render_error(error))
            raise BrokenAnswer(error.message) from error.__cause__
        except Exception as error:
            await self._send(send, self._render_error(Internal("The answer broke off inside the server")))
            raise BrokenAnswer("a bug in mid answer") from error
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send) -> None:
        async for event in self._events:
            if data := self._render(event):
                await self._send(send, data)

    async def _ping(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        while True:
            left = self._last + SILENCE - loop.time()
            if left <= 0:
                await self._send(send, self.ping)
                left = SILENCE
            await asyncio.sleep(left)

    async def _send(self, send: Send, data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})
        self._last = asyncio.get_running_loop().time()


class LineAnswer(EventAnswer[E]):
    """The same for a wire of one JSON object per line, which has no comments to fill a silence with."""

    media_type = "application/x-ndjson"
    ping = b""
