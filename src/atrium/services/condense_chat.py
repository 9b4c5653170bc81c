"""A conversation that does not fit its model's window goes on with a summary of its older turns, where it may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from atrium.core.answers import Events
from atrium.core.errors import ContextTooLong
from atrium.core.long_text import LongText
from atrium.core.models import Ability
from atrium.core.people import Caller
from atrium.core.requests import Chat, Message, Overflow, Role
from atrium.core.trails import Beside, Trail
from atrium.decisions.fit_context import Turn, droppable, shortened_target, without
from atrium.decisions.resolve_name import resolve_name
from atrium.services.chat import AnswerChat
from atrium.services.long_context import LongContext
from atrium.services.writers import MESSAGE, Writer

NOTE_SHARE, LONGEST_NOTE = 8, 1024
"""A summary has at most an eighth of the window."""
REQUEST = (
    "Summarise this conversation so that it can go on without it: what was asked, what was answered, what was agreed, "
    "names, numbers, what is still open."
)
HEADING = "Summary of the conversation so far, whose older turns are left out:\n"
SPEAKERS = {Role.USER: "User", Role.ASSISTANT: "Assistant", Role.TOOL: "Tool", Role.SYSTEM: "System"}


@dataclass(frozen=True, slots=True)
class CondenseChat:
    answer_chat: AnswerChat
    long_context: LongContext

    async def __call__(self, chat: Chat, caller: Caller, trail: Trail | None = None) -> Events:
        """Raises what an answer raises; ContextTooLong also where what has to stay is too long."""
        how = chat.overflow or self._policy(chat.model)
        if how != "summarize":
            return await self.answer_chat(chat, caller, trail)
        try:
            return await self.answer_chat(replace(chat, overflow="refuse"), caller, trail)
        except ContextTooLong as too_long:
            turns = droppable(chat.messages, "left")
            if not turns:
                raise
            try:
                return await self._condensed(chat, caller, turns, trail or Trail())
            except ContextTooLong:
                raise too_long from None

    def _policy(self, name: str) -> Overflow:
        """Of a local model its own, where it has one; raises what naming a model raises."""
        catalog = self.answer_chat.models.snapshot()
        if self.answer_chat.elsewhere.answers(name, catalog, Ability.CHAT):
            return self.answer_chat.overflow.default
        return self.answer_chat.overflow.of(resolve_name(name, catalog, Ability.CHAT))

    async def _condensed(self, chat: Chat, caller: Caller, turns: Sequence[Turn], trail: Trail) -> Events:
        writer = await self.long_context.writers.of(chat.model, caller)
        note = max(1, min(LONGEST_NOTE, writer.window // NOTE_SHARE))
        most = shortened_target(writer.window, chat.sampling.max_tokens) - note - MESSAGE
        gone = await leaving(chat, turns, writer, most)
        asked = LongText(transcript(chat.messages, gone), REQUEST, chat.model, note)
        summary = Message(Role.SYSTEM, HEADING + await self._summary(asked, caller, trail))
        kept = without(chat.messages, gone)
        first = next((place for place, message in enumerate(kept) if message.role is not Role.SYSTEM), len(kept))
        messages = (*kept[:first], summary, *kept[first:])
        answer = await self.answer_chat(replace(chat, messages=messages, overflow="left"), caller, trail)
        return replace(answer, truncated=answer.truncated + len(gone))

    async def _summary(self, asked: LongText, caller: Caller, trail: Trail) -> str:
        work = await self.long_context.plan(asked, caller, beside=True)
        work.begin()
        try:
            return (await work.run()).result.strip()
        finally:
            work.end()
            trail.beside.append(Beside(work.writer.name, "", work.usage))


async def leaving(chat: Chat, turns: Sequence[Turn], writer: Writer, most: int) -> tuple[Turn, ...]:
    """The oldest turns, as many as must go for the rest to have at most so many tokens; at least one."""
    lengths = [await writer.count(message.text) + MESSAGE for message in chat.messages]
    size = sum(lengths)
    gone: list[Turn] = []
    for turn in turns:
        if gone and size <= most:
            break
        size -= sum(lengths[place] for place in turn)
        gone.append(turn)
    return tuple(gone)


def transcript(messages: Sequence[Message], turns: Sequence[Turn]) -> str:
    spoken = [messages[place] for turn in turns for place in turn]
    return "\n\n".join(f"{SPEAKERS[message.role]}: {said(message)}" for message in spoken)


def said(message: Message) -> str:
    """With the calls that it made."""
    calls = (f"(calls {call.name} with {call.arguments})" for call in message.tool_calls)
    return " ".join(part for part in (message.text, *calls) if part)
