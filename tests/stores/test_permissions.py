"""Who may do what: every role with every act, as the contract's table has it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import httpx2
import pytest

from tests.stores.shop import RAG, Shop, brought, create, query

ROLES = ("owner", "read_write", "revectorize", "read_query", "public", "private", "admin")
ACTS = ("listed", "query", "read", "add", "remove", "share", "rename", "publish", "shared-with", "delete")
WRITERS = ("owner", "read_write", "revectorize")
READERS = (*WRITERS, "read_query", "public")


def expected(role: str, act: str) -> int:
    """The contract's table, section 9.4; 1 and 0 for being listed."""
    if act == "listed":
        return int(role in READERS)
    if act == "delete":
        return 200 if role in ("owner", "admin") else 403 if role in READERS else 404
    if role not in READERS:
        return 404
    if act in ("query", "read"):
        return 200
    if act in ("add", "remove"):
        return {"add": 201, "remove": 200}[act] if role in WRITERS else 403
    return {"share": 201}.get(act, 200) if role == "owner" else 403


def attempt(client: httpx2.Client, store: str, act: str) -> int:
    one = f"{RAG}/databases/{store}"
    asks: dict[str, Callable[[], httpx2.Response]] = {
        "query": lambda: client.post(f"{RAG}/query", json={"datastore_id": store, "query": "x"}),
        "read": lambda: client.get(f"{one}/documents/a.txt"),
        "add": lambda: client.post(f"{one}/documents", files=[("files", ("b.txt", b"more"))]),
        "remove": lambda: client.delete(f"{one}/documents/a.txt"),
        "share": lambda: client.post(f"{one}/share", json={"target_username": "bob"}),
        "rename": lambda: client.patch(one, json={"name": "renamed"}),
        "publish": lambda: client.patch(one, json={"is_public": True}),
        "shared-with": lambda: client.get(f"{one}/shared-with"),
        "delete": lambda: client.delete(one),
    }
    if act == "listed":
        return int(any(row["id"] == store for row in client.get(f"{RAG}/databases").json()["data"]))
    return asks[act]().status_code


@pytest.mark.parametrize(("role", "act"), [*itertools.product(ROLES, ACTS)])
def test_a_role_may_do_exactly_what_the_table_says(shop: Shop, role: str, act: str) -> None:
    with shop.client("ann") as ann:
        store = create(ann, f"{role} {act}", is_public=role == "public")
        brought(ann, store, ("a.txt", b"words"))
        if role in ("read_query", "read_write", "revectorize"):
            share = {"target_username": "eve", "permission_level": role}
            assert ann.post(f"{RAG}/databases/{store}/share", json=share).status_code == 201
        who = {"owner": "ann", "admin": "admin"}.get(role, "eve")
        with shop.client(who) as client:
            assert attempt(client, store, act) == expected(role, act)
        ann.delete(f"{RAG}/databases/{store}")


def test_a_foreign_private_store_is_told_of_like_one_that_is_not_there(shop: Shop) -> None:
    with shop.client("ann") as ann, shop.client("eve") as eve:
        store = create(ann, "secret")
        there = eve.get(f"{RAG}/databases/{store}")
        not_there = eve.get(f"{RAG}/databases/550e8400-e29b-41d4-a716-446655440000")
        assert there.status_code == not_there.status_code == 404
        assert there.json() == not_there.json()
        ann.delete(f"{RAG}/databases/{store}")


def test_a_share_is_changed_shown_and_taken_back_at_once(shop: Shop) -> None:
    with shop.client("ann") as ann, shop.client("eve") as eve:
        store = create(ann, "shared")
        one = f"{RAG}/databases/{store}"
        brought(ann, store, ("a.txt", b"words"))
        for level, added in (("read_query", 403), ("read_write", 201)):
            ann.post(f"{one}/share", json={"target_username": "eve", "permission_level": level})
            (row,) = ann.get(f"{one}/shared-with").json()["data"]
            assert (row["username"], row["permission_level"]) == ("eve", level)
            assert eve.get(one).json()["permission_level"] == level
            assert attempt(eve, store, "add") == added
        assert ann.delete(f"{one}/share/eve").status_code == 200
        assert attempt(eve, store, "query") == 404
        assert ann.delete(f"{one}/share/eve").status_code == 404
        ann.delete(one)


def test_making_a_store_private_works_on_the_next_request(shop: Shop) -> None:
    with shop.client("ann") as ann, shop.client("eve") as eve:
        store = create(ann, "shown", is_public=True)
        assert query(eve, store, "x") == []
        ann.patch(f"{RAG}/databases/{store}", json={"is_public": False})
        assert attempt(eve, store, "query") == 404
        ann.delete(f"{RAG}/databases/{store}")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"target_username": "nobody-here"}, 404),
        ({"target_username": "ann"}, 400),
        ({"target_username": "eve", "permission_level": "owner"}, 422),
        ({}, 422),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(shop: Shop, body: dict[str, str], status: int) -> None:
    with shop.client("ann") as ann:
        store = create(ann, "odd share")
        assert ann.post(f"{RAG}/databases/{store}/share", json=body).status_code == status
        ann.delete(f"{RAG}/databases/{store}")


def test_the_administrators_own_list_has_every_store(shop: Shop) -> None:
    with shop.client("ann") as ann, shop.client("admin") as admin:
        store = create(ann, "seen by admin")
        assert store in [row["id"] for row in admin.get("/api/admin/stores").json()["data"]]
        assert ann.get("/api/admin/stores").status_code == 403
        ann.delete(f"{RAG}/databases/{store}")


def test_the_stores_of_a_deleted_user_are_gone(shop: Shop) -> None:
    with shop.client("admin") as admin:
        made = admin.post("/api/admin/users", json={"username": "leaver"}).json()
        key = admin.post("/api/admin/keys", json={"username": "leaver", "alias": "k"}).json()["full_key"]
        with shop.server.client(key=key) as leaver:
            store = create(leaver, "left behind", is_public=True)
        admin.delete(f"/api/admin/users/{made['id']}")
        assert admin.get(f"{RAG}/databases/{store}").status_code == 404


def test_a_key_for_some_models_makes_no_store_with_another(shop: Shop) -> None:
    with shop.client("ann") as ann:
        key = ann.post("/api/api-keys", json={"alias": "for chats", "models": ["talk"]}).json()["full_key"]
    with shop.server.client(key=key) as narrow:
        for more in ({}, {"vectorizer": "vec"}):
            refused = narrow.post(f"{RAG}/databases", json={"name": "narrow", **more})
            assert (refused.status_code, refused.json()["error"]["param"]) == (403, "vectorizer")
