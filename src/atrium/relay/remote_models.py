"""Models of endpoints elsewhere, asked in whatever dialect the endpoint speaks. Implements `core.ports.Remote`.

The same choice, leases, circuits and failover as for relayed requests (contract `olla.md`, sections 5 and 6): where
nothing was sent the next endpoint is asked; what may have run is never sent twice.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from atrium.core.answers import Embedded, EventStream
from atrium.core.errors import (
    AtriumError,
    BadRequest,
    ContextTooLong,
    ModelNotFound,
    ModelUnavailable,
    NotSent,
    Unreachable,
    Unsupported,
    UpstreamFailed,
)
from atrium.core.kinds import EVERY
from atrium.core.ports import Pictures
from atrium.core.requests import Chat, Completion, Embed, Prompt, Sampling
from atrium.core.trails import Trail
from atrium.decisions.break_circuit import Outcome, outcome_of
from atrium.decisions.choose_endpoint import Wanted, choose_endpoint
from atrium.decisions.pass_headers import ResponseHead
from atrium.decisions.relayed_path import upstream_path
from atrium.dialects.loss import Loss
from atrium.relay.album import Album
from atrium.relay.directory import Directory, Endpoint
from atrium.relay.inbox import Inbox
from atrium.relay.leased import Try, turn_of
from atrium.relay.tally import Translator
from atrium.relay.translate import ChatErrand, CompletionErrand, EmbedErrand, Errand, LoadErrand, Place, Written
from atrium.relay.translated import Answered, RemoteStream
from atrium.relay.upstream_error import MOST_BODY, UpstreamError
from atrium.settings.tree import Settings

MOST_VECTORS = 256 * 1024 * 1024
"""Bytes of an embedder's whole answer."""
TOO_MUCH = frozenset({400, 413, 422})
TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size)|(prompt|input|messages?|text) (is|are) too (long|large)|too many tokens",
    re.IGNORECASE,
)
"""How servers tell that a prompt does not fit: OpenAI, vLLM, llama.cpp, Ollama, text-embeddings-inference."""


@dataclass(frozen=True, slots=True)
class RemoteBounds:
    """Seconds, and requests; as for relayed ones."""

    head: float
    between: float
    queue: int
    queue_timeout: float
    retry_status: tuple[int, ...] = ()
    lossy: bool = False
    """Callers would always rather lose a field than be refused."""


def remote_bounds(settings: Settings) -> RemoteBounds:
    proxy = settings.proxy
    return RemoteBounds(
        head=proxy.header_timeout,
        between=proxy.idle_timeout,
        queue=proxy.queue,
        queue_timeout=proxy.queue_timeout,
        retry_status=proxy.retry_status,
        lossy=settings.translation.lossy,
    )


@dataclass(frozen=True, slots=True)
class RemoteModels:
    directory: Directory
    bounds: RemoteBounds
    pictures: Pictures

    def serves(self, model: str) -> bool:
        return self._lists(self._wanted(model))

    def takes_files(self, model: str) -> bool:
        wanted = self._wanted(model)
        return all(one.spec.kind.takes_files for one in self.directory.listing(EVERY, wanted.models, wanted.target))

    def chat(self, chat: Chat, trail: Trail) -> RemoteChat:
        return RemoteChat(self, chat, trail, Album(chat.messages, self.pictures))

    def completion(self, completion: Completion, trail: Trail) -> tuple[RemoteCompletion, ...]:
        return tuple(RemoteCompletion(self, completion, prompt, trail) for prompt in completion.prompts)

    async def embed(self, embed: Embed, trail: Trail) -> Embedded:
        errand = EmbedErrand(embed)
        answered = await self.ask(errand, trail)
        try:
            body = await whole(answered.inbox, self.bounds.between, MOST_VECTORS)
            embedded = errand.read(answered.place, body)
        except AtriumError as failed:
            answered.end(Outcome.FAILURE, failed.message)
            raise
        except BaseException:
            answered.end(Outcome.NEITHER, "the client left")
            raise
        answered.end(Outcome.SUCCESS, "it answered 200")
        return embedded

    async def load(self, chat: Chat, trail: Trail) -> None:
        errand = LoadErrand(chat, 0, Album((), self.pictures))
        try:
            answered = await self.ask(errand, trail)
        except Unsupported:
            return
        answer = RemoteStream(answered, errand.reader(answered.place), None, self.bounds.between)
        async with aclosing(answer):
            async for _ in answer:
                pass

    async def ask(self, errand: Errand, trail: Trail) -> Answered:
        """Returns once an endpoint's response head is here, and a good one."""
        wanted = self._wanted(errand.model)
        ranked = self._ranked(wanted, trail)
        refusal: BadRequest | None = None
        while ranked:
            endpoint = next((one for one in ranked if not one.full), ranked[0])
            ranked.remove(endpoint)
            place = Place(endpoint, spelled(endpoint, wanted.models))
            loss = Loss(f"'{endpoint.spec.name}'", lossy=trail.lossy or self.bounds.lossy)
            try:
                written = await errand.write(place, loss)
            except BadRequest as refused:
                # Another endpoint may speak a dialect that has the word.
                refusal = refusal or refused
                continue
            self._note(place, errand, loss, trail)
            answered = await self._try(place, errand, written, trail, last=not ranked)
            if answered is not None:
                return answered
        raise refusal or Unreachable("No endpoint that could answer accepts a connection")

    async def _try(
        self, place: Place, errand: Errand, written: Written, trail: Trail, *, last: bool
    ) -> Answered | None:
        """None where another endpoint may be asked."""
        bounds, endpoint = self.bounds, place.endpoint
        trail.waited += await turn_of(endpoint, bounds.queue, bounds.queue_timeout)
        translator = self._translator(place, errand)
        one = Try(self.directory, endpoint, trail)
        try:
            inbox = await one.send(head_of(endpoint, written, trail), written.body)
            head = await inbox.head(bounds.head)
            if head.status < 400:
                return Answered(place, one, inbox, translator)
            body = await whole(inbox, bounds.between, MOST_BODY)
        except NotSent:
            return None
        except AtriumError as failed:
            one.end(Outcome.FAILURE, failed.message)
            note(translator, one)
            raise
        except BaseException:
            one.end(Outcome.NEITHER, "the client left")
            raise
        one.end(outcome_of(head.status), f"it answered {head.status}")
        if head.status in bounds.retry_status and not last:
            return None
        note(translator, one)
        raise refusal_of(head, body)

    def _wanted(self, model: str) -> Wanted:
        names = tuple(name.casefold() for name in (model, *self.directory.aliases.get(model, ())))
        wanted = Wanted(EVERY, names)
        if "/" in model and not self._lists(wanted) and (pinned := self.directory.pinned(model)):
            return Wanted(EVERY, (pinned[1].casefold(),), pinned[0])
        return wanted

    def _lists(self, wanted: Wanted) -> bool:
        return self.directory.known(EVERY, wanted.models, wanted.target)

    def _ranked(self, wanted: Wanted, trail: Trail) -> list[Endpoint]:
        """Raises ModelNotFound, ModelUnavailable."""
        directory = self.directory
        turn = directory.turn(wanted.prefix, wanted.models[0])
        choice = choose_endpoint(wanted, directory.endpoints, directory.balancing, turn, time.monotonic())
        trail.candidates = tuple(one.spec.name for one in choice.ranked)
        trail.passed = choice.passed
        if choice.ranked:
            return list(choice.ranked)
        name = wanted.models[0]
        if self._lists(wanted):
            message = f"Model '{name[:200]}' is known, but only on endpoints that are down now"
            raise ModelUnavailable(message, param="model", retry_after=1.0)
        raise ModelNotFound(f"Model '{name[:200]}' is not served by any endpoint", param="model")

    def _note(self, place: Place, errand: Errand, loss: Loss, trail: Trail) -> None:
        trail.endpoint, trail.kind, trail.model = place.endpoint.spec.name, place.kind, place.model
        trail.dialect = errand.wire(place)
        trail.dropped = loss.dropped

    def _translator(self, place: Place, errand: Errand) -> Translator:
        translator = self.directory.translations.of(errand.caller.value, errand.wire(place).value)
        translator.requests += 1
        translator.streams += errand.stream
        return translator


def note(translator: Translator, one: Try) -> None:
    translator.note(time.monotonic() - one.began, failed=True)


def spelled(endpoint: Endpoint, names: Sequence[str]) -> str:
    return next((endpoint.name_of(name) for name in names if endpoint.has(name)), names[0])


def head_of(endpoint: Endpoint, written: Written, trail: Trail) -> bytes:
    target = upstream_path(endpoint.spec.base, written.path.encode("ascii"))
    return (
        b"POST %b HTTP/1.1\r\n%baccept: */*\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        b"x-request-id: %b\r\nvia: 1.1 atrium\r\n\r\n"
        % (target, endpoint.fixed_lines, len(written.body), trail.request_id.encode("ascii", "replace"))
    )


async def whole(inbox: Inbox, patience: float, most: int) -> bytes:
    """Raises UpstreamFailed for a body of more than `most` bytes, and what reading raises."""
    pieces: list[bytes] = []
    size = 0
    while piece := await inbox.piece(patience):
        size += len(piece)
        if size > most:
            raise UpstreamFailed(f"The endpoint's answer is larger than {most} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def refusal_of(head: ResponseHead, body: bytes) -> AtriumError:
    """An endpoint's own refusal, to be told in the caller's dialect."""
    told = UpstreamError(head)
    told.piece(body)
    error = told.error()
    if head.status in TOO_MUCH and (error.code == ContextTooLong.code or TOO_LONG.search(error.message)):
        return ContextTooLong(error.message, param=error.param)
    return error


@dataclass(frozen=True, slots=True)
class RemoteChat:
    """A `Prepared` whose tokens are the endpoint's to count."""

    models: RemoteModels
    chat: Chat
    trail: Trail
    album: Album
    tokens: int = 0

    async def open(self, *, choice: int, max_tokens: int, seed: int | None) -> EventStream:
        """`max_tokens` 0: as the request says."""
        chat = replace(self.chat, sampling=sampled(self.chat.sampling, max_tokens, seed))
        errand = ChatErrand(chat, choice, self.album)
        answered = await self.models.ask(errand, self.trail)
        checked = None if chat.stream else chat.constraint
        return RemoteStream(answered, errand.reader(answered.place), checked, self.models.bounds.between)


@dataclass(frozen=True, slots=True)
class RemoteCompletion:
    models: RemoteModels
    completion: Completion
    prompt: Prompt
    trail: Trail
    tokens: int = 0

    async def open(self, *, choice: int, max_tokens: int, seed: int | None) -> EventStream:
        sampling = sampled(self.completion.sampling, max_tokens, seed)
        completion = replace(self.completion, sampling=sampling)
        errand = CompletionErrand(completion, self.prompt, choice)
        answered = await self.models.ask(errand, self.trail)
        checked = None if completion.stream else completion.constraint
        return RemoteStream(answered, errand.reader(answered.place), checked, self.models.bounds.between)


def sampled(sampling: Sampling, max_tokens: int, seed: int | None) -> Sampling:
    return replace(sampling, seed=seed, max_tokens=max_tokens or sampling.max_tokens)
