"""The way to local runners: a chat becomes token ids, a grammar and a stream of events.

Everything that only needs the model's facts happens in a draft, before the model is loaded; tokenising needs the
runner but no slot; a generation has a connection of its own, and closing it is how it is cancelled.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from atrium.core.answers import Embedded, Event, EventStream
from atrium.core.endpoints import Runner
from atrium.core.errors import ContextTooLong, EngineFailed, InvalidValue, Unsupported, UpstreamTimeout
from atrium.core.models import ModelCard, Vocabulary
from atrium.core.requests import Chat, Completion, FreeText, Prompt, Sampling
from atrium.dialects.llamacpp.grammar import chat_grammar, constraint_grammar
from atrium.dialects.llamacpp.prompt import chat_pieces
from atrium.dialects.llamacpp.reply import THINK, Reading, ReplyReader
from atrium.dialects.llamacpp.request import check_bias, completion_body, embedding_body, tokenize_body
from atrium.dialects.llamacpp.stream import ChunkReader, embeddings_of, failure_of, tokens_of
from atrium.dialects.llamacpp.template import ChatTemplate, Piece
from atrium.dialects.llamacpp.tools import offered
from atrium.relay.deadlines import Deadlines
from atrium.relay.send import Answer, post, posted

TOO_LONG = re.compile(r"too large|exceed|too long", re.IGNORECASE)
MOST_TEMPLATES = 64
MOST_ANSWER = 256 * 1024 * 1024
"""Bytes of a tokenizer's or an embedder's whole answer."""
MOST_REASON = 64 * 1024
GRAMMAR_PATIENCE = 10.0
SMALL_SCHEMA = 2048
"""Bytes of JSON up to which compiling a grammar is quicker than handing it to a thread."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is known of a generation before its prompt is token ids."""

    pieces: list[Piece] | str
    sampling: Sampling
    grammar: str
    reading: Reading
    special: bool = False
    """Whether the tokenizer adds the model's start and end tokens."""


class RunnerRelay:
    """Implements `core.ports.Relay` over the runners' unix sockets."""

    def __init__(self, deadlines: Deadlines, *, schema_size: int) -> None:
        self._deadlines = deadlines
        self._schema_size = schema_size
        self._templates: OrderedDict[str, ChatTemplate] = OrderedDict()

    async def draft_chat(self, chat: Chat, card: ModelCard) -> RunnerDraft:
        vocabulary = card.facts.vocabulary
        check_sampling(chat.sampling, vocabulary)
        template = self._template(card)
        grammar = ""
        tools = offered(chat.tool_use)
        if tools or not isinstance(chat.constraint, FreeText):
            grammar = await self._compiled(chat)
        pieces = chat_pieces(chat, template, vocabulary, nonce=secrets.token_hex(8), now=datetime.now(UTC))
        last = pieces[-1] if pieces else ""
        reading = Reading(
            choice=0,
            prompt_tokens=0,
            stops=chat.sampling.stop,
            calls=bool(tools),
            reasons=template.knows_reasoning,
            thinking=isinstance(last, str) and last.rstrip().endswith(THINK),
            top_logprobs=chat.top_logprobs,
        )
        script = Script(pieces, chat.sampling, grammar, reading)
        return RunnerDraft(script, vocabulary, self._deadlines)

    async def draft_completion(self, completion: Completion, prompt: Prompt, card: ModelCard) -> RunnerDraft:
        vocabulary = card.facts.vocabulary
        check_sampling(completion.sampling, vocabulary)
        grammar = constraint_grammar(completion.constraint, most=self._schema_size)
        reading = Reading(0, 0, completion.sampling.stop, top_logprobs=completion.top_logprobs)
        pieces: list[Piece] | str = prompt if isinstance(prompt, str) else list(known(prompt, vocabulary, "prompt"))
        script = Script(pieces, completion.sampling, grammar, reading, special=isinstance(prompt, str))
        return RunnerDraft(script, vocabulary, self._deadlines)

    async def tokenize(self, inputs: Sequence[Prompt], runner: Runner) -> tuple[tuple[int, ...], ...]:
        vocabulary = runner.card.facts.vocabulary
        ids: list[tuple[int, ...]] = []
        for one in inputs:
            if isinstance(one, str):
                ids.append(tuple(await tokenized(one, runner, self._deadlines, special=True)))
            else:
                start = (vocabulary.bos,) if vocabulary.add_bos and vocabulary.bos is not None else ()
                end = (vocabulary.eos,) if vocabulary.add_eos and vocabulary.eos is not None else ()
                ids.append((*start, *known(one, vocabulary, "input"), *end))
        return tuple(ids)

    async def embed(self, inputs: Sequence[str] | Sequence[Sequence[int]], runner: Runner) -> Embedded:
        async with posted(runner.socket, "/v1/embeddings", embedding_body(inputs), self._deadlines) as answer:
            body = await answer.body(MOST_ANSWER)
        if answer.status != 200:
            reason = failure_of(body)
            if TOO_LONG.search(reason):
                raise ContextTooLong("A text does not fit the model's window", param="input")
            raise EngineFailed(f"The engine refused the texts: {reason}")
        embedded = embeddings_of(body)
        if len(embedded.vectors) != len(inputs):
            raise EngineFailed(f"The engine gave {len(embedded.vectors)} vectors for {len(inputs)} texts")
        return embedded

    def _template(self, card: ModelCard) -> ChatTemplate:
        """Compiled once per source; the least lately used is forgotten."""
        source = card.facts.chat_template
        template = self._templates.pop(source, None) or ChatTemplate(source)
        self._templates[source] = template
        if len(self._templates) > MOST_TEMPLATES:
            self._templates.popitem(last=False)
        return template

    async def _compiled(self, chat: Chat) -> str:
        size = len(str(chat.constraint)) + len(str(chat.tool_use.tools))
        if size <= SMALL_SCHEMA:
            return chat_grammar(chat, most=self._schema_size)
        try:
            async with asyncio.timeout(GRAMMAR_PATIENCE):
                return await asyncio.to_thread(chat_grammar, chat, most=self._schema_size)
        except TimeoutError:
            raise Unsupported(
                f"The schema takes more than {GRAMMAR_PATIENCE:g} s to compile", param="response_format"
            ) from None


@dataclass(frozen=True, slots=True)
class RunnerDraft:
    script: Script
    vocabulary: Vocabulary
    deadlines: Deadlines

    async def prepare(self, runner: Runner) -> RunnerPrepared:
        script = self.script
        pieces = script.pieces
        ids = ids_alone(pieces)
        if ids is None:
            ids = await tokenized(pieces, runner, self.deadlines, special=script.special)
        if not ids:
            # A model needs something to go on from; an empty prompt means its start.
            start = self.vocabulary.bos if self.vocabulary.bos is not None else self.vocabulary.eos
            ids = [start or 0]
        return RunnerPrepared(tuple(ids), script, runner, self.deadlines)


@dataclass(frozen=True, slots=True)
class RunnerPrepared:
    ids: tuple[int, ...]
    script: Script
    runner: Runner
    deadlines: Deadlines

    @property
    def tokens(self) -> int:
        return len(self.ids)

    async def open(self, *, choice: int, max_tokens: int, seed: int | None) -> EventStream:
        body = completion_body(
            self.ids,
            self.script.sampling,
            max_tokens=max_tokens,
            seed=seed,
            grammar=self.script.grammar,
            top_logprobs=self.script.reading.top_logprobs,
        )
        answer = await post(self.runner.socket, "/completion", body, self.deadlines)
        if answer.status != 200:
            async with answer:
                reason = failure_of(await answer.body(MOST_REASON))
            raise EngineFailed(f"The engine refused the request: {reason}")
        return ReplyStream(answer, replace(self.script.reading, choice=choice, prompt_tokens=self.tokens))


class ReplyStream:
    """One generation's events; closing it closes the connection, and with it the generation."""

    def __init__(self, answer: Answer, reading: Reading) -> None:
        self._answer = answer
        self._chunks = ChunkReader()
        prefix = f"call_{secrets.token_hex(8)}"
        self._reply = ReplyReader(reading, lambda index: f"{prefix}{index}")
        self._ready: deque[Event] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._reply.ended:
                raise StopAsyncIteration
            data = await self._answer.piece()
            if not data:
                raise self._reply.broken()
            for chunk in self._chunks.feed(data):
                self._ready += self._reply.feed(chunk)
                if self._reply.ended:
                    # A stop string ends the answer although the engine would go on: its slot is free at once.
                    self._answer.close()
                    break
        return self._ready.popleft()

    async def aclose(self) -> None:
        self._answer.close()


def check_sampling(sampling: Sampling, vocabulary: Vocabulary) -> None:
    """Raises InvalidValue for ids the model lacks, Unsupported for what the engine would ignore."""
    check_bias(sampling, vocabulary.size)
    if sampling.min_tokens:
        raise Unsupported("The engine cannot promise a least length", param="min_tokens")


def known(ids: Sequence[int], vocabulary: Vocabulary, param: str) -> Sequence[int]:
    """Raises InvalidValue for an id outside of the model's vocabulary."""
    for token in ids:
        if token >= vocabulary.size:
            raise InvalidValue(
                f"'{param}' has token id {token}, but this model's vocabulary has {vocabulary.size}",
                hint="Ids must come from the model's own tokenizer; send text instead",
                param=param,
            )
    return ids


def ids_alone(pieces: list[Piece] | str) -> list[int] | None:
    """The prompt itself where it needs no tokenizer."""
    if isinstance(pieces, str):
        return None if pieces else []
    ids = [piece for piece in pieces if isinstance(piece, int)]
    return ids if len(ids) == len(pieces) else None


async def tokenized(content: list[Piece] | str, runner: Runner, deadlines: Deadlines, *, special: bool) -> list[int]:
    """Raises NotSent, EngineFailed."""
    body = tokenize_body(content, special=special)
    try:
        async with posted(runner.socket, "/tokenize", body, deadlines) as answer:
            raw = await answer.body(MOST_ANSWER)
    except UpstreamTimeout as late:
        raise EngineFailed(late.message) from None
    if answer.status != 200:
        raise EngineFailed(f"The engine could not tokenise the request: {failure_of(raw)}")
    return tokens_of(raw)
