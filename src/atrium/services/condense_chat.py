"""A conversation that does not fit its model's window goes on without its older turns, or with a summary of them.

For models here only summaries are made here: what else may be left out is left out where the prompt is counted. An
endpoint cuts in silence, or refuses, so what is sent to it is counted first.
"""

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
SHARES = (1.0, 0.75, 0.5)
"""Of what our own count has room for; an endpoint may count otherwise."""
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
        trail = trail or Trail()
        answer_chat = self.answer_chat
        catalog = answer_chat.models.snapshot()
        if answer_chat.elsewhere.answers(chat.model, catalog, Ability.CHAT):
            return await self._elsewhere(chat, caller, trail, answer_chat.overflow.named(chat, chat.model))
        if answer_chat.overflow.of(chat, resolve_name(chat.model, catalog, Ability.CHAT)) != "summarize":
            return await self.answer_chat(chat, caller, trail)
        try:
            return await self.answer_chat(replace(chat, overflow="refuse"), caller, trail)
        except ContextTooLong as too_long:
            turns = droppable(chat.messages, "left")
            if not (turns or chat.context):
                raise
            try:
                if chat.context:
                    return await self._after_summary(chat, caller, trail)
                return await self._condensed(chat, caller, turns, trail)
            except ContextTooLong:
                raise too_long from None

    async def _elsewhere(self, chat: Chat, caller: Caller, trail: Trail, how: Overflow) -> Events:
        # What is sent is to be refused where it does not fit after all, whoever counted wrong.
        chat = replace(chat, overflow="refuse")
        turns = () if how == "refuse" else droppable(chat.messages, how)
        if not turns:
            return await self.answer_chat(chat, caller, trail)
        if not await self._overflows(chat, caller):
            try:
                return await self.answer_chat(chat, caller, trail)
            except ContextTooLong:
                # It counts otherwise than we do.
                pass
        if how == "summarize":
            return await self._condensed(chat, caller, turns, trail)
        return await self._shortened(chat, caller, turns, trail)

    async def _overflows(self, chat: Chat, caller: Caller) -> bool:
        writer = await self._writer(chat, caller)
        room = writer.window - (chat.sampling.max_tokens or 1)
        size = sum(len(message.text.encode("utf-8", "replace")) + MESSAGE for message in chat.messages)
        if size <= room:
            # No token is less than a byte, so most chats need not be counted.
            return False
        return sum(await lengths_of(chat, writer)) > room

    async def _writer(self, chat: Chat, caller: Caller) -> Writer:
        return await self.long_context.writers.of(chat.model, caller, chat.tuning)

    async def _shortened(self, chat: Chat, caller: Caller, turns: Sequence[Turn], trail: Trail) -> Events:
        """Without ever more turns, for as long as the endpoint finds it too long."""
        writer = await self._writer(chat, caller)
        lengths = await lengths_of(chat, writer)
        most = shortened_target(writer.window, chat.sampling.max_tokens)
        *shares, last = SHARES
        for share in shares:
            try:
                return await self._without(chat, caller, leaving(lengths, turns, int(most * share)), trail)
            except ContextTooLong:
                continue
        return await self._without(chat, caller, leaving(lengths, turns, int(most * last)), trail)

    async def _without(self, chat: Chat, caller: Caller, gone: Sequence[Turn], trail: Trail) -> Events:
        answer = await self.answer_chat(replace(chat, messages=without(chat.messages, gone)), caller, trail)
        return replace(answer, truncated=answer.truncated + len(gone))

    async def _condensed(self, chat: Chat, caller: Caller, turns: Sequence[Turn], trail: Trail) -> Events:
        writer = await self._writer(chat, caller)
        note = longest_note(writer)
        most = shortened_target(writer.window, chat.sampling.max_tokens) - note - MESSAGE
        gone = leaving(await lengths_of(chat, writer), turns, most)
        asked = LongText(transcript(chat.messages, gone), REQUEST, chat.model, note, tuning=chat.tuning)
        messages = noted(without(chat.messages, gone), await self._summary(asked, caller, trail))
        return await self._goes_on(replace(chat, messages=messages), caller, trail, len(gone))

    async def _after_summary(self, chat: Chat, caller: Caller, trail: Trail) -> Events:
        """In place of the tokens of the conversation before it, which counts as one turn."""
        writer = await self._writer(chat, caller)
        before = await self.long_context.writers.tokens.decode(chat.model, chat.context)
        asked = LongText(before.text, REQUEST, chat.model, longest_note(writer), tuning=chat.tuning)
        messages = noted(chat.messages, await self._summary(asked, caller, trail))
        return await self._goes_on(replace(chat, messages=messages, context=()), caller, trail, 1)

    async def _goes_on(self, chat: Chat, caller: Caller, trail: Trail, gone: int) -> Events:
        answer = await self.answer_chat(replace(chat, overflow="left"), caller, trail)
        return replace(answer, truncated=answer.truncated + gone)

    async def _summary(self, asked: LongText, caller: Caller, trail: Trail) -> str:
        work = await self.long_context.plan(asked, caller, beside=True)
        work.begin()
        try:
            return (await work.run()).result.strip()
        finally:
            work.end()
            trail.beside.append(Beside(work.writer.name, "", work.usage))


def longest_note(writer: Writer) -> int:
    return max(1, min(LONGEST_NOTE, writer.window // NOTE_SHARE))


def noted(messages: Sequence[Message], summary: str) -> tuple[Message, ...]:
    """With a summary behind the system's own words."""
    first = next((place for place, message in enumerate(messages) if message.role is not Role.SYSTEM), len(messages))
    return (*messages[:first], Message(Role.SYSTEM, HEADING + summary), *messages[first:])


async def lengths_of(chat: Chat, writer: Writer) -> list[int]:
    """Tokens of each message."""
    return [await writer.count(message.text) + MESSAGE for message in chat.messages]


def leaving(lengths: Sequence[int], turns: Sequence[Turn], most: int) -> tuple[Turn, ...]:
    """The first turns, as many as must go for the rest to have at most so many tokens; at least one."""
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
