"""Working through a text that is longer than a model's window, without leaving any of it out.

Planned first: what can be refused is refused, and how many calls there will be at most is known, before the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from atrium.core.answers import Usage
from atrium.core.errors import AtriumError, ContextTooLong, InvalidValue, ShuttingDown, TooLarge, UpstreamFailed
from atrium.core.long_text import LongAnswer, LongText, Progress, Strategy, Written
from atrium.core.models import Ability
from atrium.core.people import Caller
from atrium.core.ports import Remotes, Tokenizers
from atrium.core.quotas import Worst
from atrium.core.requests import Message
from atrium.decisions import word_long_text as wording
from atrium.decisions.allow import check_model
from atrium.decisions.plan_long_text import HEADING, Room, choose_strategy, groups, most_calls, most_tokens, room_of
from atrium.decisions.rank_passages import rank_passages
from atrium.decisions.split_tokens import split_tokens
from atrium.services.chat import AnswerChat
from atrium.services.meter import Hold
from atrium.services.metered import Usher
from atrium.services.tokenize import Tokenize
from atrium.services.writers import MESSAGE, Writer, Writers, frame_of
from atrium.settings.tree import LongContextSettings

T = TypeVar("T")
WORTH_AGAIN = 500
"""Status from which on a failure may not come a second time."""
Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class LongContext:
    writers: Writers
    usher: Usher
    most_text: int
    """Characters."""
    most_parts: int
    """Calls that one text may take."""

    async def plan(self, asked: LongText, caller: Caller, *, beside: bool = False) -> Work:
        """Nothing is sent to the model yet. `beside`: it is not what the caller asked for, only needed for it.

        Raises InvalidValue and TooLarge for the text, ContextTooLong for the prompt, what naming a model raises, and
        Forbidden where the caller's key is not for it.
        """
        if not asked.text.strip():
            raise InvalidValue("'text' is required and must not be blank", param="text")
        if len(asked.text) > self.most_text:
            raise TooLarge(f"'text' has {len(asked.text)} characters; at most {self.most_text} are taken", param="text")
        writer = await self.writers.of(asked.model, caller, asked.tuning)
        names = (*self.usher.meant(asked.model or writer.name, Ability.CHAT), writer.name)
        check_model(caller, names)
        frame = 0
        for messages in wording.frames(asked.prompt):
            frame = max(frame, await writer.count(frame_of(messages)) + MESSAGE * (len(messages) + 1))
        room = room_of(writer.window, asked.max_tokens, frame, exact=writer.exact)
        ends, scale = await writer.places(asked.text)
        length = int(len(ends) * scale) + 1
        strategy = asked.strategy or choose_strategy(length, room, asked.prompt)
        if strategy is Strategy.DIRECT:
            if length > room.whole:
                raise ContextTooLong(f"The text has more than the {room.whole} tokens that fit at once", param="text")
            parts = (asked.text,)
        else:
            size = room.step if strategy is Strategy.REFINE else room.part
            spans = await asyncio.to_thread(split_tokens, asked.text, ends, int(size / scale))
            parts = tuple(asked.text[begin:end] for begin, end in spans)
        calls = most_calls(strategy, len(parts), room)
        if calls > self.most_parts:
            raise TooLarge(
                f"The text takes {calls} calls of this model; at most {self.most_parts} are made",
                hint="Use a model with a larger window",
                param="text",
            )
        tokens = most_tokens(strategy, length, (len(parts), calls), room, frame)
        reserve = partial(self.usher.meter.use, caller, names, Worst(tokens, tokens), asked=not beside)
        return Work(asked, writer, room, strategy, parts, calls, reserve)


@dataclass(slots=True)
class Work:
    """A plan, and then its carrying out; to be run once."""

    asked: LongText
    writer: Writer
    room: Room
    strategy: Strategy
    parts: tuple[str, ...]
    total: int
    """Calls that there will be at most."""
    reserve: Callable[[], Hold]
    """Of the caller's quotas, all that the work may take."""
    hold: Hold | None = None
    done: int = 0
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    tell: Tell | None = None

    def begin(self) -> None:
        """Whoever begins it must end it. Raises RateLimited."""
        self.hold = self.reserve()

    def end(self) -> None:
        """What was used is settled, and all else given back."""
        if self.hold is not None:
            self.hold.settle(self.usage.prompt_tokens + self.usage.completion_tokens, counts=self.done > 0)

    async def run(self, tell: Tell | None = None) -> LongAnswer:
        """Of a work that has begun. Cancelling it ends the calls that are under way.

        Raises UpstreamFailed when a part failed twice: an answer that misses a part is never given.
        """
        self.tell = tell
        self._told("plan")
        ways = {
            Strategy.DIRECT: self._direct,
            Strategy.MAP_REDUCE: self._map_reduce,
            Strategy.REFINE: self._refine,
            Strategy.RETRIEVAL: self._retrieve,
        }
        result, read = await ways[self.strategy]()
        return LongAnswer(
            result, self.writer.name, self.strategy, len(self.parts), read, self.calls, self.usage, self.writer.exact
        )

    async def _direct(self) -> tuple[str, int]:
        messages = wording.whole(self.parts[0], self.asked.prompt)
        return await self._call(messages, "answer", "The text", final=True), 1

    async def _map_reduce(self) -> tuple[str, int]:
        count = len(self.parts)

        async def extract(place: int) -> str:
            return await self._notes(self.parts[place], f"{place + 1} of {count}")

        notes = await side_by_side(extract, count, self.writer.parallel)
        notes = [one for one in notes if not wording.says_nothing(one)]
        notes = await self._merged(notes)
        messages = wording.answer(notes, self.asked.prompt)
        return await self._call(messages, "answer", "The answer", final=True), count

    async def _notes(self, part: str, place: str) -> str:
        """Of one part; where the model finds it too long, of its halves."""
        try:
            return await self._call(wording.extract(part, self.asked.prompt, place), "map", f"Part {place}")
        except ContextTooLong:
            if len(part) < 2:
                raise
        half = len(part) // 2
        halves = [await self._notes(piece, place) for piece in (part[:half], part[half:])]
        return "\n".join(one for one in halves if not wording.says_nothing(one))

    async def _merged(self, notes: Sequence[str]) -> list[str]:
        """As few and short as the last call has room for. Each level has fewer notes than the one before."""
        kept = list(notes)
        lengths = [await self.writer.count(one) for one in kept]
        self._expect(lengths)
        while len(kept) > 1 and sum(lengths) + HEADING * len(kept) > self.room.whole:
            kept = [
                await self._cut(one, length, self.room.part // 2 - HEADING)
                for one, length in zip(kept, lengths, strict=True)
            ]
            lengths = [min(length, self.room.part // 2 - HEADING) for length in lengths]
            kept = await self._merge_level(kept, groups(lengths, self.room.part))
            lengths = [await self.writer.count(one) for one in kept]
        return [
            await self._cut(one, length, self.room.whole - HEADING) for one, length in zip(kept, lengths, strict=True)
        ]

    async def _merge_level(self, notes: Sequence[str], joined: Sequence[tuple[int, ...]]) -> list[str]:
        async def merge(place: int) -> str:
            own = [notes[one] for one in joined[place]]
            if len(own) == 1:
                return own[0]
            return await self._call(wording.merge(own, self.asked.prompt), "merge", "Merging notes")

        return await side_by_side(merge, len(joined), self.writer.parallel)

    async def _refine(self) -> tuple[str, int]:
        count = len(self.parts)
        so_far = ""
        for number, part in enumerate(self.parts, 1):
            place = f"{number} of {count}"
            messages = wording.refine(part, so_far, self.asked.prompt, place)
            most = self.room.draft
            said = await self._call(messages, "refine", f"Part {place}", most=most)
            so_far = await self._cut(said, await self.writer.count(said), most)
        return so_far, count

    async def _retrieve(self) -> tuple[str, int]:
        """What has most to do with the question, in the order of the text."""
        ranked = await asyncio.to_thread(rank_passages, self.parts, self.asked.prompt)
        chosen: list[int] = []
        size = 0
        for place in ranked:
            size += await self.writer.count(self.parts[place]) + HEADING
            if size > self.room.whole and chosen:
                break
            chosen.append(place)
        passages = [self.parts[place] for place in sorted(chosen)]
        text = await self._cut("\n\n".join(passages), size, self.room.whole)
        messages = wording.whole(text, self.asked.prompt)
        return await self._call(messages, "answer", "The answer", final=True), len(passages)

    async def _call(
        self, messages: tuple[Message, ...], stage: str, what: str, *, most: int = 0, final: bool = False
    ) -> str:
        """Once more where it fails. Raises UpstreamFailed, ContextTooLong."""
        most = self.room.answer if final else most or self.room.notes
        temperature = None if final else 0.0
        try:
            written = await self._write(messages, most, temperature)
        except AtriumError as failed:
            if failed.status < WORTH_AGAIN or isinstance(failed, ShuttingDown):
                raise
            try:
                written = await self._write(messages, most, temperature)
            except AtriumError as again:
                raise UpstreamFailed(f"{what} failed twice: {again.message}", hint=again.hint) from again
        self._add(written.usage)
        self.done += 1
        self._told(stage)
        return written.text

    async def _write(self, messages: tuple[Message, ...], most: int, temperature: float | None) -> Written:
        self.calls += 1
        return await self.writer.write(messages, most, temperature)

    async def _cut(self, text: str, length: int, most: int) -> str:
        """At most so many tokens of its beginning."""
        if length <= most:
            return text
        ends, scale = await self.writer.places(text)
        return text[: ends[min(len(ends), max(1, int(most / scale))) - 1]]

    def _expect(self, lengths: Sequence[int]) -> None:
        """Now that the notes are known there may be less to do than there might have been."""
        if len(lengths) < 2 or sum(lengths) + HEADING * len(lengths) <= self.room.whole:
            self.total = self.done + 1

    def _add(self, usage: Usage) -> None:
        own = self.usage
        self.usage = Usage(
            own.prompt_tokens + usage.prompt_tokens,
            own.completion_tokens + usage.completion_tokens,
            own.cached_tokens + usage.cached_tokens,
            own.reasoning_tokens + usage.reasoning_tokens,
        )

    def _told(self, stage: str) -> None:
        if self.tell:
            self.total = max(self.total, self.done)
            self.tell(Progress(self.done, self.total, stage, self.strategy, len(self.parts)))


def work_on(
    chat: AnswerChat, remotes: Remotes, words: Tokenizers, usher: Usher, own: LongContextSettings, most_text: int
) -> LongContext:
    """Long texts for the models that `chat` answers with, and those of endpoints."""
    tokens = Tokenize(chat.models, remotes, words, chat.engines, most_text)
    return LongContext(Writers(tokens, chat, remotes, own.local, own.remote), usher, most_text, own.calls)


async def side_by_side(work: Callable[[int], Awaitable[T]], count: int, most: int) -> list[T]:
    """`work` of each number below `count`, a few at a time; the first failure ends all others and is raised."""
    found: dict[int, T] = {}
    numbers = iter(range(count))

    async def go_on() -> None:
        for number in numbers:
            found[number] = await work(number)

    tasks = [asyncio.create_task(go_on()) for _ in range(min(most, count))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [found[number] for number in range(count)]
