"""Opening the database: SQLite in the data folder, or PostgreSQL; brought to the newest schema first."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from atrium.core.errors import ConfigError, DiskFull, InvalidValue, SchemaTooNew, Unavailable
from atrium.storage.tables import metadata

MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = "0006"
"""Kept beside the migrations, so that an up-to-date database opens without looking through them; a test compares."""
BUSY_SECONDS = 15
POOL = 10
POOL_PATIENCE = 15
LOCK_NUMBER = 0x41545249
"""Names the advisory lock under which gateways that share a PostgreSQL migrate one after the other."""
DISK_FULL = "53100"
"""PostgreSQL's code for it."""
UNWRITABLE = ("SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN")
NOT_IN_REPERTOIRE = "22021"
"""PostgreSQL's code for text with a character that it cannot keep."""
KNOWN = text("select version_num from alembic_version")


class Database:
    """A pool of connections. Writing transactions on SQLite begin at once as such: deferred ones lose updates."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.sqlite = engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection]:
        """One transaction, committed at the end of the block. Raises DiskFull, Unavailable."""
        try:
            async with self._transaction() as connection:
                yield connection
        except DBAPIError as error:
            if (why := unwritten(error)) is None:
                raise
            raise why from error

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncConnection]:
        async with self.engine.connect() as connection:
            if self.sqlite:
                await connection.exec_driver_sql("begin immediate")
            else:
                await connection.begin()
            try:
                yield connection
                await (connection.exec_driver_sql("commit") if self.sqlite else connection.commit())
            except BaseException:
                # Whoever was cancelled in mid-word has no connection to roll back, and must hear of nothing but that.
                with suppress(SQLAlchemyError):
                    await (connection.exec_driver_sql("rollback") if self.sqlite else connection.rollback())
                raise

    async def close(self) -> None:
        await self.engine.dispose()


def unwritten(error: DBAPIError) -> DiskFull | Unavailable | None:
    """What may pass, as an error of ours; None for what is our own mistake, or a conflict that the caller handles."""
    name = str(getattr(error.orig, "sqlite_errorname", ""))
    if name == "SQLITE_FULL" or getattr(error.orig, "sqlstate", "") == DISK_FULL:
        return DiskFull("The disk that the database lies on is full", hint="Make room, then try again")
    if name.startswith("SQLITE_BUSY"):
        return Unavailable("Somebody else holds the database", hint="Try again in a moment", retry_after=1)
    if name.startswith(UNWRITABLE):
        return Unavailable(f"The database cannot be written: {error.orig}", hint="Look at its disk and its permissions")
    return None


async def open_database(url: str | None, file: Path) -> Database:
    """Raises ConfigError when it cannot be reached or read, SchemaTooNew."""
    target = database_url(url, file)
    database = Database(make_engine(target))
    try:
        async with database.engine.connect() as connection:
            known = await connection.run_sync(known_version)
        if known != NEWEST:
            check_version(known)
            if database.sqlite and known is not None:
                await asyncio.to_thread(copy_sqlite, file, known)
            async with database.engine.connect() as connection:
                await connection.run_sync(migrate)
    except (SQLAlchemyError, OSError, sqlite3.Error) as error:
        await database.close()
        where = target.render_as_string(hide_password=True)
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise ConfigError(f"The database {where} cannot be used: {reason}") from None
    except BaseException:
        await database.close()
        raise
    return database


def database_url(url: str | None, file: Path) -> URL:
    """Raises ConfigError for what is neither PostgreSQL nor nothing."""
    if url is None:
        return URL.create("sqlite+aiosqlite", database=str(file))
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("database.url is not an address", hint="Write postgresql://user@host/name") from None
    if parsed.drivername.split("+")[0] not in ("postgres", "postgresql"):
        raise ConfigError(f"database.url is of a kind that is not known: {parsed.drivername}", hint="Use postgresql://")
    return parsed.set(drivername="postgresql+asyncpg")


def make_engine(target: URL) -> AsyncEngine:
    if not target.drivername.startswith("sqlite"):
        engine = create_async_engine(
            target, pool_size=POOL, max_overflow=0, pool_timeout=POOL_PATIENCE, pool_pre_ping=True
        )
        event.listen(engine.sync_engine, "handle_error", tell_unkept)
        return engine
    engine = create_async_engine(
        target, pool_size=POOL, max_overflow=0, pool_timeout=POOL_PATIENCE, connect_args={"timeout": BUSY_SECONDS}
    )
    event.listen(engine.sync_engine, "connect", prepare_sqlite)
    return engine


def tell_unkept(context: ExceptionContext) -> InvalidValue | None:
    """A NUL in what somebody sent, which PostgreSQL keeps in no text, is theirs to mend."""
    if getattr(context.original_exception, "sqlstate", None) == NOT_IN_REPERTOIRE:
        return InvalidValue("It has a NUL in it (U+0000), which cannot be kept")
    return None


def prepare_sqlite(connection: Any, _: object) -> None:
    """Transactions are begun by us. With WAL, FULL makes a commit survive a power cut; commits are rare here."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on", f"busy_timeout={BUSY_SECONDS * 1000}"):
        cursor.execute(f"pragma {pragma}")
    cursor.close()


def known_version(connection: Connection) -> str | None:
    """The schema's version; None for an empty database."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return cast("str | None", connection.execute(KNOWN).scalar())


def check_version(known: str | None) -> None:
    versions = {script.revision for script in scripts().walk_revisions()}
    if known is not None and known not in versions:
        raise SchemaTooNew(
            f"The database has schema {known}, this Atrium knows schemas up to {NEWEST}",
            hint="Start the newer Atrium, or put a backup of the database back",
        )


def copy_sqlite(file: Path, known: str) -> None:
    """Before anything is changed: a whole copy beside the file."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = file.with_name(f"{file.name}.{known}-{stamp}.bak")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config)


def migrate(connection: Connection) -> None:
    """Forward to the newest schema, in one transaction."""
    directory = scripts()
    postgres = connection.dialect.name == "postgresql"
    connection.exec_driver_sql("begin immediate" if not postgres else f"select pg_advisory_lock({LOCK_NUMBER})")

    def upgrade(revision: Any, _: MigrationContext) -> Any:
        return directory._upgrade_revs("head", revision)  # pyright: ignore[reportPrivateUsage] - as alembic itself does

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with EnvironmentContext(config, directory, fn=upgrade) as environment:
        environment.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
        environment.run_migrations()
    if postgres:
        connection.commit()
        connection.exec_driver_sql(f"select pg_advisory_unlock({LOCK_NUMBER})")
        connection.commit()
    else:
        connection.exec_driver_sql("commit")


def fitted(text: str, most: int) -> str:
    """As any database takes it."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:most]
