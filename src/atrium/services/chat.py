"""The promise behind every chat, whatever dialect it came in."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from atrium.core.answers import Events
from atrium.core.errors import InvalidValue
from atrium.core.models import Ability, ModelCard
from atrium.core.people import Caller
from atrium.core.ports import ChatDraft, Engines, Lease, Models, Pictures, Relay
from atrium.core.requests import Chat, Message
from atrium.core.trails import Trail
from atrium.decisions.choose_overflow import Overflows
from atrium.decisions.fill_request import fill_chat
from atrium.decisions.fit_context import fit_context
from atrium.decisions.resolve_name import resolve_name
from atrium.decisions.tune_card import tune_card
from atrium.services.elsewhere import Elsewhere
from atrium.services.generation import Held, Part, begin
from atrium.services.leasing import Leasing
from atrium.services.shortening import prepare_shortened

SEES = {"image": Ability.VISION}


@dataclass(frozen=True, slots=True)
class AnswerChat:
    models: Models
    engines: Engines
    relay: Relay
    pictures: Pictures
    elsewhere: Elsewhere
    answer_timeout: float
    """Seconds for one whole answer."""
    overflow: Overflows

    async def __call__(self, chat: Chat, caller: Caller, trail: Trail | None = None) -> Events:
        """Returns once the response head is here, so an error raised here is still a plain answer.

        Raises ModelNotFound, ModelLoading, InvalidValue, InvalidSchema, Unsupported, ContextTooLong, QueueFull,
        NotEnoughMemory, EngineFailed, EngineMissing, UpstreamTimeout, ShuttingDown; and for a model of an endpoint
        what an opened `Remote.chat` raises. On `trail` is noted where it went.
        """
        catalog = self.models.snapshot()
        if self.elsewhere.answers(chat.model, catalog, Ability.CHAT):
            return await self.elsewhere.chat(chat, trail or Trail())
        card = resolve_name(chat.model, catalog, Ability.CHAT)
        card = tune_card(card, chat.tuning)
        refuse_media(chat, card)
        chat = await self._seen(chat)
        chat = fill_chat(chat, card.config)
        draft = await self.relay.draft_chat(chat, card)

        async def act(lease: Lease, stack: AsyncExitStack) -> Events:
            return await self._open(chat, draft, lease, stack)

        return await Leasing(self.engines).run(card, caller, chat.keep_alive, act)

    async def _seen(self, chat: Chat) -> Chat:
        """With the files of its pictures. Raises InvalidValue that names the part."""
        media = [one for message in chat.messages for one in message.media]
        if not media:
            return chat
        if len(media) > self.pictures.most:
            message = f"The chat has {len(media)} images; at most {self.pictures.most} are taken"
            raise InvalidValue(message, param=media[self.pictures.most].place)
        messages: list[Message] = []
        for message in chat.messages:
            read = [replace(one, data=await self.pictures.read(one)) for one in message.media]
            messages.append(replace(message, media=tuple(read)))
        return replace(chat, messages=tuple(messages))

    async def _open(self, chat: Chat, draft: ChatDraft, lease: Lease, stack: AsyncExitStack) -> Events:
        deadline = asyncio.get_running_loop().time() + self.answer_timeout
        how = self.overflow.of(chat, lease.runner.card)
        shortened = await prepare_shortened(chat, draft, lease.runner, how)
        prepared = shortened.prepared
        room = fit_context(prepared.tokens, lease.runner.context, chat.sampling.max_tokens, param="messages")
        parts = [Part(choice, prepared, room, chat.sampling.seed_of(choice)) for choice in range(chat.choices)]
        events = await begin(parts, Held(stack, lease, deadline))
        name = chat.model or lease.runner.card.name
        dropped = (*draft.dropped, *chat.tuning.unmet)
        return Events(name, lease.runner.fingerprint, events, dropped, shortened.turns)


def refuse_media(chat: Chat, card: ModelCard) -> None:
    """Before anything is fetched or loaded. Raises InvalidValue."""
    for message in chat.messages:
        for media in message.media:
            if SEES.get(media.kind) not in card.abilities:
                raise InvalidValue(f"The model '{card.name}' takes no {media.kind}", param=media.place)
