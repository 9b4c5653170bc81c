"""Connections to one endpoint: idle ones are used again while surely open, new ones made in bounded time."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass

from atrium.core.endpoints import EndpointSpec
from atrium.core.errors import NotSent
from atrium.decisions.pass_headers import HeadReader
from atrium.relay.upstream import Upstream


@dataclass(frozen=True, slots=True)
class PoolBounds:
    """Seconds, connections, bytes."""

    connect: float
    keep_alive: float
    idle: int
    head: int


class Pool:
    def __init__(self, spec: EndpointSpec, bounds: PoolBounds) -> None:
        self._spec = spec
        self._bounds = bounds
        self._heads = HeadReader(frozenset(name for name, _ in spec.headers))
        self._idle: list[Upstream] = []
        self._secured = ssl.create_default_context() if spec.tls else None
        self._closed = False

    def take(self, now: float) -> Upstream | None:
        """An idle connection that is still open, the one used last. `now` on the monotonic clock."""
        oldest = now - self._bounds.keep_alive
        while self._idle:
            upstream = self._idle.pop()
            if upstream.idle_since >= oldest and upstream.fresh():
                return upstream
            upstream.abort()
        return None

    async def connect(self) -> Upstream:
        """Raises NotSent."""
        loop = asyncio.get_running_loop()
        spec = self._spec
        try:
            async with asyncio.timeout(self._bounds.connect):
                _, upstream = await loop.create_connection(
                    self._made, spec.host, spec.port, ssl=self._secured, server_hostname=spec.host if spec.tls else None
                )
        except TimeoutError:
            raise NotSent(f"'{spec.name}' accepts no connection within {self._bounds.connect:g} s") from None
        except UnicodeError:
            raise NotSent(f"'{spec.name}' has no name that can be resolved") from None
        except OSError as error:
            raise NotSent(f"'{spec.name}' cannot be reached: {error.strerror or type(error).__name__}") from None
        return upstream

    def close_unused(self, now: float) -> None:
        """Close what was idle for too long. `now` on the monotonic clock."""
        oldest = now - self._bounds.keep_alive
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).abort()

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().abort()

    def _made(self) -> Upstream:
        return Upstream(self._heads, self._bounds.head, self._give_back)

    def _give_back(self, upstream: Upstream) -> None:
        if self._closed or len(self._idle) >= self._bounds.idle:
            upstream.abort()
            return
        upstream.idle_since = time.monotonic()
        self._idle.append(upstream)
