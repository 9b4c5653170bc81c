"""Ports: what services need of the parts, and no more. `app.py` joins the two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from atrium.core.answers import Echo, Embedded, EventStream
from atrium.core.completions import CompletionPage, CompletionQuery, KeptCompletion
from atrium.core.endpoints import RemoteModel, Runner, RunnerPlan, RunnerStatus
from atrium.core.models import Available, Catalog, Installing, ModelCard, Said
from atrium.core.people import Act, Acts, Caller, Key, NewKey, Session, User, UserChange
from atrium.core.requests import Chat, Completion, Embed, Media, Prompt
from atrium.core.trails import Trail


class Models(Protocol):
    """The book of names: what is installed, what is on its way, aliases and defaults."""

    def snapshot(self) -> Catalog: ...


class Lease(Protocol):
    """The right to use one loaded model; while it is held the model is not unloaded."""

    @property
    def runner(self) -> Runner: ...

    @property
    def loaded_in(self) -> float:
        """Seconds that this caller waited for the model to be ready."""
        ...

    @property
    def evicted(self) -> tuple[str, ...]:
        """Models that were stopped so that this one could be loaded for this lease."""
        ...

    def turn(self) -> AbstractAsyncContextManager[float]:
        """Hold one slot of the runner; gives the seconds waited.

        Raises QueueFull when too many wait, EngineFailed when the runner is gone, ShuttingDown.
        """
        ...

    def failed(self, reason: str) -> None:
        """Tell the supervisor that the runner broke, so that the next lease gets a fresh one."""
        ...

    def doubted(self, reason: str) -> None:
        """As `failed`, but the answers that others are having may end."""
        ...


class Engines(Protocol):
    def lease(
        self, card: ModelCard, caller: Caller, *, keep_alive: float | None = None
    ) -> AbstractAsyncContextManager[Lease]:
        """Wait until the model is ready, loading it if need be; one load however many ask.

        `keep_alive` in seconds says how long the model stays after its last lease, counted from that lease's end:
        0 unloads it then, a negative one keeps it for ever. None leaves what an earlier lease of the same runner asked
        for; on a fresh runner it is the model's own, or else the settings'. To load a model, lease it and let go.
        Cancelling the wait leaves no load behind that nobody else asked for.
        Raises QueueFull, NotEnoughMemory, EngineFailed, EngineMissing, ModelLoading (waited too long), ShuttingDown.
        """
        ...

    def running(self) -> tuple[RunnerStatus, ...]:
        """Every model that has a runner, is waited for or failed lately; loaded are those in state READY."""
        ...

    def planned(self, card: ModelCard) -> RunnerPlan:
        """How the model would run if it were loaded now. Raises EngineMissing."""
        ...

    async def unload(self, model: str) -> bool:
        """Stop a model's runner after its leases ended and return when its memory is free; False: it is not loaded."""
        ...


class Prepared(Protocol):
    """A generation that is ready to be sent: the prompt is token ids, the constraint is compiled."""

    @property
    def tokens(self) -> int:
        """Prompt length in the model's own tokens."""
        ...

    async def open(self, *, choice: int, max_tokens: int, seed: int | None) -> EventStream:
        """Start one generation; returns once the response head is here.

        The stream is Begun, pieces, Ended, Spent (of this choice alone). Close it to cancel.
        Raises NotSent when nothing was sent, EngineFailed when the runner broke before its response head.
        """
        ...


class Draft(Protocol):
    """A request that was checked against its model's facts, before the model is loaded."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Fields that this model cannot honour and that do no harm by their absence."""
        ...

    async def prepare(self, runner: Runner) -> Prepared:
        """Tokenise. Needs no slot. Raises EngineFailed, NotSent, InvalidValue, ContextTooLong."""
        ...


class ChatDraft(Draft, Protocol):
    def with_chat(self, chat: Chat) -> ChatDraft:
        """The same with a shorter conversation. Raises InvalidValue."""
        ...


class Relay(Protocol):
    """The way to a runner. What can be refused without a running model is refused by the drafts."""

    async def draft_chat(self, chat: Chat, card: ModelCard) -> ChatDraft:
        """Raises InvalidValue, InvalidSchema, Unsupported."""
        ...

    async def draft_completion(self, completion: Completion, card: ModelCard) -> tuple[Draft, ...]:
        """One for each prompt, in order. Raises as `draft_chat` does."""
        ...

    async def tokenize(self, inputs: Sequence[Prompt], runner: Runner) -> tuple[tuple[int, ...], ...]:
        """Token ids of embedding inputs with the model's own start and end tokens. Raises InvalidValue."""
        ...

    async def echo(self, prompt: Prompt, top: int | None, runner: Runner) -> Echo:
        """The prompt as text, scored with as many likeliest tokens unless `top` is None, which needs a slot.

        Raises NotSent, EngineFailed, UpstreamFailed, UpstreamTimeout.
        """
        ...

    async def embed(self, inputs: Sequence[str] | Sequence[Sequence[int]], runner: Runner) -> Embedded:
        """Of texts, which may hold no control token's name, or of token ids.

        Raises ContextTooLong where the engine says so of a text, EngineFailed.
        """
        ...


class Tokenizers(Protocol):
    """The vocabularies of local models, which need not be loaded. `card` None: plain UTF-8 bytes.

    Text never becomes a control token, and no start or end token is added. Every call raises EngineFailed,
    UpstreamTimeout, QueueFull.
    """

    async def encode(self, card: ModelCard | None, text: str) -> list[int]: ...

    async def count(self, card: ModelCard | None, text: str) -> int:
        """As many as `encode` gives."""
        ...

    async def decode(self, card: ModelCard | None, ids: Sequence[int]) -> str:
        """Control tokens by their names, half characters as U+FFFD. The ids must be the vocabulary's."""
        ...

    async def ends(self, card: ModelCard | None, text: str) -> Sequence[int]:
        """For each token how many whole characters of the text there are up to its end."""
        ...


class Remotes(Protocol):
    """The models of all endpoints: which there are, and how they count. They are asked by way of `Remote`."""

    def names(self) -> tuple[str, ...]:
        """Of all endpoints, in order of their priority."""
        ...

    def listed(self) -> tuple[RemoteModel, ...]:
        """What endpoints that are up have, in order of their priority."""
        ...

    def find(self, name: str) -> RemoteModel | None:
        """The model that a caller means: as listed, as `endpoint/model`, or by an alias.

        Raises ModelUnavailable when it is only on endpoints that are down.
        """
        ...

    async def refresh(self) -> None:
        """Read every list anew, within a bound."""
        ...

    async def window(self, model: RemoteModel) -> int:
        """Tokens that a request may have, prompt and answer together: as the endpoint tells, else as configured, else
        4096. Raises nothing."""
        ...

    async def encode(self, model: RemoteModel, text: str) -> list[int] | None:
        """By the endpoint's own tokenizer; None where it has none. Raises UpstreamFailed, UpstreamTimeout."""
        ...

    async def decode(self, model: RemoteModel, ids: Sequence[int]) -> str | None:
        """Raises InvalidValue for ids that the endpoint refuses, and as `encode`."""
        ...


class Pictures(Protocol):
    @property
    def most(self) -> int:
        """How many one chat may have."""
        ...

    async def read(self, media: Media) -> bytes:
        """The picture's file, from where the request says, checked. Raises InvalidValue that names the part."""
        ...


class Remote(Protocol):
    """The way to models of endpoints elsewhere, in whatever dialect they are asked."""

    def serves(self, model: str) -> bool:
        """Whether an endpoint, up or down, lists what the name means."""
        ...

    def takes_files(self, model: str) -> bool:
        """Whether every endpoint that lists it takes documents in a chat."""
        ...

    def chat(self, chat: Chat, trail: Trail) -> Prepared:
        """Opened, it raises what choosing an endpoint and asking it may: ModelNotFound, ModelUnavailable, QueueFull,
        Unreachable, UpstreamFailed, UpstreamTimeout, the endpoint's own refusals, and Unsupported where its dialect has
        no word for a field."""
        ...

    def completion(self, completion: Completion, trail: Trail) -> tuple[Prepared, ...]:
        """One for each prompt, in order."""
        ...

    async def embed(self, embed: Embed, trail: Trail) -> Embedded:
        """Raises as an opened `chat` does."""
        ...

    async def load(self, chat: Chat, trail: Trail) -> None:
        """Of a chat without words: its endpoint gets the model ready, or with a `keep_alive` of 0 lets it go, where its
        dialect has a word for that. Raises as an opened `chat` does."""
        ...


class UserBook(Protocol):
    async def add(self, name: str, *, password_hash: str | None, is_admin: bool, now: datetime) -> User:
        """Raises Conflict when the name is taken."""
        ...

    async def find(self, name: str) -> User | None: ...

    async def by_id(self, user_id: int) -> User | None: ...

    async def all(self) -> tuple[User, ...]: ...

    async def change(self, user_id: int, change: UserChange) -> User:
        """As it is afterwards. Raises NotFound; Conflict when no active admin would be left, or the password is another
        one by now than the change was granted for."""
        ...

    async def delete(self, user_id: int) -> None:
        """With the user's keys. Raises NotFound; Conflict for the last active admin."""
        ...


class KeyBook(Protocol):
    async def add(self, new: NewKey) -> Key:
        """Raises NotFound when the user is gone; Conflict when they have a key of this alias, or too many."""
        ...

    async def find(self, prefix: str) -> tuple[Key, User] | None: ...

    async def all(self, user_id: int | None = None) -> tuple[tuple[Key, User], ...]: ...

    async def revoke(self, key_id: int, *, owner: int | None = None) -> Key:
        """Raises NotFound, also for somebody else's where the owner is named."""
        ...

    async def used(self, stamps: dict[int, datetime]) -> None:
        """Note when keys were last used, many at once."""
        ...


class SessionBook(Protocol):
    async def add(self, *, user_id: int, mac: bytes, now: datetime, until: datetime) -> Session:
        """The user's oldest sessions beyond a bound end. Raises NotFound when the user is gone."""
        ...

    async def find(self, mac: bytes) -> tuple[Session, User] | None: ...

    async def end(self, session_id: int) -> None: ...

    async def end_all(self, user_id: int, *, but: int | None = None) -> None: ...

    async def forget_expired(self, now: datetime) -> None: ...


class AuditLog(Protocol):
    async def add(self, act: Act) -> None:
        """The oldest acts beyond a bound are forgotten."""
        ...

    async def newest(self, acts: Acts, limit: int) -> tuple[Act, ...]:
        """Newest first."""
        ...


class CompletionBook(Protocol):
    """Kept completions; nobody but their owner sees them."""

    async def add(self, kept: KeptCompletion) -> None:
        """Of more than are allowed to its owner the oldest leave."""
        ...

    async def find(self, owner: int | None, completion_id: str) -> KeptCompletion | None: ...

    async def page(self, owner: int | None, query: CompletionQuery) -> CompletionPage:
        """Raises InvalidValue for a cursor that is none of the owner's completions."""
        ...

    async def note(self, owner: int | None, completion_id: str, metadata: Mapping[str, str]) -> bool:
        """Put other metadata in place of what was there; False when there is no such completion."""
        ...

    async def delete(self, owner: int | None, completion_id: str) -> bool: ...


class Gallery(Protocol):
    """Brings models in and takes them out."""

    def available(self) -> tuple[Available, ...]: ...

    async def install(self, source: str, *, name: str = "", held: bool = False) -> Installing:
        """Start (or join) an installation and return at once.

        `source` is a name of the built-in index, the path or the http or https address of a GGUF file, or
        `fake:NAME?…`; `name` is another name than the source's own. `held`: it ends when nobody waits for it any more.
        Raises NotFound for an unknown source (with the nearest), Forbidden for `fake:` where not allowed, InvalidValue
        for what is no name, Conflict where the name is another source's.
        """
        ...

    async def finished(self, name: str) -> ModelCard:
        """Wait for an installation to end. Raises InstallFailed or DiskFull."""
        ...

    async def delete(self, name: str) -> None:
        """Raises ModelNotFound. Files that another model shares stay."""
        ...


class ModelConfigs(Protocol):
    """What is said of each model in a file of its own."""

    def said(self, name: str) -> Said | None: ...

    async def write(self, said: Said) -> None:
        """In force, and its files looked into, when it returns. Raises InvalidValue, NotFound, DiskFull."""
        ...

    async def copy(self, source: ModelCard, said: Said) -> None:
        """The files of `source` under another name, set up anew; deleting either leaves the other.

        Raises as `write` does.
        """
        ...

    async def remove(self, name: str) -> bool:
        """False when nothing was said of it."""
        ...

    async def rescan(self) -> None:
        """Look again, now, and into every file that is new."""
        ...

    async def settled(self) -> None:
        """Returns once everything found in adopted folders has been looked into."""
        ...
