"""What every database must do: the same suite on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from atrium.core.completions import CompletionQuery, KeptCompletion
from atrium.core.documents import Store
from atrium.core.errors import (
    ConfigError,
    Conflict,
    InvalidKey,
    InvalidValue,
    NotFound,
    SchemaTooNew,
    WrongPassword,
)
from atrium.core.people import Caller, NewKey, User, UserChange
from atrium.services.check_key import CheckKey
from atrium.services.issue_key import IssueKey, Wish
from atrium.services.log_in import LogIn
from atrium.services.passwords import Passwords
from atrium.services.people import People
from atrium.storage.database import NEWEST, scripts
from atrium.storage.keys import StoredKeys
from atrium.storage.opening import Storage, open_storage
from atrium.storage.tables import metadata
from tests.ports.conftest import PEPPER

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def new_key(user: User, alias: str, prefix: str) -> NewKey:
    return NewKey(user.id, alias, prefix, b"m", NOW)


def new_store(owner: User, name: str) -> Store:
    return Store(
        id=str(uuid.uuid4()),
        owner_id=owner.id,
        owner=owner.name,
        name=name,
        description="",
        vectorizer="vec",
        is_public=False,
        chunk_size=512,
        chunk_overlap=64,
        created_at=NOW,
        updated_at=NOW,
    )


def checking(storage: Storage) -> CheckKey:
    return CheckKey(storage.keys, storage.sessions, PEPPER)


def people_of(storage: Storage, check: CheckKey) -> People:
    return People(storage.users, storage.sessions, check, Passwords())


async def admin(storage: Storage, name: str = "admin") -> User:
    return await storage.users.add(name, password_hash=None, is_admin=True, now=NOW)


async def test_a_user_comes_back_as_stored_with_its_moment_in_utc(storage: Storage) -> None:
    added = await admin(storage)
    assert await storage.users.find("ADMIN") == added
    assert added.created_at == NOW
    assert added.created_at.tzinfo is not None


async def test_a_name_is_taken_whatever_its_case(storage: Storage) -> None:
    await admin(storage)
    with pytest.raises(Conflict):
        await admin(storage, "Admin")


async def test_an_alias_is_unique_for_a_user_and_free_for_another(storage: Storage) -> None:
    one, other = await admin(storage), await admin(storage, "other")
    add = storage.keys.add
    await add(new_key(one, "laptop", "lollms_1"))
    await add(new_key(other, "laptop", "lollms_2"))
    with pytest.raises(Conflict):
        await add(new_key(one, "laptop", "lollms_3"))


async def test_of_twenty_askers_for_one_alias_one_gets_it(storage: Storage) -> None:
    user = await admin(storage)
    tries = [storage.keys.add(new_key(user, "same", f"lollms_{n}")) for n in range(20)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 19
    assert len(await storage.keys.all()) == 1


async def test_who_is_cancelled_while_writing_hears_that_and_nothing_else(storage: Storage) -> None:
    heard: set[type[BaseException] | None] = set()
    for moments in range(0, 800, 10):
        writing = asyncio.create_task(storage.usage.forget(NOW))
        for _ in range(moments):
            await asyncio.sleep(0)
        writing.cancel()
        (outcome,) = await asyncio.gather(writing, return_exceptions=True)
        heard.add(outcome and type(outcome))
    assert heard <= {asyncio.CancelledError, None}
    assert asyncio.CancelledError in heard
    await admin(storage)


async def test_deleting_a_user_takes_their_keys_along(storage: Storage) -> None:
    await admin(storage)
    user = await storage.users.add("ann", password_hash=None, is_admin=False, now=NOW)
    await storage.keys.add(new_key(user, "a", "lollms_1"))
    await storage.users.delete(user.id)
    assert await storage.keys.find("lollms_1") is None
    with pytest.raises(NotFound):
        await storage.users.delete(user.id)


@pytest.mark.parametrize("change", ["delete", "demote", "deactivate"])
async def test_the_last_active_administrator_stays(storage: Storage, change: str) -> None:
    user = await admin(storage)
    with pytest.raises(Conflict):
        if change == "delete":
            await storage.users.delete(user.id)
        else:
            await storage.users.change(
                user.id, UserChange(is_admin=change != "demote", is_active=change != "deactivate")
            )
    assert await storage.users.find("admin") == user


def told_nobody(_: str, __: object) -> None:
    """Where no log is kept."""


class Meanwhile(Passwords):
    """Something happens while a password is compared, which takes long."""

    def __init__(self, happens: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._happens = happens

    async def is_right(self, stored: str | None, password: str) -> bool:
        right = await super().is_right(stored, password)
        await self._happens()
        return right


async def with_password(storage: Storage, name: str) -> User:
    hashed = await Passwords().hashed("the old password")
    return await storage.users.add(name, password_hash=hashed, is_admin=True, now=NOW)


async def test_who_changes_their_password_takes_no_other_change_back(storage: Storage) -> None:
    await admin(storage)
    user, plain = await with_password(storage, "eve"), people_of(storage, checking(storage))
    meanwhile = Meanwhile(lambda: plain.change(user.id, is_active=False, is_admin=False))
    people = People(storage.users, storage.sessions, plain.check_key, meanwhile)
    await people.change_password(Caller(user.id, "eve"), "the old password", "the new password")
    left = await storage.users.find("eve")
    assert left is not None
    assert (left.is_active, left.is_admin) == (False, False)
    assert await plain.passwords.is_right(left.password_hash, "the new password")


async def test_a_password_that_was_reset_meanwhile_stays_as_it_was_reset(storage: Storage) -> None:
    user, plain = await with_password(storage, "eve"), people_of(storage, checking(storage))
    meanwhile = Meanwhile(lambda: plain.change(user.id, password="by the administrator"))
    people = People(storage.users, storage.sessions, plain.check_key, meanwhile)
    with pytest.raises(Conflict):
        await people.change_password(Caller(user.id, "eve"), "the old password", "the thief's password")
    left = await storage.users.find("eve")
    assert left is not None
    assert await plain.passwords.is_right(left.password_hash, "by the administrator")


@pytest.mark.parametrize("change", ["reset", "deactivated", "deleted"])
async def test_a_login_that_is_overtaken_by_a_change_leaves_no_session(storage: Storage, change: str) -> None:
    await admin(storage)
    user, plain = await with_password(storage, "eve"), people_of(storage, checking(storage))

    async def happens() -> None:
        if change == "deleted":
            await plain.delete(user.id)
        else:
            await plain.change(
                user.id,
                password="by the administrator" if change == "reset" else None,
                is_active=False if change == "deactivated" else None,
            )

    people = People(storage.users, storage.sessions, plain.check_key, Meanwhile(happens))
    log_in = LogIn(storage.users, storage.sessions, people, PEPPER, 60.0, signup=False, tell=told_nobody)
    with pytest.raises(WrongPassword):
        await log_in("eve", "the old password", "here")
    async with storage.database.reading() as connection:
        assert (await connection.execute(text("select count(*) from sessions"))).scalar() == 0


async def test_two_administrators_cannot_remove_each_other_at_once(storage: Storage) -> None:
    users = [await admin(storage, f"admin{n}") for n in range(6)]
    results = await asyncio.gather(*(storage.users.delete(user.id) for user in users), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 1
    assert len(await storage.users.all()) == 1


async def test_no_update_is_lost_among_fifty_at_once(storage: Storage) -> None:
    user = await admin(storage)
    keys = [await storage.keys.add(new_key(user, str(n), f"lollms_{n}")) for n in range(50)]
    await asyncio.gather(*(storage.keys.used({key.id: NOW}) for key in keys))
    assert all(key.last_used_at == NOW for key, _ in await storage.keys.all())


async def test_a_user_has_so_many_keys_and_no_more(storage: Storage) -> None:
    one, other = await admin(storage), await admin(storage, "other")
    keys = StoredKeys(storage.database, 2)
    made = [await keys.add(new_key(one, str(n), f"lollms_{n}")) for n in range(2)]
    with pytest.raises(Conflict, match="has 2 keys already"):
        await keys.add(new_key(one, "third", "lollms_3"))
    await keys.add(new_key(other, "first", "lollms_3"))
    await keys.revoke(made[0].id)
    await keys.add(new_key(one, "third", "lollms_4"))
    assert len(await keys.all(one.id)) == 2


async def test_however_many_ask_at_once_a_user_has_no_more_keys_and_stores_than_that(storage: Storage) -> None:
    user = await admin(storage)
    keys = StoredKeys(storage.database, 3)
    made = [keys.add(new_key(user, str(n), f"lollms_{n}")) for n in range(8)]
    made += [storage.stores.add(new_store(user, str(n)), 3) for n in range(8)]
    results = await asyncio.gather(*made, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 10
    assert len(await keys.all(user.id)) == len(await storage.stores.listed(user.id)) == 3


async def test_nothing_is_made_for_a_user_who_is_gone(storage: Storage) -> None:
    await admin(storage)
    gone = await admin(storage, "gone")
    await storage.users.delete(gone.id)
    with pytest.raises(NotFound):
        await storage.keys.add(new_key(gone, "late", "lollms_1"))
    with pytest.raises(NotFound):
        await storage.stores.add(new_store(gone, "late"), 3)


async def test_a_key_is_good_until_it_is_revoked(storage: Storage) -> None:
    check = checking(storage)
    issue = IssueKey(storage.users, storage.keys, check, PEPPER)
    await admin(storage)
    key, _, full = await issue.issue("admin", Wish(" laptop "))
    assert key.alias == "laptop"
    assert (await check(full)).is_admin
    await check.flush()
    assert (await issue.all())[0][0].last_used_at is not None
    await issue.revoke(key.id)
    with pytest.raises(InvalidKey):
        await check(full)


async def test_a_key_made_after_it_was_refused_is_good_at_once(storage: Storage) -> None:
    check = checking(storage)
    with pytest.raises(InvalidKey):
        await check("lollms_" + "0" * 16 + "_" + "0" * 48)
    issue = IssueKey(storage.users, storage.keys, check, PEPPER)
    await admin(storage)
    _, _, full = await issue.issue("admin", Wish("a"))
    assert (await check(full)).name == "admin"


async def test_deactivating_a_user_ends_their_keys_at_once(storage: Storage) -> None:
    check = checking(storage)
    people = people_of(storage, check)
    await people.ensure_admin(None)
    ann = await people.create("ann", None, is_admin=False)
    _, _, full = await IssueKey(storage.users, storage.keys, check, PEPPER).issue("ann", Wish("a"))
    assert (await check(full)).name == "ann"
    await people.change(ann.id, is_active=False)
    with pytest.raises(InvalidKey):
        await check(full)


@pytest.mark.parametrize("wrong", ["", "x", "lollms_", "sk-123", "lollms_" + "0" * 16 + "_" + "0" * 47 + "g", "\ud800"])
async def test_whatever_is_no_key_is_refused_alike(storage: Storage, wrong: str) -> None:
    with pytest.raises(InvalidKey, match="not valid"):
        await checking(storage)(wrong)


async def test_the_admin_exists_once_and_keeps_a_password_that_was_set(storage: Storage) -> None:
    people = people_of(storage, checking(storage))
    assert await people.ensure_admin(None)
    assert not await people.ensure_admin("first password")
    first = (await people.all())[0].password_hash
    assert first
    assert first.startswith("$argon2id$")
    await people.ensure_admin("second password")
    assert (await people.all())[0].password_hash == first


async def test_another_pepper_is_refused(storage: Storage, url: str | None, file: Path) -> None:
    with pytest.raises(ConfigError, match="pepper"):
        await open_storage(url, file, b"q" * 32)


async def test_a_newer_schema_is_refused_with_both_versions(storage: Storage, url: str | None, file: Path) -> None:
    async with storage.database.writing() as connection:
        await connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match=f"9999.*{NEWEST}"):
        await open_storage(url, file, PEPPER)


async def test_the_migrations_lead_to_the_tables(storage: Storage) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with storage.database.reading() as connection:
        assert await connection.run_sync(differences) == []
    assert scripts().get_current_head() == NEWEST


async def test_a_damaged_file_is_told(file: Path) -> None:
    file.write_bytes(b"this is no database" * 100)
    with pytest.raises(ConfigError, match=r"atrium\.db"):
        await open_storage(None, file, PEPPER)


def kept(number: int, owner: int | None, **metadata: str) -> KeptCompletion:
    return KeptCompletion(f"chatcmpl-{number}", owner, number, "m", b"{}", b"[]", metadata)


async def test_completions_are_paged_in_both_orders_for_their_owner_alone(storage: Storage) -> None:
    ann, bob = await admin(storage, "ann"), await admin(storage, "bob")
    book = storage.completions
    for number in range(6):
        await book.add(kept(number, ann.id, half=str(number % 2)))
    await book.add(kept(6, bob.id))
    await book.add(kept(7, None))
    newest = await book.page(ann.id, CompletionQuery(newest_first=True, most=4))
    assert [one.created for one in newest.kept] == [5, 4, 3, 2]
    assert newest.has_more
    rest = await book.page(ann.id, CompletionQuery(newest_first=True, after="chatcmpl-2"))
    assert ([one.created for one in rest.kept], rest.has_more) == ([1, 0], False)
    before = await book.page(ann.id, CompletionQuery(before="chatcmpl-2"))
    assert [one.created for one in before.kept] == [0, 1]
    odd = await book.page(ann.id, CompletionQuery(metadata={"half": "1"}))
    assert [one.created for one in odd.kept] == [1, 3, 5]
    assert [one.created for one in (await book.page(None, CompletionQuery())).kept] == [7]
    with pytest.raises(InvalidValue, match="after"):
        await book.page(ann.id, CompletionQuery(after="chatcmpl-6"))


async def test_completions_leave_with_their_user(storage: Storage) -> None:
    await admin(storage)
    ann = await storage.users.add("ann", password_hash=None, is_admin=False, now=NOW)
    await storage.completions.add(kept(1, ann.id, a="b"))
    assert not await storage.completions.note(None, "chatcmpl-1", {})
    assert await storage.completions.note(ann.id, "chatcmpl-1", {"c": "d"})
    found = await storage.completions.find(ann.id, "chatcmpl-1")
    assert found == kept(1, ann.id, c="d")
    await storage.users.delete(ann.id)
    assert not await storage.completions.delete(ann.id, "chatcmpl-1")
    async with storage.database.reading() as connection:
        assert (await connection.execute(text("select count(*) from completion_metadata"))).scalar() == 0
