"""The promise behind raw completions: several prompts, several choices, the best of many."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Self

from atrium.core.answers import (
    Begun,
    ChoiceEvent,
    Echo,
    Ended,
    Event,
    Events,
    EventStream,
    Finish,
    Spent,
    TextPiece,
    Usage,
)
from atrium.core.errors import EngineNonsense, EngineSilent, InvalidValue, Unsupported
from atrium.core.models import Ability
from atrium.core.people import Caller
from atrium.core.ports import Draft, Engines, Lease, Models, Relay
from atrium.core.requests import Completion, Prompt
from atrium.core.trails import Trail
from atrium.decisions.fill_request import fill_completion
from atrium.decisions.fit_context import fit_context
from atrium.decisions.resolve_name import resolve_name
from atrium.decisions.tune_card import tune_card
from atrium.services.elsewhere import Elsewhere
from atrium.services.generation import Held, Part, begin, report, too_late
from atrium.services.leasing import Leasing

MOST_GENERATIONS = 128
"""Prompts times choices of one request."""


@dataclass(frozen=True, slots=True)
class Complete:
    models: Models
    engines: Engines
    relay: Relay
    elsewhere: Elsewhere
    answer_timeout: float
    """Seconds for one whole answer."""

    async def __call__(self, completion: Completion, caller: Caller, trail: Trail | None = None) -> Events:
        """Choices are counted prompt by prompt. Raises as AnswerChat does, with `prompt` for what is too long."""
        if len(completion.prompts) * completion.best_of > MOST_GENERATIONS:
            raise InvalidValue(f"One request may make at most {MOST_GENERATIONS} texts", param="prompt")
        if completion.best_of > completion.choices and completion.top_logprobs is None:
            completion = replace(completion, top_logprobs=0)
            return await self._run(completion, caller, trail or Trail(), scored=False)
        return await self._run(completion, caller, trail or Trail(), scored=True)

    async def _run(self, completion: Completion, caller: Caller, trail: Trail, *, scored: bool) -> Events:
        top = completion.top_logprobs if scored else None
        if self.elsewhere.answers(completion.model, self.models.snapshot(), Ability.COMPLETION):
            if completion.echo and top is not None:
                raise elsewhere_unscored()
            answer = await self.elsewhere.complete(completion, trail)
        else:
            answer = await self._begin(completion, caller, top)
        if completion.best_of == completion.choices:
            return answer
        best = await best_of(answer.events, completion, scored=scored)
        return replace(answer, events=best)

    async def _begin(self, completion: Completion, caller: Caller, top: int | None) -> Events:
        """`top`: the likeliest tokens that are wanted of an echo, too; None: no scores."""
        card = resolve_name(completion.model, self.models.snapshot(), Ability.COMPLETION)
        card = tune_card(card, completion.tuning)
        completion = fill_completion(completion, card.config)
        drafts = await self.relay.draft_completion(completion, card)

        async def act(lease: Lease, stack: AsyncExitStack) -> Events:
            return await self._open(completion, drafts, lease, stack, top)

        return await Leasing(self.engines).run(card, caller, completion.keep_alive, act)

    async def _open(
        self, completion: Completion, drafts: Sequence[Draft], lease: Lease, stack: AsyncExitStack, top: int | None
    ) -> Events:
        deadline = asyncio.get_running_loop().time() + self.answer_timeout
        parts: list[Part] = []
        for number, draft in enumerate(drafts):
            prepared = await draft.prepare(lease.runner)
            room = fit_context(prepared.tokens, lease.runner.context, completion.sampling.max_tokens, param="prompt")
            for choice in range(completion.best_of):
                seed = completion.sampling.seed_of(choice)
                parts.append(Part(number * completion.best_of + choice, prepared, room, seed))
        echoes = await self._echoes(completion, lease, top, deadline) if completion.echo else ()
        if completion.sampling.max_tokens == 0:
            await stack.aclose()
            events: EventStream = Replay(nothing_said(parts))
        else:
            events = await begin(parts, Held(stack, lease, deadline))
        name = completion.model or lease.runner.card.name
        dropped = (*drafts[0].dropped, *completion.tuning.unmet)
        return Events(name, lease.runner.fingerprint, events, dropped, echoes=echoes)

    async def _echoes(self, completion: Completion, lease: Lease, top: int | None, deadline: float) -> tuple[Echo, ...]:
        """Each scored prompt has a turn of its own, so that long ones let others in between."""
        try:
            async with asyncio.timeout_at(deadline):
                return tuple([await self._echo(prompt, lease, top) for prompt in completion.prompts])
        except TimeoutError:
            raise too_late() from None
        except (EngineSilent, EngineNonsense) as broken:
            report(broken, lease)
            raise

    async def _echo(self, prompt: Prompt, lease: Lease, top: int | None) -> Echo:
        if top is None:
            return await self.relay.echo(prompt, None, lease.runner)
        async with lease.turn():
            return await self.relay.echo(prompt, top, lease.runner)


def elsewhere_unscored() -> Unsupported:
    return Unsupported(
        "'logprobs' with 'echo' is for models of this server: an endpoint's scores of a prompt are not read",
        hint="Leave out one of them, or ask the endpoint itself through `/olla/`",
        param="logprobs",
    )


def nothing_said(parts: Sequence[Part]) -> list[Event]:
    """Of choices that are to have no token."""
    prompts = {id(part.prepared): part.prepared.tokens for part in parts}
    ends = [event for part in parts for event in (Begun(part.choice), Ended(part.choice, Finish.LENGTH))]
    return [*ends, Spent(Usage(prompt_tokens=sum(prompts.values())))]


@dataclass(slots=True)
class Candidate:
    events: list[ChoiceEvent] = field(default_factory=list[ChoiceEvent])
    chances: list[float] = field(default_factory=list[float])

    @property
    def mean(self) -> float:
        return sum(self.chances) / len(self.chances) if self.chances else float("-inf")


class Replay:
    """Events that were all kept, one after the other."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = deque(events)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._events:
            raise StopAsyncIteration
        return self._events.popleft()

    async def aclose(self) -> None:
        self._events.clear()


async def best_of(events: EventStream, completion: Completion, *, scored: bool) -> EventStream:
    """Of each prompt's candidates the `n` with the highest mean log probability, counted anew."""
    candidates: dict[int, Candidate] = {}
    spent: list[Event] = []
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Spent):
                spent.append(event)
                continue
            candidate = candidates.setdefault(event.choice, Candidate())
            if isinstance(event, TextPiece):
                candidate.chances += [score.chosen.logprob for score in event.scores]
            candidate.events.append(replace(event, scores=()) if isinstance(event, TextPiece) and not scored else event)
    kept: list[Event] = []
    for number in range(len(completion.prompts)):
        start = number * completion.best_of
        mine = sorted(range(start, start + completion.best_of), key=lambda i: -candidates[i].mean)
        for place, index in enumerate(mine[: completion.choices]):
            choice = number * completion.choices + place
            kept += [replace(event, choice=choice) for event in candidates[index].events]
    return Replay([*kept, *spent])
