"""A small request to an endpoint whose whole answer is wanted: checks, model lists, merged pages."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from atrium.core.errors import AtriumError, BadResponse, Disconnected, UpstreamTimeout
from atrium.decisions.pass_headers import ResponseHead
from atrium.decisions.relayed_path import upstream_path
from atrium.relay.directory import Endpoint
from atrium.relay.upstream import Sink, Upstream

MOST_BODY = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    head: ResponseHead
    body: bytes


class Collector(Sink):
    """Keeps everything, within a bound."""

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


async def asked(upstream: Upstream, head: bytes, body: bytes) -> Reply:
    """Raises Disconnected, BadResponse."""
    collector = Collector()
    try:
        upstream.send(collector, head, body, head_only=False)
        return await collector.done
    finally:
        if not collector.done.done() or collector.done.cancelled() or collector.done.exception():
            upstream.abort()


async def ask(
    endpoint: Endpoint, path: str, timeout: float, *, body: bytes | None = None, beside_v1: bool = False
) -> Reply:
    """`GET path`, or `POST path` with a JSON body, with the endpoint's own credentials. The time includes connecting.

    `beside_v1`: for paths that stand beside `/v1`, in which the endpoint's own address may end.
    Cancelling it closes the connection. Raises NotSent, Disconnected, BadResponse, UpstreamTimeout.
    """
    base = endpoint.spec.base.removesuffix("/v1") if beside_v1 else endpoint.spec.base
    target = upstream_path(base, path.encode("latin-1", "replace"))
    lines = endpoint.fixed_lines + b"accept: application/json\r\n"
    if body is not None:
        lines += b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (b"GET" if body is None else b"POST", target, lines)
    try:
        async with asyncio.timeout(timeout):
            if upstream := endpoint.pool.take(time.monotonic()):
                try:
                    return await asked(upstream, head, body or b"")
                except Disconnected:
                    # Closed at that very moment, which tells nothing of the endpoint. Only what reads may ask again.
                    if body is not None:
                        raise
            return await asked(await endpoint.pool.connect(), head, body or b"")
    except TimeoutError:
        raise UpstreamTimeout(f"'{endpoint.spec.name}' gave no answer within {timeout:g} s") from None
