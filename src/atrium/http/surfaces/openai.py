"""OpenAI's API: `/v1` and the same under `/ollama/v1`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import orjson
from fastapi import APIRouter, Request, Response

from atrium.core.answers import Begun, Echo, Event, Events, EventStream, Spent
from atrium.core.errors import AtriumError, InvalidValue
from atrium.core.models import Ability
from atrium.core.people import Caller
from atrium.core.requests import Chat, Completion, Overflow
from atrium.dialects.openai.answer import Collected, chat_body
from atrium.dialects.openai.citations import citations_object
from atrium.dialects.openai.completions import CompletionStream, completion_body
from atrium.dialects.openai.dropped import dropped_names
from atrium.dialects.openai.errors import error_event
from atrium.dialects.openai.kept import kept_of
from atrium.dialects.openai.listings import embeddings_body, model_body, models_body
from atrium.dialects.openai.request import RequestBounds, parse_chat, parse_completion, parse_embed
from atrium.dialects.openai.responses import ResponseStream
from atrium.dialects.openai.responses_request import parse_response
from atrium.dialects.openai.stream import ChatStream, Stamp
from atrium.http.edge import Exchange, dropped_header, truncated_header
from atrium.http.reading import BodyBounds, read_body, while_connected
from atrium.http.scope import header, told
from atrium.http.streaming import EventAnswer
from atrium.services.promises import Services

JSON = "application/json"
TRUNCATE = "X-Atrium-Truncate"
OVERFLOWS: dict[str, Overflow] = {"left": "left", "middle": "middle", "summarize": "summarize", "refuse": "refuse"}


@dataclass(frozen=True, slots=True)
class OpenAiBounds:
    body: BodyBounds
    request: RequestBounds


def router(services: Services, bounds: OpenAiBounds) -> APIRouter:
    surface = Surface(services, bounds)
    routes = APIRouter(tags=["OpenAI"])
    # Under `/ollama/v1` the list is told in Ollama's words as well, which is that surface's to do.
    routes.add_api_route("/v1/models", surface.models, methods=["GET", "HEAD"])
    for prefix in ("/v1", "/ollama/v1"):
        routes.add_api_route(f"{prefix}/models/{{name:path}}", surface.model, methods=["GET", "HEAD"])
        routes.add_api_route(f"{prefix}/chat/completions", surface.chat, methods=["POST"])
        routes.add_api_route(f"{prefix}/responses", surface.respond, methods=["POST"])
        routes.add_api_route(f"{prefix}/completions", surface.complete, methods=["POST"])
        routes.add_api_route(f"{prefix}/embeddings", surface.embed, methods=["POST"])
    return routes


@dataclass(frozen=True, slots=True)
class Surface:
    services: Services
    bounds: OpenAiBounds

    async def models(self, force_refresh: bool = False) -> Response:  # noqa: FBT001, FBT002 - the framework's way
        """The models that can be named in a request, those for chats first."""
        if force_refresh:
            await self.services.browse_models.refresh()
        return Response(models_body(self.services.browse_models.everywhere()), media_type=JSON)

    async def model(self, name: str) -> Response:
        """One model."""
        return Response(model_body(self.services.browse_models.one(name)), media_type=JSON)

    async def chat(self, request: Request) -> Response:
        """Answer a conversation, whole or as a stream."""
        raw = await self._body(request)
        chat = parse_chat(raw, self.bounds.request)
        _, caller = told(request)
        unkept: tuple[str, ...] = ()
        if chat.store and not self.services.keep_completions.keeps_for(caller):
            chat, unkept = replace(chat, store=False), ("store",)
        if chat.store:
            self.services.keep_completions.refuse_large(len(raw))
        answer, stamp = await self._answered(chat, request, "chatcmpl-")
        watched = answer.events
        if chat.store:
            watched = self._kept(watched, stamp, chat, raw, caller)
        headers = losses_of(chat, answer, unkept)
        legacy = chat.tool_use.legacy
        if chat.stream:
            stream = ChatStream(stamp, include_usage=chat.include_usage, legacy=legacy)
            return EventAnswer(watched, stream.feed, error_event, headers)
        collected = await while_connected(request.receive, collect(watched))
        body = chat_body(stamp, collected, scored=chat.top_logprobs is not None, legacy=legacy)
        return Response(body, media_type=JSON, headers=headers)

    async def respond(self, request: Request) -> Response:
        """Answer a conversation in the words of the Responses API, whole or as a stream."""
        ask = parse_response(await self._body(request), self.bounds.request)
        chat = ask.chat
        try:
            answer, stamp = await self._answered(chat, request, "resp_")
        except AtriumError as error:
            raise ask.in_place(error) from None
        stream = ResponseStream(stamp, ask.asked)
        headers = losses_of(chat, answer, ())
        if chat.stream:
            return EventAnswer(answer.events, stream.feed, stream.broken, headers)
        await while_connected(request.receive, feed_all(answer.events, stream.feed))
        return Response(orjson.dumps(stream.told()), media_type=JSON, headers=headers)

    async def _answered(self, chat: Chat, request: Request, prefix: str) -> tuple[Events, Stamp]:
        """The answer on its way, with all that a chat may stand on before it."""
        exchange, caller = told(request)
        chat = self.services.personalities.put_on(chat)
        chat = replace(chat, overflow=asked_overflow(request) or chat.overflow)
        ground = self.services.documents.ground_chat(chat, caller, exchange.trail)
        chat, citations = await while_connected(request.receive, ground)
        exchange.model = self._card_name(chat.model, Ability.CHAT)
        exchange.user, exchange.metadata = chat.user, chat.metadata
        answer = await while_connected(request.receive, self.services.answer_chat(chat, caller, exchange.trail))
        exchange.model = exchange.model or exchange.trail.model
        stamp = replace(stamp_of(prefix, answer), extension=citations_object(citations))
        return replace(answer, events=Watched(answer.events, exchange)), stamp

    def _kept(self, events: EventStream, stamp: Stamp, chat: Chat, raw: bytes, caller: Caller) -> EventStream:
        async def keep(collected: Collected) -> None:
            scored, legacy = chat.top_logprobs is not None, chat.tool_use.legacy
            answer = chat_body(stamp, collected, scored=scored, legacy=legacy)
            await self.services.keep_completions.keep(kept_of(raw, answer, caller.user_id, chat.metadata))

        return Kept(events, keep)

    async def complete(self, request: Request) -> Response:
        """Continue one or several prompts."""
        completion = parse_completion(await self._body(request), self.bounds.request)
        exchange, caller = told(request)
        exchange.model = self._card_name(completion.model, Ability.COMPLETION)
        exchange.user = completion.user
        answer = await while_connected(request.receive, self.services.complete(completion, caller, exchange.trail))
        exchange.model = exchange.model or exchange.trail.model
        stamp = stamp_of("cmpl-", answer)
        watched = Watched(answer.events, exchange)
        headers = dropped_header(dropped_names(completion, answer.dropped))
        echoes = echoes_of(completion, answer.echoes)
        if completion.stream:
            stream = CompletionStream(stamp, echoes=echoes, include_usage=completion.include_usage)
            return EventAnswer(watched, stream.feed, error_event, headers)
        collected = await while_connected(request.receive, collect(watched))
        body = completion_body(stamp, collected, echoes=echoes, scored=completion.top_logprobs is not None)
        return Response(body, media_type=JSON, headers=headers)

    async def embed(self, request: Request) -> Response:
        """Vectors of texts or token ids."""
        call = parse_embed(await self._body(request), self.bounds.request)
        exchange, caller = told(request)
        exchange.model = self._card_name(call.embed.model, Ability.EMBEDDING)
        vectors = await while_connected(request.receive, self.services.embed(call.embed, caller, exchange.trail))
        exchange.model = exchange.model or exchange.trail.model
        exchange.usage, exchange.timing = vectors.usage, vectors.timing
        body = embeddings_body(vectors, as_base64=call.base64)
        return Response(body, media_type=JSON, headers=dropped_header((*call.embed.dropped, *exchange.trail.dropped)))

    async def _body(self, request: Request) -> bytes:
        if header(request.scope, b"content-type").lower().startswith(b"multipart/"):
            raise InvalidValue("This takes JSON, not a form", param=None)
        return await read_body(request.receive, self.bounds.body)

    def _card_name(self, name: str, ability: Ability) -> str:
        """Empty for a model of an endpoint, whose name there is known once it answers."""
        if name and self.services.list_models.find(name) is None and self.services.elsewhere.remote.serves(name):
            return ""
        return self.services.list_models.meant(name, ability).name


class Watched:
    """An answer's events, with what they cost noted in the request's record as they pass."""

    def __init__(self, events: EventStream, exchange: Exchange) -> None:
        self._events = events
        self._exchange = exchange

    def __aiter__(self) -> Watched:
        return self

    async def __anext__(self) -> Event:
        event = await anext(self._events)
        if isinstance(event, Begun | Spent):
            self._exchange.timing = event.timing
        if isinstance(event, Spent):
            self._exchange.usage = event.usage
        return event

    async def aclose(self) -> None:
        await self._events.aclose()


class Kept:
    """An answer's events, and the whole of it kept before its last event goes out."""

    def __init__(self, events: EventStream, keep: Callable[[Collected], Awaitable[None]]) -> None:
        self._events = events
        self._keep = keep
        self._collected = Collected()

    def __aiter__(self) -> Kept:
        return self

    async def __anext__(self) -> Event:
        event = await anext(self._events)
        self._collected.feed(event)
        if isinstance(event, Spent):
            await self._keep(self._collected)
        return event

    async def aclose(self) -> None:
        await self._events.aclose()


async def collect(events: EventStream) -> Collected:
    collected = Collected()
    await feed_all(events, collected.feed)
    return collected


async def feed_all(events: EventStream, feed: Callable[[Event], object]) -> None:
    async with aclosing(events):
        async for event in events:
            feed(event)


def losses_of(chat: Chat, answer: Events, unkept: tuple[str, ...]) -> dict[str, str]:
    """Header lines of what was dropped and left out."""
    dropped = dropped_names(chat, (*answer.dropped, *unkept))
    return {**dropped_header(dropped), **truncated_header(answer.truncated)}


def asked_overflow(request: Request) -> Overflow | None:
    """Raises InvalidValue."""
    asked = header(request.scope, b"x-atrium-truncate").decode("latin-1").strip().lower()
    if not asked:
        return None
    if asked not in OVERFLOWS:
        raise InvalidValue(f"'{TRUNCATE}' must be {', '.join(OVERFLOWS)}", param=TRUNCATE)
    return OVERFLOWS[asked]


def stamp_of(prefix: str, answer: Events) -> Stamp:
    return Stamp(f"{prefix}{secrets.token_hex(12)}", int(time.time()), answer.model, answer.fingerprint)


def echoes_of(completion: Completion, told: Sequence[Echo]) -> list[Echo]:
    """For each choice what stands in front of it; `told` are the prompts as the engine reads them, where it did."""
    shown = told or [Echo(prompt if isinstance(prompt, str) else "") for prompt in completion.prompts]
    return [echo if completion.echo else Echo() for echo in shown for _ in range(completion.choices)]
