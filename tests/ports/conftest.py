"""Both databases, for the suites that run on each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from atrium.storage.database import database_url
from atrium.storage.opening import Storage, open_storage
from tests.postgres import postgres

PEPPER = b"p" * 32


@pytest.fixture(scope="session")
def postgres_server() -> Generator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    if request.param == "sqlite":
        return None
    address: str = request.getfixturevalue("postgres_server")
    engine = create_async_engine(database_url(address, tmp_path))
    async with engine.begin() as connection:
        await connection.execute(text("drop schema public cascade"))
        await connection.execute(text("create schema public"))
    await engine.dispose()
    return address


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "atrium.db"


@pytest.fixture
async def storage(url: str | None, file: Path) -> AsyncGenerator[Storage]:
    opened = await open_storage(url, file, PEPPER)
    yield opened
    await opened.close()
