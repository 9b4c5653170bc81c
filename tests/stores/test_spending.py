"""What stores, long texts and summaries use of models counts for whom it is done: reserved, settled, and told."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tests.stores.shop import RAG, Shop, brought, create, documents, query, upload

CHAT = "/v1/chat/completions"
LONG = "/lollms/v1/long_context_process"
FILE = ("note.md", b"The bread is warm. " * 40)
PLENTY = 10_000_000
Row = dict[str, Any]


@contextmanager
def customer(shop: Shop, name: str) -> Generator[httpx2.Client]:
    """A new user with a key."""
    with shop.server.client() as admin:
        assert admin.post("/api/admin/users", json={"username": name}).status_code == 201
        key = admin.post("/api/admin/keys", json={"username": name, "alias": "k"}).json()["full_key"]
    with shop.server.client(key=key, timeout=120) as client:
        yield client


def set_quota(shop: Shop, amount: int, **subject: object) -> int:
    with shop.server.client() as admin:
        made = admin.put("/api/admin/quotas", json={"measure": "tokens", "period": "day", "amount": amount, **subject})
        assert made.status_code == 200, made.text
        return made.json()["id"]


def standing(shop: Shop, number: int) -> tuple[int, int]:
    """Used and held."""
    with shop.server.client() as admin:
        quota = next(one for one in admin.get("/api/admin/quotas").json() if one["id"] == number)
        return quota["used"], quota["held"]


def used_of(client: httpx2.Client) -> dict[str, Row]:
    return {one["model"]: one for one in client.get("/api/usage").json()["models"]}


def check_refused(answer: httpx2.Response) -> None:
    assert answer.status_code == 429, answer.text
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert "tokens per day" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["x-ratelimit-remaining-tokens"].isdigit()


def test_taking_documents_in_counts_for_whoever_brought_them(shop: Shop) -> None:
    with customer(shop, "quota-ingest") as client:
        quota = set_quota(shop, PLENTY, user="quota-ingest")
        store = create(client, "counted")
        brought(client, store, FILE)
        used, held = standing(shop, quota)
        assert used > 0
        assert held == 0
        assert used_of(client)["vec"]["total_tokens"] == used
        assert used_of(client)["vec"]["requests"] == 0, "what was done beside a request is none"


def test_a_keys_own_quota_counts_what_it_brought(shop: Shop) -> None:
    with customer(shop, "quota-key") as client:
        with shop.server.client() as admin:
            (key,) = admin.get("/api/admin/keys", params={"user": "quota-key"}).json()
        quota = set_quota(shop, PLENTY, key_id=key["id"])
        brought(client, create(client, "counted"), FILE)
        assert standing(shop, quota)[0] > 0
        (share,) = [one for one in client.get("/api/usage").json()["keys"] if one["total_tokens"]]
        assert share["key_id"] == key["id"]


def test_a_question_counts_and_so_does_a_chat_over_stores(shop: Shop) -> None:
    with customer(shop, "quota-query") as client:
        quota = set_quota(shop, PLENTY, user="quota-query", model="vec")
        store = create(client, "counted")
        brought(client, store, FILE)
        before = standing(shop, quota)[0]
        query(client, store, "Is the bread warm?")
        between = standing(shop, quota)[0]
        body = {"messages": [{"role": "user", "content": "Is the bread warm?"}], "max_tokens": 4}
        answer = client.post(CHAT, json={**body, "atrium": {"stores": ["counted"]}})
        assert answer.status_code == 200
        after, held = standing(shop, quota)
        assert before < between < after
        assert held == 0
        used = used_of(client)
        assert used["vec"]["total_tokens"] == after
        assert used["talk"]["total_tokens"] == answer.json()["usage"]["total_tokens"]


def test_with_nothing_left_no_vector_is_made(shop: Shop) -> None:
    with customer(shop, "quota-out") as client:
        store = create(client, "counted")
        brought(client, store, FILE)
        set_quota(shop, 0, user="quota-out", model="vec")
        check_refused(upload(client, store, ("more.md", b"More of it.")))
        assert [one["filename"] for one in documents(client, store)] == ["note.md"]
        check_refused(client.post(f"{RAG}/databases/{store}/documents/note.md/reingest"))
        check_refused(client.post(f"{RAG}/query", json={"datastore_id": store, "query": "Warm?"}))
        body = {"messages": [{"role": "user", "content": "Warm?"}], "atrium": {"stores": ["counted"]}}
        check_refused(client.post(CHAT, json=body))


def test_a_document_that_takes_more_than_is_left_fails_and_says_why(shop: Shop) -> None:
    with customer(shop, "quota-large") as client:
        store = create(client, "counted")
        quota = set_quota(shop, 50, user="quota-large")
        answer = upload(client, store, ("large.md", b"word " * 2000))
        assert answer.status_code == 400
        assert "quota of 50 tokens" in answer.text
        assert standing(shop, quota) == (0, 0)
        (failed,) = documents(client, store)
        assert failed["status"] == "failed"
        set_quota(shop, PLENTY, user="quota-large")
        assert client.post(f"{RAG}/databases/{store}/documents/large.md/reingest").status_code == 202


@pytest.mark.parametrize("stream", [False, True])
def test_a_long_text_is_reserved_whole_before_its_first_call(shop: Shop, stream: bool) -> None:
    name = f"quota-long-{stream}"
    with customer(shop, name) as client:
        quota = set_quota(shop, PLENTY, user=name)
        text = "Every house has a door, and behind it somebody waits. " * 600
        body = {"text": text, "prompt": "What waits?", "model": "talk", "max_generation_tokens": 50, "stream": stream}
        answer = client.post(LONG, json=body)
        assert answer.status_code == 200, answer.text
        used, held = standing(shop, quota)
        assert used > len(text) / 4
        assert held == 0
        assert used_of(client)["talk"]["total_tokens"] == used
        if not stream:
            assert answer.json()["strategy"] == "map_reduce"
            assert answer.json()["usage"]["total_tokens"] == used
        set_quota(shop, used + used // 2, user=name)
        check_refused(client.post(LONG, json=body))
        assert standing(shop, quota) == (used, 0)
        assert used_of(client)["talk"]["total_tokens"] == used


def test_a_long_text_is_one_request_of_its_model(shop: Shop) -> None:
    with customer(shop, "quota-once") as client:
        with shop.server.client() as admin:
            wish = {"user": "quota-once", "model": "talk", "measure": "requests", "period": "day", "amount": 1}
            assert admin.put("/api/admin/quotas", json=wish).status_code == 200
        body = {"text": "A short one.", "model": "talk", "max_generation_tokens": 5}
        assert client.post(LONG, json=body).status_code == 200
        assert client.post(LONG, json=body).status_code == 429


def test_a_summary_of_older_turns_counts_beside_the_answer(shop: Shop) -> None:
    with customer(shop, "quota-summary") as client:
        quota = set_quota(shop, PLENTY, user="quota-summary")
        turns: list[Row] = []
        for number in range(80):
            turns += [{"role": "user", "content": f"{number:03}" + "?" * 97}, {"role": "assistant", "content": "Yes."}]
        body = {"model": "talk", "messages": [*turns, {"role": "user", "content": "And now?"}], "max_tokens": 20}
        answer = client.post(CHAT, json=body, headers={"X-Atrium-Truncate": "summarize"})
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-atrium-truncated"]
        used, held = standing(shop, quota)
        assert used > answer.json()["usage"]["total_tokens"] + 100
        assert held == 0
        told = used_of(client)["talk"]
        assert (told["total_tokens"], told["requests"]) == (used, 1)
