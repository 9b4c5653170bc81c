"""Long texts under `/lollms/v1`, whole or with their progress as it is made."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Self

from fastapi import APIRouter, Request, Response

from atrium.core.long_text import LongAnswer, Progress
from atrium.dialects.lollms.errors import error_event
from atrium.dialects.lollms.long_text import DONE, answer_body, answer_event, parse_long_text, progress_event
from atrium.http.bodies import parsed
from atrium.http.edge import Exchange
from atrium.http.reading import while_connected
from atrium.http.scope import told
from atrium.http.streaming import EventAnswer
from atrium.http.surfaces.openai import OpenAiBounds
from atrium.services.long_context import Work
from atrium.services.promises import Services

JSON = "application/json"


def router(services: Services, bounds: OpenAiBounds) -> APIRouter:
    surface = Surface(services, bounds)
    routes = APIRouter(tags=["LoLLMs"])
    routes.add_api_route("/lollms/v1/long_context_process", surface.process, methods=["POST"])
    return routes


@dataclass(frozen=True, slots=True)
class Surface:
    services: Services
    bounds: OpenAiBounds

    async def process(self, request: Request) -> Response:
        """Do something with a text of any length."""
        call = await parsed(request, self.bounds, parse_long_text)
        exchange, caller = told(request)
        work = await while_connected(request.receive, self.services.long_context.plan(call.asked, caller))
        exchange.model = work.writer.name
        work.begin()
        if call.stream:
            return EventAnswer(WorkStream(work, exchange), render, error_event, {})
        try:
            answer = await while_connected(request.receive, work.run())
        finally:
            settle(work, exchange)
        return Response(answer_body(answer), media_type=JSON)


def render(event: Progress | LongAnswer) -> bytes:
    return progress_event(event) if isinstance(event, Progress) else answer_event(event) + DONE


def settle(work: Work, exchange: Exchange) -> None:
    work.end()
    exchange.usage = work.usage


class WorkStream:
    """Every call's end as it comes, and at last the answer. Closing it ends the work."""

    def __init__(self, work: Work, exchange: Exchange) -> None:
        self._work = work
        self._exchange = exchange
        self._told: deque[Progress] = deque()
        """No longer than the work has calls."""
        self._changed = asyncio.Event()
        self._doing: asyncio.Task[LongAnswer] | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Progress | LongAnswer:
        """Raises what the work raises."""
        if self._ended:
            raise StopAsyncIteration
        if self._doing is None:
            self._doing = asyncio.create_task(self._work.run(self._tell))
            self._doing.add_done_callback(lambda _: self._changed.set())
        while not self._told:
            if self._doing.done():
                self._ended = True
                return self._doing.result()
            self._changed.clear()
            await self._changed.wait()
        return self._told.popleft()

    async def aclose(self) -> None:
        if self._doing is not None:
            self._doing.cancel()
            await asyncio.gather(self._doing, return_exceptions=True)
        settle(self._work, self._exchange)

    def _tell(self, progress: Progress) -> None:
        self._told.append(progress)
        self._changed.set()
