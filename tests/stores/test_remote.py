"""Models of endpoints do what those here do: answer from stores, go on with a summary, read long texts, embed."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from tests.lollms.conftest import beside
from tests.lollms.endpoints import Endpoint, serving
from tests.stores.shop import RAG, Shop, brought, create, query
from tests.stores.test_spending import customer, set_quota, standing

CHAT = "/v1/chat/completions"
LONG = "/lollms/v1/long_context_process"
KINDS = ["openai", "ollama", "vllm"]
SUMMARISED = "Summary of the conversation so far"
Row = dict[str, Any]


@pytest.fixture
def ann(shop: Shop) -> Generator[httpx2.Client]:
    with shop.client("ann") as client:
        yield client


def told(turns: int) -> list[Row]:
    messages: list[Row] = [{"role": "system", "content": "Be brief."}]
    for number in range(turns):
        question = f"Question {number}: " + "why " * 60
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": "Because."}]
    return [*messages, {"role": "user", "content": "And now?"}]


@pytest.mark.parametrize("kind", KINDS)
def test_an_endpoints_model_answers_from_stores(shop: Shop, ann: httpx2.Client, kind: str) -> None:
    endpoint = Endpoint(kind, "reader", window=100_000, reply=lambda _: "25 days")
    with beside(shop.server, endpoint):
        store = create(ann, f"remote {kind}")
        brought(ann, store, ("vacation.md", b"Vacation is 25 days a year."))
        body = {"model": "reader", "messages": [{"role": "user", "content": "How much vacation is there a year?"}]}
        answer = ann.post(CHAT, json={**body, "max_tokens": 20, "atrium": {"stores": [store]}})
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "25 days"
        (citation,) = answer.json()["atrium"]["citations"]
        assert citation["filename"] == "vacation.md"
        assert "Vacation is 25 days a year." in endpoint.prompts[-1]
        plain = ann.post(CHAT, json=body)
        assert plain.status_code == 200
        assert "Vacation is 25 days a year." not in endpoint.prompts[-1]
        ann.delete(f"{RAG}/databases/{store}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wish", ["summarize", "left", "truncation"])
def test_a_chat_that_outgrew_an_endpoints_window_goes_on(shop: Shop, ann: httpx2.Client, kind: str, wish: str) -> None:
    window = 20_000 if kind == "vllm" else 2048
    endpoint = Endpoint(kind, "small", window=window, reply=lambda _: "yes", strict=kind != "ollama")
    headers = {} if wish == "truncation" else {"X-Atrium-Truncate": wish}
    more = {"truncation": "auto"} if wish == "truncation" else {}
    if kind == "openai":
        endpoint.more = {"context": window}
    with beside(shop.server, endpoint):
        body = {"model": "small", "messages": told(90), "max_tokens": 50, **more}
        answer = ann.post(CHAT, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        gone = int(answer.headers["x-atrium-truncated"])
        assert 1 <= gone < 90
        last = endpoint.prompts[-1]
        assert (SUMMARISED in last) is (wish == "summarize")
        assert "Question 0:" not in last.partition(SUMMARISED)[0]
        assert "Question 89:" in last
        assert not endpoint.overruns, "what is sent was counted first"


def test_without_being_asked_nothing_is_left_out(shop: Shop, ann: httpx2.Client) -> None:
    endpoint = Endpoint("openai", "small", strict=True)
    with beside(shop.server, endpoint):
        answer = ann.post(CHAT, json={"model": "small", "messages": told(90), "max_tokens": 50})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert len(endpoint.prompts) == 1


def test_an_endpoint_that_counts_otherwise_is_asked_again_with_less(shop: Shop, ann: httpx2.Client) -> None:
    endpoint = Endpoint("openai", "small", window=2048, strict=True, reply=lambda _: "yes", more={"context": 18_000})
    with beside(shop.server, endpoint):
        body = {"model": "small", "messages": told(60), "max_tokens": 50}
        answer = ann.post(CHAT, json=body, headers={"X-Atrium-Truncate": "left"})
        assert answer.status_code == 200, answer.text
        assert len(endpoint.prompts) == len(endpoint.overruns) + 1 > 2
        assert 20 < int(answer.headers["x-atrium-truncated"]) < 60


def test_a_long_text_goes_to_whichever_endpoint_answers(shop: Shop, ann: httpx2.Client) -> None:
    gone = Endpoint("openai", "twin", name="gone", more={"priority": 200})
    there = Endpoint("openai", "twin", name="there", reply=lambda _: "notes")
    text = "Every house has a door, and behind it somebody waits. " * 700
    with beside(shop.server, there), shop.server.client() as admin:
        with serving(gone):
            assert admin.post("/api/admin/endpoints", json={**gone.config, "check_interval": "1h"}).status_code == 201
            admin.post("/api/admin/endpoints/gone/check")
            assert ann.post(LONG, json={"text": "Short.", "model": "twin"}).status_code == 200
            assert (len(gone.prompts), len(there.prompts)) == (1, 0)
        answer = ann.post(LONG, json={"text": text, "model": "twin", "prompt": "Who waits?"})
        admin.delete("/api/admin/endpoints/gone")
    assert answer.status_code == 200, answer.text
    # A connection that was open may still be answered once.
    assert answer.json()["calls"] == len(there.prompts) + len(gone.prompts) - 1
    assert len(there.prompts) > answer.json()["chunks"] / 2


def test_a_long_text_keeps_to_what_an_endpoint_may_have_at_once(shop: Shop, ann: httpx2.Client) -> None:
    endpoint = Endpoint("openai", "narrow", reply=lambda _: "notes", crowd=2, more={"max_concurrent": 2})
    text = "Every house has a door, and behind it somebody waits. " * 1500
    with beside(shop.server, endpoint):
        answer = ann.post(LONG, json={"text": text, "model": "narrow", "prompt": "Who waits?"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["chunks"] > 4
        assert endpoint.busiest == 2


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_an_endpoints_model_makes_a_stores_vectors(shop: Shop, ann: httpx2.Client, kind: str) -> None:
    endpoint = Endpoint(kind, "text-embed-it")
    with beside(shop.server, endpoint):
        store = create(ann, f"vectors of {kind}", vectorizer="text-embed-it")
        assert ann.get(f"{RAG}/databases/{store}").json()["vectorizer"] == "text-embed-it"
        brought(ann, store, ("a.txt", b"zebra zebra zebra"), ("b.txt", b"moon moon moon"))
        best = query(ann, store, "zebra", top_k=1)
        assert [hit["chunk_text"] for hit in best] == ["zebra zebra zebra"]
        assert best[0]["similarity_percent"] > 99
        assert {"zebra zebra zebra", "moon moon moon", "zebra"} <= set(endpoint.prompts)
        used = {one["model"]: one["total_tokens"] for one in ann.get("/api/usage").json()["models"]}
        assert used["text-embed-it"] >= 7
    refused = ann.post(f"{RAG}/query", json={"datastore_id": store, "query": "zebra"})
    assert refused.status_code in (404, 503)
    assert refused.json()["error"]["code"] in ("model_not_found", "model_unavailable")
    ann.delete(f"{RAG}/databases/{store}")


def test_an_endpoints_model_that_makes_no_vectors_makes_no_store(shop: Shop, ann: httpx2.Client) -> None:
    with beside(shop.server, Endpoint("openai", "reader")) as _:
        made = ann.post(f"{RAG}/databases", json={"name": "none", "vectorizer": "nobody-has-it"})
        assert (made.status_code, made.json()["error"]["param"]) == (404, "vectorizer")


def test_what_is_as_usual_is_relayed_as_it_is(shop: Shop, ann: httpx2.Client) -> None:
    with beside(shop.server, Endpoint("openai", "reader")):
        body: Row = {"model": "reader", "messages": [{"role": "user", "content": "Hello."}], "vendor_field": 1}
        usual = ann.post(CHAT, json={**body, "truncation": "disabled", "atrium": None, "personality": None})
        assert usual.status_code == 200
        assert "x-atrium-dropped" not in usual.headers
        asked = ann.post(CHAT, json={**body, "truncation": "auto"})
        assert asked.headers["x-atrium-dropped"] == "vendor_field"


def test_an_endpoint_that_tells_no_usage_is_counted_all_the_same(shop: Shop) -> None:
    with customer(shop, "quota-silent") as client, beside(shop.server, Endpoint("openai", "mute-embed", silent=True)):
        quota = set_quota(shop, 10_000_000, user="quota-silent")
        uses: list[int] = []
        store = create(client, "silent", vectorizer="mute-embed")
        uses.append(standing(shop, quota)[0])
        brought(client, store, ("a.txt", b"zebra zebra zebra"))
        uses.append(standing(shop, quota)[0])
        client.post(LONG, json={"text": "Every house has a door.", "model": "mute-embed"}).raise_for_status()
        uses.append(standing(shop, quota)[0])
        assert 0 < uses[0] < uses[1] < uses[2]


def test_what_an_endpoint_does_not_tell_stands_in_the_usage_as_an_estimate(shop: Shop) -> None:
    mute = Endpoint("ollama", "mute-chat", silent=True, reply=lambda _: "one two")
    with customer(shop, "usage-silent") as client, beside(shop.server, mute):
        body = {"model": "mute-chat", "messages": [{"role": "user", "content": "Say it. " * 40}], "max_tokens": 20}
        client.post(CHAT, json=body).raise_for_status()
        totals = client.get("/api/usage").json()["totals"]
        assert totals["requests"] == 1
        assert totals["prompt_tokens"] > 40
        assert totals["completion_tokens"] >= 1
