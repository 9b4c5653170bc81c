"""Ollama's API: `/api` and the same under `/ollama/api`. Source: contract `ollama.md`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from atrium import __version__
from atrium.core.answers import Events, EventStream, Vectors
from atrium.core.errors import ContextTooLong, InvalidValue, ModelNotFound
from atrium.core.models import Ability, ModelCard
from atrium.core.requests import Chat, Completion, Dialect, Overflow, Think
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.llamacpp.known_templates import can_think
from atrium.dialects.ollama.answer import (
    AnswerLines,
    Members,
    Stamp,
    WholeAnswer,
    chat_members,
    error_line,
    generate_members,
    wordless_body,
)
from atrium.dialects.ollama.listings import embed_body, embedding_body, nothing_embedded, version_body
from atrium.dialects.ollama.request import Ask, EmbedAsk, parse_chat, parse_embed, parse_embeddings, parse_generate
from atrium.http.edge import Exchange, dropped_header, truncated_header
from atrium.http.reading import read_body, while_connected
from atrium.http.scope import told
from atrium.http.streaming import LineAnswer
from atrium.http.surfaces.openai import OpenAiBounds, Watched, asked_overflow
from atrium.services.promises import Services

JSON = "application/json"
RUNNING = "Ollama is running"
ROOTS = ("/api", "/ollama/api")
"""Stands in the template of a model that can think."""


def router(services: Services, bounds: OpenAiBounds) -> APIRouter:
    surface = Surface(services, bounds)
    routes = APIRouter(tags=["Ollama"])
    for place in ("/", "/ollama", "/ollama/"):
        routes.add_api_route(place, running, methods=["GET", "HEAD"], include_in_schema=False)
    for root in ROOTS:
        routes.add_api_route(f"{root}/version", version, methods=["GET", "HEAD"])
        routes.add_api_route(f"{root}/chat", surface.chat, methods=["POST"])
        routes.add_api_route(f"{root}/generate", surface.generate, methods=["POST"])
        routes.add_api_route(f"{root}/embed", surface.embed, methods=["POST"])
        routes.add_api_route(f"{root}/embeddings", surface.embeddings, methods=["POST"])
    return routes


async def running() -> Response:
    """What Ollama's clients look for before they ask anything."""
    return Response(RUNNING, media_type="text/plain")


async def version() -> Response:
    """The level of Ollama's API that is spoken; Atrium's own version is in the head."""
    return Response(version_body(), media_type=JSON, headers={"X-Atrium-Version": __version__})


def stamp_of(model: str, exchange: Exchange) -> Stamp:
    return Stamp(model, this_moment, lambda: time.monotonic() - exchange.started)


def this_moment() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Surface:
    services: Services
    bounds: OpenAiBounds

    async def chat(self, request: Request) -> Response:
        """Answer a conversation; without messages only load the model."""
        return await self._answer(request, parse_chat, chat_members)

    async def generate(self, request: Request) -> Response:
        """Answer a prompt; without one only load the model."""
        return await self._answer(request, parse_generate, generate_members)

    async def embed(self, request: Request) -> Response:
        """Vectors of texts."""
        exchange, _ = told(request)
        ask = parse_embed(await self._body(request), self.bounds.request)
        vectors = await self._embedded(request, ask)
        seconds = time.monotonic() - exchange.started
        body = embed_body(vectors, seconds) if vectors else nothing_embedded(ask.model, seconds)
        return Response(body, media_type=JSON, headers=dropped_header(exchange.trail.dropped))

    async def embeddings(self, request: Request) -> Response:
        """The vector of one text, as older clients ask for it."""
        exchange, _ = told(request)
        ask = parse_embeddings(await self._body(request), self.bounds.request)
        body = embedding_body(await self._embedded(request, ask))
        return Response(body, media_type=JSON, headers=dropped_header(exchange.trail.dropped))

    async def _answer(
        self, request: Request, parse: Callable[[bytes, RequestBounds], Ask], members: Members
    ) -> Response:
        exchange, _ = told(request)
        ask = parse(await self._body(request), self.bounds.request)
        said = with_overflow(ask.said, asked_overflow(request))
        verb = "chat" if members is chat_members else "generate"
        # Whatever a model can do, it can go.
        wanted = None if ask.wordless and said.keep_alive == 0 else Ability.CHAT
        card = self._card(said.model, wanted, verb)
        exchange.model = card.name if card else ""
        stamp = stamp_of(said.model, exchange)
        if ask.wordless:
            reason = await while_connected(request.receive, self._wordless(card, said, request))
            return Response(wordless_body(stamp, members, reason), media_type=JSON)
        if card is not None:
            check_abilities(said, card)
        answer = await while_connected(request.receive, self._begun(said, request))
        exchange.model = exchange.model or exchange.trail.model
        headers = {**dropped_header(answer.dropped), **truncated_header(answer.truncated)}
        watched = Watched(answer.events, exchange)
        hides = isinstance(said, Chat) and said.think is Think.OFF
        if said.stream:
            return LineAnswer(watched, AnswerLines(stamp, members, hides_thinking=hides).feed, error_line, headers)
        whole = WholeAnswer(stamp, members, hides_thinking=hides)
        await while_connected(request.receive, gathered(watched, whole))
        return Response(whole.body, media_type=JSON, headers=headers)

    async def _begun(self, said: Chat | Completion, request: Request) -> Events:
        exchange, caller = told(request)
        if isinstance(said, Chat):
            return await self.services.answer_chat(said, caller, exchange.trail)
        return await self.services.complete(said, caller, exchange.trail)

    async def _wordless(self, card: ModelCard | None, said: Chat | Completion, request: Request) -> str:
        """Nothing was said: the model is only to be ready, or to go."""
        exchange, caller = told(request)
        goes = said.keep_alive == 0
        if card is None:
            chat = Chat(said.model, (), keep_alive=said.keep_alive, tuning=said.tuning, dialect=Dialect.OLLAMA)
            await self.services.load_model.elsewhere(chat, caller, exchange.trail)
        elif goes:
            await self.services.load_model.unload(card, caller)
        else:
            await self.services.load_model.load(card, caller, said.keep_alive, said.tuning)
        return "unload" if goes else "load"

    async def _embedded(self, request: Request, ask: EmbedAsk) -> Vectors | None:
        exchange, caller = told(request)
        card = self._card(ask.model, Ability.EMBEDDING, "embeddings")
        exchange.model = card.name if card else ""
        if ask.embed is None:
            return None
        try:
            vectors = await while_connected(request.receive, self.services.embed(ask.embed, caller, exchange.trail))
        except ContextTooLong as long:
            message = f"the input length exceeds the context length: {long.message}"
            raise ContextTooLong(message, hint=long.hint, param=long.param) from None
        exchange.model = exchange.model or exchange.trail.model
        exchange.usage, exchange.timing = vectors.usage, vectors.timing
        return vectors

    async def _body(self, request: Request) -> bytes:
        return await read_body(request.receive, self.bounds.body)

    def _card(self, name: str, ability: Ability | None, verb: str) -> ModelCard | None:
        """None for a model of an endpoint. Raises ModelNotFound, ModelLoading, InvalidValue, in Ollama's own words.

        `ability`: None where any will do.
        """
        listing = self.services.list_models
        card = listing.find(name)
        if card is None and self.services.elsewhere.remote.serves(name):
            return None
        if card is None:
            try:
                return listing.meant(name, ability or Ability.CHAT)
            except ModelNotFound:
                raise ModelNotFound(f"model '{name[:200]}' not found", param="model") from None
        if ability is not None and ability not in card.abilities:
            raise InvalidValue(f'"{name}" does not support {verb}', param="model")
        return card


def with_overflow(said: Chat | Completion, asked: Overflow | None) -> Chat | Completion:
    """A prompt that no template is to touch has no turns that could be left out."""
    return replace(said, overflow=asked) if asked and isinstance(said, Chat) else said


def check_abilities(said: Chat | Completion, card: ModelCard) -> None:
    """Raises InvalidValue, in Ollama's own words."""
    if isinstance(said, Completion):
        if said.suffix:
            raise InvalidValue(f'"{said.model}" does not support insert', param="suffix")
        if said.images:
            raise InvalidValue(f'"{said.model}" does not take images without its template', param="images")
    elif said.think not in (None, Think.OFF) and not can_think(card):
        raise InvalidValue(f'"{said.model}" does not support thinking', param="think")


async def gathered(events: EventStream, whole: WholeAnswer) -> None:
    async with aclosing(events):
        async for event in events:
            whole.feed(event)
