"""A conversation that does not fit its model's window, shortened as far as the caller allows and no further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from atrium.core.endpoints import Runner
from atrium.core.errors import ContextTooLong
from atrium.core.ports import ChatDraft, Prepared
from atrium.core.requests import Chat, Overflow
from atrium.decisions.fit_context import Turn, droppable, shortened_target, too_long, without


@dataclass(frozen=True, slots=True)
class Shortened:
    prepared: Prepared
    turns: int = 0
    """How many were left out."""


async def prepare_shortened(chat: Chat, draft: ChatDraft, runner: Runner, how: Overflow) -> Shortened:
    """The whole conversation where it fits, else the longest that does.

    Each length is counted by the model's own tokenizer. The more turns are gone the shorter is the prompt, so the
    fewest that must go are found by halving. Raises ContextTooLong when what has to stay is too long.
    """
    whole = await tried(draft, runner, runner.context - 1)
    if not isinstance(whole, ContextTooLong):
        return Shortened(whole)
    if how in ("refuse", "summarize"):
        raise whole
    if chat.context:
        return await without_start(chat, draft, runner)
    turns = droppable(chat.messages, how)
    if not turns:
        raise whole
    return await fewest(chat, draft, runner, turns)


async def without_start(chat: Chat, draft: ChatDraft, runner: Runner) -> Shortened:
    """As much of the conversation before it as fits, its newest tokens; it counts as one turn.

    Raises ContextTooLong where the prompt alone is too long.
    """
    alone = await tried(draft.with_chat(replace(chat, context=())), runner, runner.context - 1)
    if isinstance(alone, ContextTooLong):
        raise alone
    room = shortened_target(runner.context, chat.sampling.max_tokens) - alone.tokens
    if room < 1:
        return Shortened(alone, 1)
    kept = draft.with_chat(replace(chat, context=chat.context[-room:]))
    return Shortened(await kept.prepare(runner), 1)


async def fewest(chat: Chat, draft: ChatDraft, runner: Runner, turns: Sequence[Turn]) -> Shortened:
    most = shortened_target(runner.context, chat.sampling.max_tokens)
    best: Shortened | None = None
    low, high = 1, len(turns)
    while low <= high:
        count = (low + high) // 2
        found = await tried(draft.with_chat(shorter(chat, turns[:count])), runner, most)
        if isinstance(found, ContextTooLong):
            low = count + 1
        else:
            best, high = Shortened(found, count), count - 1
    if best is not None:
        return best
    # The answer then gets less room than it would like.
    last = await tried(draft.with_chat(shorter(chat, turns)), runner, runner.context - 1)
    if isinstance(last, ContextTooLong):
        raise last
    return Shortened(last, len(turns))


def shorter(chat: Chat, turns: Sequence[Turn]) -> Chat:
    return replace(chat, messages=without(chat.messages, turns))


async def tried(draft: ChatDraft, runner: Runner, most: int) -> Prepared | ContextTooLong:
    """A prompt of at most so many tokens, or the reason why it is none."""
    try:
        prepared = await draft.prepare(runner)
    except ContextTooLong as error:
        return error
    if prepared.tokens <= most:
        return prepared
    return too_long(prepared.tokens, runner.context, param="messages")
