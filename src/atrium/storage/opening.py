"""Everything that is kept, opened together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from atrium.core.errors import ConfigError
from atrium.core.events import Tell
from atrium.storage.audit import StoredAudit
from atrium.storage.completions import StoredCompletions
from atrium.storage.database import Database, open_database
from atrium.storage.ingests import StoredIngests
from atrium.storage.keys import StoredKeys
from atrium.storage.people import StoredUsers
from atrium.storage.postgres_shelf import PostgresBounds, PostgresShelf
from atrium.storage.quotas import StoredQuotas
from atrium.storage.secrets import fingerprint
from atrium.storage.sessions import StoredSessions
from atrium.storage.store_book import StoredStores
from atrium.storage.store_files import ShelfBounds, StoreFiles
from atrium.storage.tables import meta
from atrium.storage.usage import StoredUsage

PEPPER = "pepper"


@dataclass(frozen=True, slots=True)
class Kept:
    """How much of it."""

    sessions_per_user: int = 100
    audit_rows: int = 100_000
    completions_per_user: int = 1000
    keys_per_user: int = 1000


KEPT = Kept()


@dataclass(frozen=True, slots=True)
class Storage:
    database: Database
    users: StoredUsers
    keys: StoredKeys
    sessions: StoredSessions
    audit: StoredAudit
    stores: StoredStores
    ingests: StoredIngests
    completions: StoredCompletions
    quotas: StoredQuotas
    usage: StoredUsage

    async def first(self, deed: str) -> bool:
        """True once in the life of this database, for what must happen once."""
        try:
            async with self.database.writing() as connection:
                await connection.execute(insert(meta).values(name=f"first {deed}", value="done"))
        except IntegrityError:
            return False
        return True

    async def close(self) -> None:
        await self.database.close()


async def open_storage(url: str | None, file: Path, pepper: bytes, kept: Kept = KEPT) -> Storage:
    """Raises ConfigError, SchemaTooNew."""
    database = await open_database(url, file)
    try:
        await check_pepper(database, fingerprint(pepper))
    except BaseException:
        await database.close()
        raise
    return Storage(
        database,
        StoredUsers(database),
        StoredKeys(database, kept.keys_per_user),
        StoredSessions(database, kept.sessions_per_user),
        StoredAudit(database, kept.audit_rows),
        StoredStores(database),
        StoredIngests(database),
        StoredCompletions(database, kept.completions_per_user),
        StoredQuotas(database),
        StoredUsage(database),
    )


async def open_shelf(
    storage: Storage, folder: Path, files: ShelfBounds, rows: PostgresBounds, tell: Tell
) -> StoreFiles | PostgresShelf:
    """Stores as files in a folder of this gateway's own; in PostgreSQL for all gateways that share it."""
    if storage.database.sqlite:
        return StoreFiles(folder, files)
    shelf = PostgresShelf(storage.database, rows, tell)
    await shelf.open()
    return shelf


async def check_pepper(database: Database, mark: str) -> None:
    """A database belongs to one pepper: with another, every key would be refused without a word why."""
    query = select(meta.c.value).where(meta.c.name == PEPPER)
    async with database.reading() as connection:
        known = (await connection.execute(query)).scalar()
    if known is None:
        try:
            async with database.writing() as connection:
                await connection.execute(insert(meta).values(name=PEPPER, value=mark))
        except IntegrityError:
            # Another gateway was quicker; its pepper must be ours.
            await check_pepper(database, mark)
    elif known != mark:
        raise ConfigError(
            "The pepper is not the one that this database's keys were made with",
            hint="Put secrets/pepper back from your backup, or set ATRIUM_PEPPER to the one of the other gateways",
        )
