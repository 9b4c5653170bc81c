"""A model as the server's own work needs it: it counts, it writes, and it has a window. Local and remote ones alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from atrium.core.answers import Events, Spent, TextPiece, Usage
from atrium.core.endpoints import RemoteModel
from atrium.core.long_text import Written
from atrium.core.models import Ability, ModelCard
from atrium.core.people import Caller
from atrium.core.ports import Remotes
from atrium.core.requests import Chat, Dialect, Message, Sampling, Tuning
from atrium.core.trails import Trail
from atrium.decisions.resolve_name import resolve_name
from atrium.decisions.tune_card import tune_card
from atrium.services.chat import AnswerChat
from atrium.services.tokenize import Tokenize

MESSAGE = 16
"""Tokens that a template puts around a message at most."""
UNTUNED = Tuning()
BYTES_PER_TOKEN = 2.5
"""Where no tokenizer is at hand: fewer than any that we know has for text."""


class Writer(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def window(self) -> int:
        """Tokens of prompt and answer together."""
        ...

    @property
    def parallel(self) -> int:
        """Calls at the same time."""
        ...

    @property
    def exact(self) -> bool:
        """Tokens are counted by the model's own tokenizer."""
        ...

    async def count(self, text: str) -> int: ...

    async def places(self, text: str) -> tuple[Sequence[int], float]:
        """For each token of a near enough tokenizer the characters up to its end, and how many of the model's tokens
        one of these is."""
        ...

    async def write(self, messages: tuple[Message, ...], max_tokens: int, temperature: float | None) -> Written:
        """Raises ContextTooLong where the model says that it does not fit, and what a chat raises."""
        ...


def frame_of(messages: Sequence[Message]) -> str:
    return "\n".join(message.text for message in messages)


@dataclass(frozen=True, slots=True)
class LocalWriter:
    card: ModelCard
    window: int
    parallel: int
    caller: Caller
    chat: AnswerChat
    tokens: Tokenize
    tuning: Tuning
    exact: bool = True

    @property
    def name(self) -> str:
        return self.card.name

    async def count(self, text: str) -> int:
        return await self.tokens.tokenizers.count(self.card, text) if text else 0

    async def places(self, text: str) -> tuple[Sequence[int], float]:
        return await self.tokens.tokenizers.ends(self.card, text), 1.0

    async def write(self, messages: tuple[Message, ...], max_tokens: int, temperature: float | None) -> Written:
        sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
        asked = Chat(self.card.name, messages, sampling, tuning=self.tuning)
        return await whole_of(await self.chat(asked, self.caller))


@dataclass(frozen=True, slots=True)
class RemoteWriter:
    model: RemoteModel
    asked: str
    """The model as the caller named it: whichever endpoint that means may answer."""
    window: int
    parallel: int
    exact: bool
    caller: Caller
    chat: AnswerChat
    remotes: Remotes
    tokens: Tokenize

    @property
    def name(self) -> str:
        return self.model.name

    async def count(self, text: str) -> int:
        if not text:
            return 0
        if self.exact and (ids := await self.remotes.encode(self.model, text)) is not None:
            return len(ids)
        card = self.tokens.default()
        count = await self.tokens.tokenizers.count(card, text)
        return count if card else math.ceil(count / BYTES_PER_TOKEN)

    async def places(self, text: str) -> tuple[Sequence[int], float]:
        ends = await self.tokens.tokenizers.ends(self.tokens.default(), text)
        return ends, await self.count(text) / max(1, len(ends))

    async def write(self, messages: tuple[Message, ...], max_tokens: int, temperature: float | None) -> Written:
        asked = Chat(self.asked, messages, Sampling(temperature=temperature, max_tokens=max_tokens))
        if self.model.kind.speaks_ollama:
            # It cuts what its window does not hold in silence, and the window is what it was last loaded with.
            tuning = Tuning(context=self.window)
            asked = replace(asked, dialect=Dialect.OLLAMA, tuning=tuning, overflow="refuse")
        written = await whole_of(await self.chat(asked, self.caller, Trail(lossy=True)))
        if written.usage.prompt_tokens:
            return written
        return replace(written, usage=Usage(await self.count(frame_of(messages)), await self.count(written.text)))


async def whole_of(answer: Events) -> Written:
    said: list[str] = []
    usage = Usage()
    async with aclosing(answer.events) as events:
        async for event in events:
            if isinstance(event, TextPiece):
                said.append(event.text)
            elif isinstance(event, Spent):
                usage = event.usage
    return Written("".join(said), usage)


@dataclass(frozen=True, slots=True)
class Writers:
    tokens: Tokenize
    chat: AnswerChat
    remotes: Remotes
    local_parallel: int
    remote_parallel: int

    async def of(self, name: str, caller: Caller, tuning: Tuning = UNTUNED) -> Writer:
        """`tuning`: how the model is to be run; a window that is asked for is had only where that is possible.

        Raises ModelNotFound, ModelLoading, ModelUnavailable, EngineMissing; InvalidValue for no chat model."""
        meant = self.tokens.meant(name)
        if isinstance(meant, ModelCard):
            resolve_name(meant.name, self.tokens.models.snapshot(), Ability.CHAT)
            window = self.tokens.engines.planned(tune_card(meant, tuning)).context
            return LocalWriter(meant, window, self.local_parallel, caller, self.chat, self.tokens, tuning)
        window = await self.window(meant, tuning)
        exact = await self.remotes.encode(meant, "a") is not None
        asked = name or meant.name
        parallel = self.remote_parallel
        return RemoteWriter(meant, asked, window, parallel, exact, caller, self.chat, self.remotes, self.tokens)

    async def window(self, model: RemoteModel, tuning: Tuning) -> int:
        """An endpoint that speaks Ollama's API loads a model with the window that a request asks for."""
        if model.kind.speaks_ollama and tuning.context:
            return tuning.context
        return await self.remotes.window(model)
