"""Asking an endpoint in its own dialect, whatever the caller's was: what is written, where it goes, how it is read."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from atrium.core.answers import Embedded
from atrium.core.errors import Unsupported
from atrium.core.requests import Chat, Completion, Constraint, Dialect, Embed, Prompt
from atrium.dialects.loss import Loss
from atrium.dialects.ollama import inward as ollama_in
from atrium.dialects.ollama import outward as ollama_out
from atrium.dialects.openai import inward as openai_in
from atrium.dialects.openai import outward as openai_out
from atrium.dialects.reading import AnswerReader, Reading
from atrium.dialects.thoughts import ThoughtfulReader
from atrium.relay.album import Album
from atrium.relay.directory import Endpoint

MOST_CALLS = 512
"""Calls that an endpoint may make in one answer, where the caller set no bound."""


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint with the model's name there."""

    endpoint: Endpoint
    model: str

    @property
    def kind(self) -> str:
        return self.endpoint.spec.kind.name

    @property
    def window(self) -> int:
        offered = self.endpoint.offered.get(self.model)
        return offered.context if offered else 0

    def dialect(self, caller: Dialect) -> Dialect:
        """The caller's own where the endpoint speaks it."""
        endpoint = self.endpoint
        if endpoint.speaks(caller):
            return caller
        return Dialect.OPENAI if endpoint.speaks(Dialect.OPENAI) else Dialect.OLLAMA


@dataclass(frozen=True, slots=True)
class Written:
    path: str
    body: bytes


class Errand(Protocol):
    """What is to be asked, of whichever endpoint it comes to."""

    @property
    def model(self) -> str: ...

    @property
    def caller(self) -> Dialect:
        """The dialect that the caller spoke."""
        ...

    @property
    def stream(self) -> bool: ...

    def wire(self, place: Place) -> Dialect:
        """The dialect that the endpoint is asked in."""
        ...

    async def write(self, place: Place, loss: Loss) -> Written:
        """Raises Unsupported, InvalidValue."""
        ...


@dataclass(frozen=True, slots=True)
class ChatErrand:
    chat: Chat
    choice: int
    album: Album

    @property
    def model(self) -> str:
        return self.chat.model

    @property
    def caller(self) -> Dialect:
        return self.chat.dialect

    @property
    def stream(self) -> bool:
        return self.chat.stream

    def wire(self, place: Place) -> Dialect:
        # Only in Ollama's own words an endpoint of its kind can be told not to cut what does not fit.
        settled = self.chat.overflow is not None and place.endpoint.speaks(Dialect.OLLAMA)
        return Dialect.OLLAMA if settled else place.dialect(self.caller)

    async def write(self, place: Place, loss: Loss) -> Written:
        if self.wire(place) is Dialect.OLLAMA:
            chat, version = replace(self.chat, messages=await self.album.pasted()), place.endpoint.version
            if is_generation(chat):
                return Written("/api/generate", ollama_out.write_generate(chat, place.model, version, loss))
            return Written("/api/chat", ollama_out.write_chat(chat, place.model, version, loss))
        openai_out.check_window(self.chat.tuning, place.window, loss)
        return Written("/v1/chat/completions", openai_out.write_chat(self.chat, place.model, place.kind, loss))

    def reader(self, place: Place) -> AnswerReader:
        chat = self.chat
        # More than one is bounded for the sake of small models here; an endpoint knows its own.
        reading = reading_of(self.choice, chat.constraint, 1 if chat.tool_use.most_calls == 1 else MOST_CALLS)
        if self.wire(place) is Dialect.OPENAI:
            return ThoughtfulReader(openai_in.ChatReader(reading, stream=chat.stream), self.choice)
        forced = ollama_out.forced_call(chat)
        told = reading if forced is None else replace(reading, forced={"name": forced.tool})
        return ThoughtfulReader(ollama_in.ChatReader(told), self.choice)


@dataclass(frozen=True, slots=True)
class LoadErrand(ChatErrand):
    """A chat without words: the model is to be ready, or to go."""

    async def write(self, place: Place, loss: Loss) -> Written:
        if self.wire(place) is not Dialect.OLLAMA:
            raise Unsupported("The endpoint loads its models as it sees fit", param="model")
        return await ChatErrand.write(self, place, loss)


@dataclass(frozen=True, slots=True)
class CompletionErrand:
    completion: Completion
    prompt: Prompt
    choice: int

    @property
    def model(self) -> str:
        return self.completion.model

    @property
    def caller(self) -> Dialect:
        return self.completion.dialect

    @property
    def stream(self) -> bool:
        return self.completion.stream

    def wire(self, place: Place) -> Dialect:
        return place.dialect(self.caller)

    async def write(self, place: Place, loss: Loss) -> Written:
        if self.wire(place) is Dialect.OLLAMA:
            version = place.endpoint.version
            body = ollama_out.write_completion(self.completion, self.prompt, place.model, version, loss)
            return Written("/api/generate", body)
        openai_out.check_window(self.completion.tuning, place.window, loss)
        return Written(*openai_out.write_completion(self.completion, self.prompt, place.model, place.kind, loss))

    def reader(self, place: Place) -> AnswerReader:
        reading = reading_of(self.choice, self.completion.constraint, MOST_CALLS)
        if self.wire(place) is Dialect.OPENAI:
            return openai_in.ChatReader(reading, stream=self.stream)
        return ollama_in.ChatReader(reading)


@dataclass(frozen=True, slots=True)
class EmbedErrand:
    embed: Embed
    stream: bool = False

    @property
    def model(self) -> str:
        return self.embed.model

    @property
    def caller(self) -> Dialect:
        return self.embed.dialect

    def wire(self, place: Place) -> Dialect:
        return place.dialect(self.caller)

    async def write(self, place: Place, loss: Loss) -> Written:
        if self.wire(place) is Dialect.OLLAMA:
            return Written("/api/embed", ollama_out.write_embed(self.embed, place.model, loss))
        return Written("/v1/embeddings", openai_out.write_embed(self.embed, place.model, loss))

    def read(self, place: Place, body: bytes) -> Embedded:
        """Raises BadResponse."""
        wanted = len(self.embed.inputs)
        if self.wire(place) is Dialect.OLLAMA:
            return ollama_in.embeddings_of(body, wanted)
        return openai_in.embeddings_of(body, wanted)


def is_generation(chat: Chat) -> bool:
    """One prompt, and before it nothing but the system's words; a summary that stands there makes it a chat."""
    return chat.wants_context and len(chat.messages) <= 2


def reading_of(choice: int, shape: Constraint, most_calls: int) -> Reading:
    return Reading(choice, fresh_ids(), most_calls, shape)


def fresh_ids() -> Callable[[int], str]:
    """Unguessable ids of calls, in the form that OpenAI's clients know."""
    prefix = f"call_{secrets.token_hex(10)}"
    return lambda index: f"{prefix}{index:04d}"
