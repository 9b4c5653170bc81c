"""Chats that were kept with `"store": true`: `/v1/chat/completions/…`, each seen by its owner alone."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from atrium.core.completions import CompletionQuery
from atrium.core.people import ANONYMOUS, Caller
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.openai.kept import (
    deleted_body,
    kept_body,
    messages_body,
    page_body,
    parse_note,
    parse_query,
)
from atrium.http.reading import BodyBounds, read_body
from atrium.http.scope import exchange_of
from atrium.services.keep_completions import KeepCompletions

JSON = "application/json"


def router(keep: KeepCompletions, body: BodyBounds, bounds: RequestBounds) -> APIRouter:
    surface = Surface(keep, body, bounds)
    routes = APIRouter(tags=["OpenAI"])
    for prefix in ("/v1", "/ollama/v1"):
        one = f"{prefix}/chat/completions/{{completion_id}}"
        routes.add_api_route(f"{prefix}/chat/completions", surface.listed, methods=["GET", "HEAD"])
        routes.add_api_route(one, surface.one, methods=["GET", "HEAD"])
        routes.add_api_route(one, surface.note, methods=["POST"])
        routes.add_api_route(one, surface.delete, methods=["DELETE"])
        routes.add_api_route(f"{one}/messages", surface.messages, methods=["GET", "HEAD"])
    return routes


@dataclass(frozen=True, slots=True)
class Surface:
    keep: KeepCompletions
    body: BodyBounds
    bounds: RequestBounds

    async def listed(self, request: Request) -> Response:
        """The caller's kept chats."""
        return Response(page_body(await self.keep.page(caller_of(request), query_of(request))), media_type=JSON)

    async def one(self, request: Request, completion_id: str) -> Response:
        """One kept chat."""
        return Response(kept_body(await self.keep.one(caller_of(request), completion_id)), media_type=JSON)

    async def note(self, request: Request, completion_id: str) -> Response:
        """Change a kept chat's metadata."""
        raw = await read_body(request.receive, self.body)
        metadata = parse_note(raw, depth=self.bounds.depth, items=self.bounds.items)
        return Response(kept_body(await self.keep.note(caller_of(request), completion_id, metadata)), media_type=JSON)

    async def delete(self, request: Request, completion_id: str) -> Response:
        """Forget a kept chat."""
        await self.keep.delete(caller_of(request), completion_id)
        return Response(deleted_body(completion_id), media_type=JSON)

    async def messages(self, request: Request, completion_id: str) -> Response:
        """What was asked in a kept chat."""
        kept = await self.keep.one(caller_of(request), completion_id)
        return Response(messages_body(kept, query_of(request)), media_type=JSON)


def caller_of(request: Request) -> Caller:
    return exchange_of(request.scope).caller or ANONYMOUS


def query_of(request: Request) -> CompletionQuery:
    """Raises InvalidValue."""
    return parse_query(request.query_params.multi_items())
