"""A small request to an endpoint whose whole answer is wanted: checks, model lists, merged pages."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from atrium.core.errors import AtriumError, BadResponse, UpstreamTimeout
from atrium.decisions.pass_headers import ResponseHead
from atrium.decisions.relayed_path import upstream_path
from atrium.relay.directory import Endpoint

MOST_BODY = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    head: ResponseHead
    body: bytes


class Collector:
    """A sink that keeps everything, within a bound."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def on_head(self, head: ResponseHead) -> None:
        self._head = head

    def on_piece(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MOST_BODY:
            self.on_broken(BadResponse(f"The endpoint's answer is larger than {MOST_BODY} bytes"))
        else:
            self._pieces.append(data)

    def on_end(self) -> None:
        if self._head and not self.done.done():
            self.done.set_result(Reply(self._head, b"".join(self._pieces)))

    def on_broken(self, error: AtriumError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def ask(endpoint: Endpoint, path: str, timeout: float) -> Reply:
    """`GET path`, with the endpoint's own credentials, connecting included in the time.

    Raises NotSent, Disconnected, BadResponse, UpstreamTimeout.
    """
    target = upstream_path(endpoint.spec.base, path.encode("latin-1", "replace"))
    head = b"GET %b HTTP/1.1\r\n%baccept: application/json\r\n\r\n" % (target, endpoint.fixed_lines)
    try:
        async with asyncio.timeout(timeout):
            upstream = endpoint.pool.take() or await endpoint.pool.connect()
            collector = Collector()
            try:
                upstream.send(collector, head, b"", head_only=False)
                return await collector.done
            finally:
                if not collector.done.done() or collector.done.cancelled() or collector.done.exception():
                    upstream.abort()
    except TimeoutError:
        raise UpstreamTimeout(f"'{endpoint.spec.name}' gave no answer within {timeout:g} s") from None
