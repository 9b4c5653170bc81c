"""The way to local runners: a chat becomes token ids, a grammar and a stream of events.

Everything that only needs the model's facts happens in a draft, before the model is loaded; tokenising needs the
runner but no slot; a generation has a connection of its own, and closing it is how it is cancelled.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from atrium.core.answers import Echo, Embedded, EventStream
from atrium.core.endpoints import Runner
from atrium.core.errors import ContextTooLong, EngineFailed, InvalidValue, UpstreamFailed
from atrium.core.models import ModelCard, Vocabulary
from atrium.core.requests import Chat, Completion, Prompt, Sampling, ToolMode
from atrium.decisions.fit_context import most_characters, refuse_hopeless
from atrium.dialects.llamacpp.grammar import Thoughts
from atrium.dialects.llamacpp.known_templates import template_of
from atrium.dialects.llamacpp.pictures import picture_prompt, without_pictures
from atrium.dialects.llamacpp.prompt import thoughts_of, told_variables
from atrium.dialects.llamacpp.reply import Reading
from atrium.dialects.llamacpp.request import Shaping, check_bias, completion_body, embedding_body
from atrium.dialects.llamacpp.stream import embeddings_of, failure_of
from atrium.dialects.llamacpp.template import ChatTemplate, Piece
from atrium.dialects.llamacpp.tools import offered
from atrium.dialects.ollama.template import to_jinja
from atrium.relay.deadlines import Deadlines
from atrium.relay.prompt_scores import PromptScorer
from atrium.relay.rendering import Renderer, rendered_now
from atrium.relay.replies import ReplyStream
from atrium.relay.send import post, posted
from atrium.relay.shapes import Shaper
from atrium.relay.tokens import Counted, Tokenizer, ids_alone, known, start_of, text_of, unwrapped, wrapped

TOO_LONG = re.compile(r"too large|larger than|exceed|too long", re.IGNORECASE)
MOST_TEMPLATES = 64
MOST_VECTORS = 256 * 1024 * 1024
"""Bytes of an embedder's whole answer."""
MOST_REASON = 64 * 1024
SLOWEST = 10.0
"""Tokens a second at which a prompt is read at the very least; a runner that takes longer counts as hung."""
CHARACTERS = 4
"""About as many make a token."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is known of a generation before its prompt is token ids."""

    pieces: list[Piece] | str
    sampling: Sampling
    shaping: Shaping
    reading: Reading
    param: str
    """The request's field that holds the prompt."""
    special: bool = False
    """Whether the tokenizer adds the model's start and end tokens."""
    pictures: tuple[bytes, ...] = ()
    """Files of PNG or JPEG, by the numbers that the pieces give them."""
    keeps_ids: bool = False
    """The caller wants the ids of prompt and answer at the end."""
    control: re.Pattern[str] | None = None
    """Finds the vocabulary's control tokens, which a prompt with pictures has as text."""


class RunnerRelay:
    """Implements `core.ports.Relay` over the runners' unix sockets."""

    def __init__(self, deadlines: Deadlines, shaper: Shaper) -> None:
        self._deadlines = deadlines
        self._shaper = shaper
        self._renderer = Renderer()
        self._templates: OrderedDict[str, ChatTemplate] = OrderedDict()

    async def draft_chat(self, chat: Chat, card: ModelCard) -> RunnerChatDraft:
        vocabulary = card.facts.vocabulary
        check_bias(chat.sampling, vocabulary.size)
        own = chat.prompt_template
        template = ChatTemplate(to_jinja(own)) if own else self._template(card)
        pieces = await self._renderer(chat, template, vocabulary)
        thoughts = thoughts_of(pieces, template, vocabulary)
        frame = self._shaper.frame(vocabulary, thoughts, template.markup)
        shape = await self._shaper.of_chat(chat, vocabulary, frame)
        reading = Reading(
            choice=0,
            prompt_tokens=0,
            stops=chat.sampling.stop,
            calls=template.markup if offered(chat.tool_use) else None,
            tools=offered(chat.tool_use),
            forced=chat.tool_use.mode in (ToolMode.REQUIRED, ToolMode.NAMED),
            reasons=template.knows_reasoning,
            thinking=thoughts is Thoughts.OPEN,
            top_logprobs=chat.top_logprobs,
            end_of_turn=vocabulary.eos,
        )
        shaping = Shaping(shape.grammar, tuple(frame.control))
        script = Script(
            pieces,
            chat.sampling,
            shaping,
            reading,
            "messages",
            pictures=pictures_of(chat),
            keeps_ids=chat.wants_context,
            control=template.control_in(vocabulary),
        )
        _, dropped = told_variables(chat, template)
        told = (*dropped, *shape.dropped)
        return RunnerChatDraft(script, vocabulary, self._deadlines, chat=chat, template=template, dropped=told)

    async def draft_completion(self, completion: Completion, card: ModelCard) -> tuple[RunnerDraft, ...]:
        vocabulary = card.facts.vocabulary
        check_bias(completion.sampling, vocabulary.size)
        shape = await self._shaper.of_constraint(completion.constraint, completion.sampling, vocabulary)
        reading = Reading(0, 0, completion.sampling.stop, top_logprobs=completion.top_logprobs)
        drafts: list[RunnerDraft] = []
        for prompt in completion.prompts:
            text = isinstance(prompt, str)
            pieces: list[Piece] | str = prompt if isinstance(prompt, str) else [*known(prompt, vocabulary, "prompt")]
            script = Script(pieces, completion.sampling, Shaping(shape.grammar), reading, "prompt", special=text)
            drafts.append(RunnerDraft(script, vocabulary, self._deadlines, dropped=shape.dropped))
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

    async def echo(self, prompt: Prompt, top: int | None, runner: Runner) -> Echo:
        if isinstance(prompt, str):
            text, ids, shown = prompt, (), range(0)
            if prompt and top is not None:
                ids = (await Tokenizer(runner, self._deadlines, most=runner.context)(prompt, special=True)).ids
                shown = unwrapped(ids, runner.card.facts.vocabulary)
        else:
            text, ids, shown = await text_of(prompt, runner, self._deadlines), tuple(prompt), range(len(prompt))
        if top is None:
            return Echo(text)
        deadlines = self._deadlines.after_prompt(len(ids) / SLOWEST)
        return Echo(text, await PromptScorer(runner, deadlines, ids, top)(text, shown))

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
        source, _ = template_of(card)
        template = self._templates.pop(source, None) or ChatTemplate(source)
        self._templates[source] = template
        if len(self._templates) > MOST_TEMPLATES:
            self._templates.popitem(last=False)
        return template


@dataclass(frozen=True, slots=True)
class RunnerDraft:
    script: Script
    vocabulary: Vocabulary
    deadlines: Deadlines
    dropped: tuple[str, ...] = ()

    async def prepare(self, runner: Runner) -> RunnerPrepared:
        script = self.script
        pieces = without_pictures(script.pieces) if script.pictures else script.pieces
        ids = ids_alone(pieces)
        if ids is None:
            characters = sum(len(piece) for piece in pieces if isinstance(piece, str))
            refuse_hopeless(characters, runner.context, param=script.param)
            tokenized = Tokenizer(runner, self.deadlines, most=runner.context)
            prompt = await tokenized(pieces, special=script.special)
        else:
            prompt = Counted(ids, len(ids))
        if not prompt.count:
            prompt = Counted(start_of(self.vocabulary), 1)
        return RunnerPrepared(prompt.ids, prompt.count, script, runner, self.deadlines)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerChatDraft(RunnerDraft):
    chat: Chat
    template: ChatTemplate

    def with_chat(self, chat: Chat) -> RunnerChatDraft:
        pieces = rendered_now(chat, self.template, self.vocabulary)
        script = replace(self.script, pieces=pieces, pictures=pictures_of(chat))
        return replace(self, script=script, chat=chat)


@dataclass(frozen=True, slots=True)
class RunnerPrepared:
    ids: tuple[int, ...]
    """Empty where `tokens` is far more than the model's window holds."""
    tokens: int
    script: Script
    runner: Runner
    deadlines: Deadlines

    async def open(self, *, choice: int, max_tokens: int, seed: int | None) -> EventStream:
        script = self.script
        prompt = (
            picture_prompt(script.pieces, script.pictures, self.runner.card.facts.vocabulary, script.control)
            if script.pictures
            else self.ids
        )
        body = completion_body(
            prompt,
            self.script.sampling,
            max_tokens=max_tokens,
            seed=seed,
            shaping=self.script.shaping,
            top_logprobs=self.script.reading.top_logprobs,
        )
        deadlines = self.deadlines.after_prompt(self.tokens / SLOWEST)
        answer = await post(self.runner.socket, "/completion", body, deadlines)
        if answer.status != 200:
            async with answer:
                reason = failure_of(await answer.body(MOST_REASON))
            if script.pictures:
                raise refused_pictures(reason)
            raise UpstreamFailed(f"The engine refused the request: {reason}")
        ids = self.ids if self.script.keeps_ids else None
        counted = 0 if script.pictures else self.tokens
        return ReplyStream(answer, replace(script.reading, choice=choice, prompt_tokens=counted, prompt=ids))


def pictures_of(chat: Chat) -> tuple[bytes, ...]:
    return tuple(media.data for message in chat.messages for media in message.media)


def refused_pictures(reason: str) -> ContextTooLong | InvalidValue:
    """Only the engine knows how many tokens a picture takes, and whether it can be taken apart."""
    if TOO_LONG.search(reason):
        return ContextTooLong(f"The prompt with its images does not fit the model's window: {reason}", param="messages")
    return InvalidValue(f"The model cannot take these images: {reason}", param="messages")
