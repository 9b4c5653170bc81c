"""Doing something with a loaded model, once more on a fresh runner where the first one died under it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

from atrium.core.errors import EngineFailed, EngineSilent, NotSent
from atrium.core.models import ModelCard
from atrium.core.people import Caller
from atrium.core.ports import Engines, Lease

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Leasing:
    engines: Engines

    async def run(
        self,
        card: ModelCard,
        caller: Caller,
        keep_alive: float | None,
        act: Callable[[Lease, AsyncExitStack], Awaitable[T]],
    ) -> T:
        """Give `act` a lease and the stack that gives it back, which is `act`'s own to close once it returns.

        `act` must not raise EngineFailed once a byte of the answer may have been seen, for it is done twice when it
        does. A runner that is silent counts as hung: it gets no second request, nor is this one sent twice. Raises what
        `engines.lease` and `act` raise; then everything has been given back.
        """
        try:
            return await self._once(card, caller, keep_alive, act)
        except RunnerDied:
            pass
        try:
            return await self._once(card, caller, keep_alive, act)
        except RunnerDied as died:
            raise died.failed from None

    async def _once(
        self,
        card: ModelCard,
        caller: Caller,
        keep_alive: float | None,
        act: Callable[[Lease, AsyncExitStack], Awaitable[T]],
    ) -> T:
        async with AsyncExitStack() as until_done:
            stack = await until_done.enter_async_context(AsyncExitStack())
            lease = await stack.enter_async_context(self.engines.lease(card, caller, keep_alive=keep_alive))
            try:
                done = await act(lease, stack)
            except (EngineFailed, NotSent) as failed:
                lease.failed(failed.message)
                raise RunnerDied(failed) from failed
            except EngineSilent as silent:
                lease.failed(silent.message)
                raise
            until_done.pop_all()
            return done


class RunnerDied(Exception):
    """Within this file: a try ended before any byte of an answer."""

    def __init__(self, failed: EngineFailed | NotSent) -> None:
        super().__init__(failed.message)
        self.failed = failed
