"""Who guesses names, passwords and keys learns nothing by the work that it takes, and is slowed.

In this process, with a clock of the test's own.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher, Type, extract_parameters

from atrium.core.errors import InvalidKey, RateLimited, WrongPassword
from atrium.core.people import Key, User
from atrium.decisions.client_address import household
from atrium.services import check_key
from atrium.services.check_key import CheckKey
from atrium.services.issue_key import IssueKey, Wish
from atrium.services.log_in import LogIn
from atrium.services.passwords import Passwords
from atrium.services.patience import Patience
from atrium.services.people import People
from atrium.storage.keys import StoredKeys
from atrium.storage.opening import Storage, open_storage

PEPPER = b"p" * 32
RIGHT = "correct horse battery"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class CountedKeys(StoredKeys):
    """The real book, and how often it was asked."""

    asked = 0

    async def find(self, prefix: str) -> tuple[Key, User] | None:
        self.asked += 1
        return await super().find(prefix)


@dataclass
class Desk:
    """Services as the application builds them."""

    storage: Storage
    keys: CountedKeys
    check_key: CheckKey
    people: People
    clock: Clock = field(default_factory=Clock)
    told: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        patience = Patience(self.clock)
        self.log_in = LogIn(
            self.storage.users, self.storage.sessions, self.people, PEPPER, 3600, True, self.tell, patience
        )
        self.issue_key = IssueKey(self.storage.users, self.keys, self.check_key, PEPPER)

    def tell(self, name: str, _: object) -> None:
        self.told.append(name)

    async def try_in(self, name: str, password: str, address: str = "192.0.2.1") -> str:
        try:
            await self.log_in(name, password, address)
        except (WrongPassword, RateLimited) as refused:
            return type(refused).__name__
        return "in"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncGenerator[Desk]:
    storage = await open_storage(None, tmp_path / "atrium.db", PEPPER)
    keys = CountedKeys(storage.database)
    check = CheckKey(keys, storage.sessions, PEPPER)
    made = Desk(storage, keys, check, People(storage.users, storage.sessions, check, Passwords()))
    for name in ("admin", "ann", "gone"):
        await made.people.create(name, RIGHT, is_admin=name == "admin")
    await made.people.create("keys-only", None, is_admin=False)
    gone = await storage.users.find("gone")
    assert gone is not None
    await made.people.change(gone.id, is_active=False)
    yield made
    await storage.close()


async def test_every_wrong_login_takes_the_same_hash_work(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[tuple[int, int, int, Type]] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, stored: str, password: str) -> bool:
        cost = extract_parameters(stored)
        work.append((cost.time_cost, cost.memory_cost, cost.parallelism, cost.type))
        return verify(self, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    for name, password in (
        ("nobody", "wrong"),
        ("ann", "wrong"),
        ("ann", ""),
        ("gone", RIGHT),
        ("keys-only", "wrong"),
        ("\0", "wrong"),
        ("x" * 500, "wrong"),
    ):
        work.clear()
        assert await desk.try_in(name, password) == "WrongPassword"
        assert len(work) == 1, name
        assert work[0] == (3, 65_536, 4, Type.ID), name
    assert desk.told == ["login.failed"] * 7


async def test_every_wrong_key_takes_the_same_look_and_the_same_hash(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, good = await desk.issue_key.issue("ann", Wish("good"))
    key, _, revoked = await desk.issue_key.issue("ann", Wish("revoked"))
    await desk.issue_key.revoke(key.id)
    ann = await desk.storage.users.find("ann")
    assert ann is not None
    _, _, of_gone = await desk.issue_key.issue("gone", Wish("k"))
    _, _, over = await desk.issue_key.issue("ann", Wish("over", datetime.now(UTC) + timedelta(days=1)))
    monkeypatch.setattr(check_key, "is_over", has_end)
    counts = {"compared": 0, "hashed": 0}
    compare, new = hmac.compare_digest, hmac.new

    def compared(one: bytes, other: bytes) -> bool:
        assert len(one) == len(other)
        counts["compared"] += 1
        return compare(one, other)

    def hashed(*given: Any) -> hmac.HMAC:
        counts["hashed"] += 1
        return new(*given)

    monkeypatch.setattr(hmac, "compare_digest", compared)
    monkeypatch.setattr(hmac, "new", hashed)
    unknown = "lollms_0123456789abcdef_" + "0" * 48
    for presented in (
        unknown,
        good[:-1] + "g",
        good[:-1],
        good[:24] + "0" * 48,
        revoked,
        of_gone,
        over,
        "sk-x",
        "",
        "é\ud800",
    ):
        counts.update(compared=0, hashed=0)
        desk.keys.asked = 0
        for _ in range(2):
            with pytest.raises(InvalidKey, match="The API key is not valid"):
                await desk.check_key(presented)
        assert (desk.keys.asked, counts) == (2, {"compared": 2, "hashed": 2}), presented
    assert (await desk.check_key(good)).name == "ann"


def has_end(end: datetime | None) -> bool:
    """As if it had come."""
    return end is not None


async def test_a_name_is_guessed_from_an_address_five_times_and_then_ever_more_slowly(desk: Desk) -> None:
    for name in ("ann", "nobody"):
        assert [await desk.try_in(name, "wrong") for _ in range(6)] == ["WrongPassword"] * 5 + ["RateLimited"]
        for wait in (5, 10, 20):
            desk.clock.now += wait - 1
            assert await desk.try_in(name, "wrong") == "RateLimited"
            desk.clock.now += 1
            assert await desk.try_in(name, "wrong") == "WrongPassword"
        assert await desk.try_in(name, RIGHT) == "RateLimited"
    with pytest.raises(RateLimited) as refused:
        await desk.log_in("ann", RIGHT, "192.0.2.1")
    # Of 40 seconds 35 went by with the other name.
    assert refused.value.retry_after == 5
    desk.clock.now += 5
    assert await desk.try_in("ann", RIGHT) == "in"
    assert await desk.try_in("ann", "wrong") == "WrongPassword"


async def cheap(_: Passwords, stored: str | None, password: str) -> bool:
    """As `Passwords.is_right`, for tests that guess very often."""
    return stored is not None and password == RIGHT


@pytest.fixture
def quick(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(Passwords, "is_right", cheap)
    return desk


async def test_an_address_guesses_twenty_names_and_its_network_is_the_same_one(quick: Desk) -> None:
    homes = [f"2001:db8:0:1::{number:x}" for number in range(25)]
    went = [await quick.try_in(f"name{number}", "wrong", home) for number, home in enumerate(homes)]
    assert went == ["WrongPassword"] * 20 + ["RateLimited"] * 5
    assert await quick.try_in("ann", RIGHT, homes[0]) == "RateLimited"
    assert await quick.try_in("ann", RIGHT, "2001:db8:0:2::1") == "in"
    assert household("::ffff:192.0.2.7") == household("192.0.2.7") == "192.0.2.7"
    assert household("fe80::1%eth0") == household("fe80::2") == "fe80::/64"


async def test_strangers_do_not_lock_a_user_out_however_many_and_however_long(quick: Desk) -> None:
    assert await quick.try_in("ann", RIGHT, "198.51.100.1") == "in"
    for round_ in range(3):
        for number in range(100):
            await quick.try_in("ann", "wrong", f"203.0.113.{number}")
            # Others behind ann's own address guess at other names.
            await quick.try_in(f"name{number}", "wrong", "198.51.100.1")
        assert await quick.try_in("ann", RIGHT, "198.51.100.1") == "in"
        assert await quick.try_in("ann", RIGHT, f"192.0.2.{round_}") == "in"
        quick.clock.now += 1800


async def test_a_name_that_many_strangers_guess_at_gives_each_of_them_one_try(quick: Desk) -> None:
    for number in range(20):
        assert [await quick.try_in("ann", "wrong", f"203.0.113.{number}") for _ in range(5)] == ["WrongPassword"] * 5
    assert [await quick.try_in("ann", "wrong", "198.51.100.7") for _ in range(2)] == ["WrongPassword", "RateLimited"]
    quick.clock.now += 3601
    assert [await quick.try_in("ann", "wrong", "198.51.100.8") for _ in range(2)] == ["WrongPassword"] * 2


def test_what_is_held_against_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrium.services.patience.MOST_REMEMBERED", 10)
    patience = Patience(Clock())
    for _ in range(5):
        patience.before_login("ann", "192.0.2.1")
    with pytest.raises(RateLimited):
        patience.before_login("ann", "192.0.2.1")
    for number in range(10):
        patience.before_login("bob", f"198.51.100.{number}")
        patience.after_login("bob", f"198.51.100.{number}")
        patience.before_signup(f"198.51.100.{number}")
    patience.before_login("ann", "192.0.2.1")
