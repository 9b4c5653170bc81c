"""Every use of a model by way of its quotas and its key's scopes, whoever answers it and in whatever dialect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

from atrium.core.answers import CallPiece, Event, Events, EventStream, ReasoningPiece, Spent, TextPiece, Usage, Vectors
from atrium.core.models import Ability
from atrium.core.people import Caller
from atrium.core.ports import Models
from atrium.core.quotas import Worst
from atrium.core.requests import Chat, Completion, Embed, Prompt
from atrium.core.trails import Trail
from atrium.decisions.allow import check_model
from atrium.decisions.resolve_name import candidates
from atrium.services.meter import Hold, Meter

CHARACTERS = 3
"""Of a text make a token or more, in the worst case that is worth planning for; settled to what it really was."""
TEMPLATE = 8
"""Tokens that a message's template may add."""
PLANNED = 32_768
"""Tokens that are planned for an answer without a bound, by a model whose window is not known here."""


Embedding = Callable[[], Awaitable[Vectors]]
Asking = Callable[[int | None], Awaitable[Events]]
"""Asks for an answer of so many tokens at most; None: no bound but the window."""


class Chats(Protocol):
    async def __call__(self, chat: Chat, caller: Caller, trail: Trail | None = None) -> Events: ...


class Completions(Protocol):
    async def __call__(self, completion: Completion, caller: Caller, trail: Trail | None = None) -> Events: ...


class Embeddings(Protocol):
    async def __call__(self, embed: Embed, caller: Caller, trail: Trail | None = None) -> Vectors: ...


@dataclass(frozen=True, slots=True)
class Usher:
    """Lets a caller to a model."""

    models: Models
    meter: Meter

    def names(self, caller: Caller, name: str, ability: Ability) -> tuple[str, ...]:
        """As the caller wrote it, and all that it may mean. Raises Forbidden where the key is not for the model."""
        names = self.meant(name, ability)
        check_model(caller, names)
        return names

    def meant(self, name: str, ability: Ability) -> tuple[str, ...]:
        return tuple(dict.fromkeys((name, *candidates(name, self.models.snapshot(), ability))))

    def window(self, names: tuple[str, ...]) -> int | None:
        """Tokens that an answer may have because its model has no room for more; None where that is not known here."""
        cards = self.models.snapshot().cards
        card = next((cards[name] for name in names if name in cards), None)
        return (card.config.context or card.facts.dimensions.trained_context or None) if card else None

    async def answer(self, names: tuple[str, ...], size: Size, ask: Asking, trail: Trail | None) -> Events:
        """What `ask` gives, within the caller's quotas. An answer without a bound of its own is bound by what they have
        left; `ask` is told it. Raises RateLimited, and what `ask` raises."""
        worst = size.worst(self.window(names))
        hold = self.meter.use(size.caller, names, worst)
        try:
            limit = size.limit
            if limit is None and hold.granted is not None and hold.granted < worst.most:
                limit = max(1, (hold.granted - size.prompt) // size.answers)
            answer = await ask(limit)
        except BaseException:
            hold.settle(0, counts=False)
            raise
        return replace(answer, events=MeteredEvents(answer.events, hold, size.prompt, trail))

    async def embed(
        self,
        names: tuple[str, ...],
        embed: Embed,
        caller: Caller,
        ask: Embedding,
        *,
        asked: bool,
    ) -> tuple[Vectors, Usage]:
        """What `ask` gives, within the caller's quotas, and what it used: as told, else as reckoned.

        `asked`: it counts as a request of the caller's. Raises RateLimited, and what `ask` raises.
        """
        tokens = sum(tokens_of(one) for one in embed.inputs)
        hold = self.meter.use(caller, names, Worst(tokens, tokens), asked=asked)
        try:
            vectors = await ask()
        except BaseException:
            hold.settle(0, counts=False)
            raise
        usage = vectors.usage if vectors.usage.prompt_tokens else Usage(tokens)
        hold.settle(usage.prompt_tokens, counts=True)
        return vectors, usage


@dataclass(frozen=True, slots=True)
class Size:
    """Of what a caller asks for, in tokens at most."""

    caller: Caller
    prompt: int
    answers: int
    limit: int | None
    """Of each answer."""

    def worst(self, window: int | None) -> Worst:
        if self.limit is None:
            return Worst(self.prompt + self.answers, self.prompt + self.answers * (window or PLANNED))
        most = self.prompt + self.answers * min(self.limit, window or self.limit)
        return Worst(most, most)


@dataclass(frozen=True, slots=True)
class MeteredChat:
    chats: Chats
    usher: Usher

    async def __call__(self, chat: Chat, caller: Caller, trail: Trail | None = None) -> Events:
        """Raises Forbidden, RateLimited, and what the chat raises."""
        names = self.usher.names(caller, chat.model, Ability.CHAT)
        prompt = sum(tokens_of(message.text) + TEMPLATE for message in chat.messages)

        def ask(limit: int | None) -> Awaitable[Events]:
            return self.chats(replace(chat, sampling=replace(chat.sampling, max_tokens=limit)), caller, trail)

        size = Size(caller, prompt, chat.choices, chat.sampling.max_tokens)
        return await self.usher.answer(names, size, ask, trail)


@dataclass(frozen=True, slots=True)
class MeteredCompletion:
    completions: Completions
    usher: Usher

    async def __call__(self, completion: Completion, caller: Caller, trail: Trail | None = None) -> Events:
        """Raises as MeteredChat does."""
        names = self.usher.names(caller, completion.model, Ability.COMPLETION)
        prompt = sum(tokens_of(one) for one in completion.prompts)
        answers = len(completion.prompts) * max(completion.best_of, completion.choices)

        def ask(limit: int | None) -> Awaitable[Events]:
            sampling = replace(completion.sampling, max_tokens=limit)
            return self.completions(replace(completion, sampling=sampling), caller, trail)

        return await self.usher.answer(names, Size(caller, prompt, answers, completion.sampling.max_tokens), ask, trail)


@dataclass(frozen=True, slots=True)
class MeteredEmbedding:
    embeddings: Embeddings
    usher: Usher

    async def __call__(self, embed: Embed, caller: Caller, trail: Trail | None = None) -> Vectors:
        """Raises as MeteredChat does."""
        names = self.usher.names(caller, embed.model, Ability.EMBEDDING)
        vectors, usage = await self.usher.embed(
            names, embed, caller, lambda: self.embeddings(embed, caller, trail), asked=True
        )
        if not vectors.usage.prompt_tokens and trail is not None:
            trail.estimated = usage
        return vectors


class MeteredEvents:
    """An answer's events; closed, it settles what was really used, also of an answer that was left in its midst."""

    def __init__(self, events: EventStream, hold: Hold, prompt: int, trail: Trail | None) -> None:
        self._events = events
        self._hold = hold
        self._prompt = prompt
        self._pieces = 0
        self._told = 0
        """Tokens that the endpoint or the engine told of."""
        self._trail = trail

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await anext(self._events)
        if isinstance(event, Spent):
            self._told = event.usage.prompt_tokens + event.usage.completion_tokens
        elif isinstance(event, TextPiece | ReasoningPiece | CallPiece):
            self._pieces += 1
        return event

    async def aclose(self) -> None:
        # An endpoint that tells nothing has not used nothing.
        self._hold.settle(self._told or self._prompt + self._pieces, counts=True)
        if not self._told and self._trail is not None:
            self._trail.estimated = Usage(self._prompt, self._pieces)
        await self._events.aclose()


def tokens_of(text: Prompt) -> int:
    """At most about as many."""
    return len(text.encode("utf-8", "replace")) // CHARACTERS + 1 if isinstance(text, str) else len(text)
