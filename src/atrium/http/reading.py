"""Reading a request's body within its bounds, and noticing when its sender has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Message, Receive

from atrium.core.errors import AtriumError, InvalidValue, TooLarge

T = TypeVar("T")
MOST_DISCARDED = 64 * 1024 * 1024
DISCARD_PATIENCE = 5.0


class ClientGone(AtriumError):
    """Nobody is left to answer; never rendered."""

    kind = "client"
    code = "client_gone"
    status = 499


@dataclass(frozen=True, slots=True)
class BodyBounds:
    """Bytes, and seconds of silence."""

    most: int
    patience: float


async def read_body(receive: Receive, bounds: BodyBounds) -> bytes:
    """Raises TooLarge, ClientGone, InvalidValue when the sender falls silent."""
    pieces: list[bytes] = []
    size = 0
    async for piece in body_pieces(receive, bounds.patience):
        size += len(piece)
        if size > bounds.most:
            raise TooLarge(f"The body is larger than {bounds.most} bytes")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def body_pieces(receive: Receive, patience: float) -> AsyncGenerator[bytes]:
    """A body as it comes, of any size. `patience`: seconds of silence. Raises ClientGone, InvalidValue."""
    more = True
    while more:
        try:
            async with asyncio.timeout(patience):
                message = await receive()
        except TimeoutError:
            raise silent(patience) from None
        if message["type"] == "http.disconnect":
            raise ClientGone("The client left while it sent its request")
        yield message.get("body", b"")
        more = bool(message.get("more_body"))


def within(receive: Receive, bounds: BodyBounds) -> Receive:
    """For whoever reads a body without bounds of their own. Raises TooLarge; InvalidValue when the sender is silent."""
    size, whole = 0, False

    async def bounded() -> Message:
        nonlocal size, whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout(bounds.patience):
                message = await receive()
        except TimeoutError:
            raise silent(bounds.patience) from None
        size += len(message.get("body", b""))
        whole = not message.get("more_body")
        if size > bounds.most:
            raise TooLarge(f"The body is larger than {bounds.most} bytes")
        return message

    return bounded


def silent(patience: float) -> InvalidValue:
    return InvalidValue(f"The body stopped coming for {patience:g} s")


async def discard(receive: Receive) -> None:
    """Read on within a bound, so that a client which reads only after writing sees the refusal."""
    size = 0
    try:
        async with asyncio.timeout(DISCARD_PATIENCE):
            while size < MOST_DISCARDED:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


async def gone(receive: Receive) -> None:
    """Returns when the client has left. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """`work`, cancelled as soon as the client leaves. Raises ClientGone then, and whatever `work` raises."""
    doing = asyncio.create_task(work)
    leaving = asyncio.create_task(gone(receive))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientGone("The client left before its answer")
    finally:
        leaving.cancel()
        doing.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)
