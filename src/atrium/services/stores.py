"""Document stores: making, seeing, changing, sharing and deleting them, each for whom it is allowed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from atrium.core.document_ports import Shelf, StoreBook
from atrium.core.documents import Act, Permission, Reached, Share, Store, StoreChange, Tally
from atrium.core.errors import AtriumError, Forbidden, InvalidValue, NotFound
from atrium.core.models import Ability
from atrium.core.people import Caller
from atrium.core.ports import UserBook
from atrium.core.requests import Embed
from atrium.decisions.name_store import Label, name_store
from atrium.decisions.reach_store import Verdict, reach_store
from atrium.decisions.resolve_name import resolve_name
from atrium.services.embed_beside import EmbedBeside

LONGEST_NAME = 200
LONGEST_DESCRIPTION = 10_000
LEAST_CHUNK, MOST_CHUNK = 64, 16_384
TRIAL = "the quick brown fox"
SHARED = (Permission.READ_QUERY, Permission.READ_WRITE, Permission.REVECTORIZE)


@dataclass(frozen=True, slots=True)
class NewStore:
    name: str
    description: str = ""
    vectorizer: str = ""
    """Empty: the default embedding model."""
    is_public: bool = False
    chunk_size: int | None = None
    chunk_overlap: int | None = None


@dataclass(frozen=True, slots=True)
class Cutting:
    """How texts are cut where a store says nothing, in characters."""

    size: int
    overlap: int


@dataclass(frozen=True, slots=True)
class Stores:
    book: StoreBook
    shelf: Shelf
    users: UserBook
    embed: EmbedBeside
    cutting: Cutting
    most: int
    """Stores of one user."""

    async def reach(self, store_id: str, caller: Caller, act: Act) -> Reached:
        """The store, if the caller may do that with it. Raises NotFound, Forbidden."""
        found = await self.book.reach(as_uuid(store_id), caller.user_id)
        if found is None:
            raise hidden()
        store, permission = found
        verdict = reach_store(permission, act, is_admin=caller.is_admin)
        if verdict is Verdict.HIDDEN:
            raise hidden()
        if verdict is Verdict.FORBIDDEN:
            raise Forbidden(f"You may not {act.value} the store '{store.name}'", hint="Its owner can share it with you")
        return Reached(store, permission or Permission.OWNER)

    async def named(self, given: str, caller: Caller) -> Reached:
        """A store that the caller may read. Raises as `name_store` does."""
        return name_store(given, await self.book.listed(caller.user_id), label)

    async def listed(self, caller: Caller) -> tuple[tuple[Reached, Tally], ...]:
        return tuple([(one, await self.tally(one.store.id)) for one in await self.book.listed(caller.user_id)])

    async def all(self) -> tuple[tuple[Store, Tally], ...]:
        return tuple([(store, await self.tally(store.id)) for store in await self.book.all()])

    async def tally(self, store_id: str) -> Tally:
        return await self.shelf.tally(store_id)

    async def create(self, new: NewStore, caller: Caller) -> Store:
        """Raises InvalidValue, Conflict, Forbidden for who is no user, and what naming its model raises."""
        if caller.user_id is None:
            raise Forbidden("Stores belong to users", hint="Send the API key of one")
        size = self.cutting.size if new.chunk_size is None else new.chunk_size
        if not LEAST_CHUNK <= size <= MOST_CHUNK:
            raise InvalidValue(f"'chunk_size' is from {LEAST_CHUNK} to {MOST_CHUNK} characters", param="chunk_size")
        given = min(self.cutting.overlap, size // 4) if new.chunk_overlap is None else new.chunk_overlap
        if not 0 <= given <= size // 2:
            raise InvalidValue("'chunk_overlap' is from 0 to half of 'chunk_size'", param="chunk_overlap")
        vectorizer = await self._vectorizer(new.vectorizer, caller)
        now = datetime.now(UTC)
        store = Store(
            id=str(uuid.uuid4()),
            owner_id=caller.user_id,
            owner=caller.name,
            name=checked_name(new.name),
            description=checked_description(new.description),
            vectorizer=vectorizer,
            is_public=new.is_public,
            chunk_size=size,
            chunk_overlap=given,
            created_at=now,
            updated_at=now,
        )
        return await self.book.add(store, self.most)

    async def _vectorizer(self, name: str, caller: Caller) -> str:
        """The model's own name; one of an endpoint is tried, since only it can tell what it is good for.

        Raises Forbidden where the caller's key is not for it, ModelNotFound, ModelLoading, InvalidValue, and what the
        endpoint's answer raises.
        """
        embed = self.embed
        try:
            embed.usher.names(caller, name, Ability.EMBEDDING)
            if embed.is_elsewhere(name):
                await embed(Embed(name, (TRIAL,)), caller)
                return name
            return resolve_name(name, embed.usher.models.snapshot(), Ability.EMBEDDING).name
        except AtriumError as error:
            error.param = "vectorizer"
            raise

    async def change(self, store_id: str, change: StoreChange, caller: Caller) -> Reached:
        """Raises NotFound, Forbidden, InvalidValue, Conflict."""
        reached = await self.reach(store_id, caller, Act.GOVERN)
        name = None if change.name is None else checked_name(change.name)
        about = None if change.description is None else checked_description(change.description)
        checked = StoreChange(name, about, change.is_public)
        return Reached(await self.book.change(reached.store.id, checked, datetime.now(UTC)), reached.permission)

    async def share(self, store_id: str, username: str, level: Permission, caller: Caller) -> Share:
        """Raises NotFound, Forbidden, InvalidValue."""
        store = (await self.reach(store_id, caller, Act.GOVERN)).store
        if level not in SHARED:
            names = ", ".join(one.value for one in SHARED)
            raise InvalidValue(f"'permission_level' is one of {names}", param="permission_level")
        user = await self.users.find(username)
        if user is None:
            raise NotFound(f"There is no user '{username[:64]}'", param="target_username")
        if user.id == store.owner_id:
            raise InvalidValue("The store is this user's own", param="target_username")
        await self.book.share(store.id, user.id, level)
        return Share(user.id, user.name, level)

    async def shares(self, store_id: str, caller: Caller) -> tuple[Share, ...]:
        """Raises NotFound, Forbidden."""
        return await self.book.shares((await self.reach(store_id, caller, Act.GOVERN)).store.id)

    async def unshare(self, store_id: str, username: str, caller: Caller) -> None:
        """Raises NotFound, Forbidden."""
        store = (await self.reach(store_id, caller, Act.GOVERN)).store
        shares = await self.book.shares(store.id)
        for one in shares:
            if username.casefold() in (one.username.casefold(), str(one.user_id)):
                await self.book.unshare(store.id, one.user_id)
                return
        raise NotFound(f"The store is not shared with '{username[:64]}'")


def as_uuid(given: str) -> str:
    """In the form that ids are kept in. Raises NotFound for what is none: it can be no store's id."""
    try:
        return str(uuid.UUID(given))
    except ValueError:
        raise hidden() from None


def hidden() -> NotFound:
    """The same for what is not there and for what is not told."""
    return NotFound("There is no such store", param="datastore_id")


def checked_name(name: str) -> str:
    """Raises InvalidValue."""
    trimmed = name.strip()
    if not 1 <= len(trimmed) <= LONGEST_NAME or not trimmed.isprintable():
        raise InvalidValue(f"A store's name has 1 to {LONGEST_NAME} characters, all printable", param="name")
    return trimmed


def checked_description(text: str) -> str:
    """Raises InvalidValue."""
    if len(text) > LONGEST_DESCRIPTION or "\0" in text:
        raise InvalidValue(f"A description has at most {LONGEST_DESCRIPTION} characters", param="description")
    return text


def label(reached: Reached) -> Label:
    store = reached.store
    return Label(store.id, store.name, store.owner, reached.permission)
