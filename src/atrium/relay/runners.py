"""The way to local runners: a chat becomes token ids, a grammar and a stream of events.

Everything that only needs the model's facts happens in a draft, before the model is loaded; tokenising needs the
runner but no slot; a generation has a connection of its own, and closing it is how it is cancelled.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from atrium.core.answers import Embedded, EventStream
from atrium.core.endpoints import Runner
from atrium.core.errors import ContextTooLong, EngineFailed, InvalidSchema, Unsupported, UpstreamFailed
from atrium.core.models import ModelCard, Vocabulary
from atrium.core.requests import Chat, Completion, FreeText, Prompt, Sampling, Think
from atrium.decisions.fit_context import most_characters, refuse_hopeless
from atrium.dialects.llamacpp.grammar import chat_grammar, constraint_grammar
from atrium.dialects.llamacpp.prompt import chat_pieces
from atrium.dialects.llamacpp.reply import THINK, Reading
from atrium.dialects.llamacpp.request import check_bias, completion_body, embedding_body
from atrium.dialects.llamacpp.stream import embeddings_of, failure_of
from atrium.dialects.llamacpp.template import ChatTemplate, Piece
from atrium.dialects.llamacpp.tools import offered
from atrium.relay.deadlines import Deadlines
from atrium.relay.replies import ReplyStream
from atrium.relay.send import post, posted
from atrium.relay.tokens import Counted, Tokenizer, ids_alone, known, start_of, wrapped

TOO_LONG = re.compile(r"too large|larger than|exceed|too long", re.IGNORECASE)
MOST_TEMPLATES = 64
MOST_VECTORS = 256 * 1024 * 1024
"""Bytes of an embedder's whole answer."""
MOST_REASON = 64 * 1024
SLOWEST = 10.0
"""Tokens a second at which a prompt is read at the very least; a runner that takes longer counts as hung."""
CHARACTERS = 4
"""About as many make a token."""
GRAMMAR_PATIENCE = 10.0
SMALL_SHAPE = 2048
"""Bytes of JSON up to which compiling a grammar is quicker than handing it to a thread."""
MOST_SHAPES = 4
"""All tools of a request together are at most as large as so many of the largest schemas."""
MOST_COMPILING = 2
"""Threads that compile large grammars at the same time."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is known of a generation before its prompt is token ids."""

    pieces: list[Piece] | str
    sampling: Sampling
    grammar: str
    reading: Reading
    param: str
    """The request's field that holds the prompt."""
    special: bool = False
    """Whether the tokenizer adds the model's start and end tokens."""
    keeps_ids: bool = False
    """The caller wants the ids of prompt and answer at the end."""


class RunnerRelay:
    """Implements `core.ports.Relay` over the runners' unix sockets."""

    def __init__(self, deadlines: Deadlines, *, schema_size: int) -> None:
        self._deadlines = deadlines
        self._schema_size = schema_size
        self._templates: OrderedDict[str, ChatTemplate] = OrderedDict()
        self._compiling = asyncio.Semaphore(MOST_COMPILING)

    async def draft_chat(self, chat: Chat, card: ModelCard) -> RunnerDraft:
        vocabulary = card.facts.vocabulary
        check_sampling(chat.sampling, vocabulary)
        template = self._template(card)
        tools = offered(chat.tool_use)
        grammar = ""
        if tools or not isinstance(chat.constraint, FreeText):
            shapes = len(str(tools))
            if shapes > MOST_SHAPES * self._schema_size:
                raise InvalidSchema(f"All tools together are larger than {MOST_SHAPES} schemas may be", param="tools")
            size = shapes + len(str(chat.constraint))
            grammar = await self._compiled(lambda: chat_grammar(chat, most=self._schema_size), size)
        if chat.think is not None:
            chat = replace(chat, template={**chat.template, "enable_thinking": chat.think is not Think.OFF})
        pieces = chat_pieces(chat, template, vocabulary, nonce=secrets.token_hex(8), now=datetime.now(UTC))
        if chat.context:
            before = known(chat.context, vocabulary, "context")
            pieces = [*before, *(pieces[1:] if pieces[:1] == [vocabulary.bos] else pieces)]
        last = pieces[-1] if pieces else ""
        reading = Reading(
            choice=0,
            prompt_tokens=0,
            stops=chat.sampling.stop,
            calls=bool(tools),
            reasons=template.knows_reasoning,
            thinking=isinstance(last, str) and last.rstrip().endswith(THINK),
            top_logprobs=chat.top_logprobs,
            end_of_turn=vocabulary.eos,
        )
        script = Script(pieces, chat.sampling, grammar, reading, "messages", keeps_ids=chat.wants_context)
        return RunnerDraft(script, vocabulary, self._deadlines)

    async def draft_completion(self, completion: Completion, card: ModelCard) -> tuple[RunnerDraft, ...]:
        vocabulary = card.facts.vocabulary
        check_sampling(completion.sampling, vocabulary)
        constraint = completion.constraint
        grammar = ""
        if not isinstance(constraint, FreeText):
            size = len(str(constraint))
            grammar = await self._compiled(lambda: constraint_grammar(constraint, most=self._schema_size), size)
        reading = Reading(0, 0, completion.sampling.stop, top_logprobs=completion.top_logprobs)
        drafts: list[RunnerDraft] = []
        for prompt in completion.prompts:
            text = isinstance(prompt, str)
            pieces: list[Piece] | str = prompt if isinstance(prompt, str) else [*known(prompt, vocabulary, "prompt")]
            script = Script(pieces, completion.sampling, grammar, reading, "prompt", special=text)
            drafts.append(RunnerDraft(script, vocabulary, self._deadlines))
        return tuple(drafts)

    async def tokenize(self, inputs: Sequence[Prompt], runner: Runner) -> tuple[tuple[int, ...], ...]:
        vocabulary = runner.card.facts.vocabulary
        tokenized = Tokenizer(runner, self._deadlines, most=most_characters(runner.context))
        ids: list[tuple[int, ...]] = []
        for one in inputs:
            if isinstance(one, str):
                counted = await tokenized(one, special=True)
                if counted.count > len(counted.ids):
                    raise ContextTooLong(f"A text has {counted.count} tokens", param="input")
                ids.append(counted.ids)
            else:
                ids.append(wrapped(known(one, vocabulary, "input"), vocabulary))
        return tuple(ids)

    async def embed(self, inputs: Sequence[str] | Sequence[Sequence[int]], runner: Runner) -> Embedded:
        tokens = sum(len(one) // CHARACTERS if isinstance(one, str) else len(one) for one in inputs)
        deadlines = self._deadlines.after_prompt(tokens / SLOWEST)
        async with posted(runner.socket, "/v1/embeddings", embedding_body(inputs), deadlines) as answer:
            body = await answer.body(MOST_VECTORS)
        if answer.status != 200:
            reason = failure_of(body)
            if TOO_LONG.search(reason):
                raise ContextTooLong("A text does not fit the model's window", param="input")
            raise UpstreamFailed(f"The engine refused the texts: {reason}")
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

    async def _compiled(self, compile_: Callable[[], str], size: int) -> str:
        """`size` in bytes of all that shapes the answer. Raises InvalidSchema, Unsupported."""
        if size <= SMALL_SHAPE:
            return compile_()
        async with self._compiling:
            try:
                async with asyncio.timeout(GRAMMAR_PATIENCE):
                    return await asyncio.to_thread(compile_)
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
        ids = ids_alone(script.pieces)
        if ids is None:
            characters = sum(len(piece) for piece in script.pieces if isinstance(piece, str))
            refuse_hopeless(characters, runner.context, param=script.param)
            tokenized = Tokenizer(runner, self.deadlines, most=runner.context)
            prompt = await tokenized(script.pieces, special=script.special)
        else:
            prompt = Counted(ids, len(ids))
        if not prompt.count:
            prompt = Counted(start_of(self.vocabulary), 1)
        return RunnerPrepared(prompt.ids, prompt.count, script, runner, self.deadlines)


@dataclass(frozen=True, slots=True)
class RunnerPrepared:
    ids: tuple[int, ...]
    """Empty where `tokens` is far more than the model's window holds."""
    tokens: int
    script: Script
    runner: Runner
    deadlines: Deadlines

    async def open(self, *, choice: int, max_tokens: int, seed: int | None) -> EventStream:
        body = completion_body(
            self.ids,
            self.script.sampling,
            max_tokens=max_tokens,
            seed=seed,
            grammar=self.script.grammar,
            top_logprobs=self.script.reading.top_logprobs,
        )
        deadlines = self.deadlines.after_prompt(self.tokens / SLOWEST)
        answer = await post(self.runner.socket, "/completion", body, deadlines)
        if answer.status != 200:
            async with answer:
                reason = failure_of(await answer.body(MOST_REASON))
            raise UpstreamFailed(f"The engine refused the request: {reason}")
        ids = self.ids if self.script.keeps_ids else None
        return ReplyStream(answer, replace(self.script.reading, choice=choice, prompt_tokens=self.tokens, prompt=ids))


def check_sampling(sampling: Sampling, vocabulary: Vocabulary) -> None:
    """Raises InvalidValue for ids the model lacks, Unsupported for what the engine would ignore."""
    check_bias(sampling, vocabulary.size)
    if sampling.min_tokens:
        raise Unsupported("The engine cannot promise a least length", param="min_tokens")
