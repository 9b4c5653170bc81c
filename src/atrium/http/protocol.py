"""uvicorn's HTTP/1.1 protocol with our bounds on a request's head; the lane for relayed requests will start here."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from atrium.core.errors import AtriumError, BadRequest, HeadersTooLarge, Unavailable
from atrium.http.edge import error_answer
from atrium.settings.tree import Limits


class RequestTimeout(BadRequest):
    code = "request_timeout"
    status = 408


class Door(HttpToolsProtocol):
    """One client connection. A head too long or too slow, and one connection too many, are answered and closed."""

    limits = Limits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._in_head = True
        self._too_slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(Unavailable("Too many connections are open", hint="Try again in a moment", retry_after=1))
            return
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        in_head = self._in_head
        if in_head and self._too_slow is None:
            self._watch_head()
        super().data_received(data)
        if in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_header:
                self._refuse(HeadersTooLarge(f"The request's head is larger than {self.limits.max_header} bytes"))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._unwatch_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest(msg.removesuffix("."), hint="Send HTTP/1.1"))

    def _watch_head(self) -> None:
        self._too_slow = self.loop.call_later(self.limits.header_timeout, self._head_too_slow)

    def _unwatch_head(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None

    def _head_too_slow(self) -> None:
        self._too_slow = None
        self._refuse(RequestTimeout(f"The request's head took longer than {self.limits.header_timeout:g} s"))

    def _refuse(self, error: AtriumError) -> None:
        """Answer below ASGI and close; a connection that is in mid answer is only closed."""
        if self.transport.is_closing():
            return
        if not self.cycle or self.cycle.response_complete:
            status, headers, body = error_answer(error)
            lines = [b"%b: %b\r\n" % header for header in [*headers, (b"connection", b"close")]]
            self.transport.write(b"HTTP/1.1 %d \r\n%b\r\n%b" % (status, b"".join(lines), body))
        self.transport.close()


def door_for(limits: Limits) -> type[Door]:
    """uvicorn makes protocols from a class, so the bounds are the class's."""
    return type("BoundDoor", (Door,), {"limits": limits})
