"""The routes of document stores, line by line as the contract has them."""

from __future__ import annotations

import uuid
from collections.abc import Generator

import httpx2
import pytest

from tests.running import RunningServer
from tests.stores.shop import MODEL, RAG, Shop, brought, create, documents, everything, query, upload

HANDBOOK = b"# Vacation\n\nVacation: 25 days a year for everybody.\n"
LONG = "\n\n".join(f"Paragraph {n} tells of subject number {n * 7}, and of nothing else at all." for n in range(60))


@pytest.fixture
def ann(shop: Shop) -> Generator[httpx2.Client]:
    with shop.client("ann") as client:
        yield client


def test_a_store_is_made_listed_seen_changed_and_deleted(ann: httpx2.Client) -> None:
    made = ann.post(f"{RAG}/databases", json={"name": " My Docs ", "description": "notes"})
    assert made.status_code == 201
    store = made.json()
    assert uuid.UUID(store["id"])
    expected = {
        "name": "My Docs",
        "description": "notes",
        "vectorizer": MODEL,
        "is_public": False,
        "owner_username": "ann",
        "permission_level": "owner",
        "document_count": 0,
        "chunk_count": 0,
        "chunk_size": 512,
        "chunk_overlap": 64,
    }
    assert expected.items() <= store.items()
    assert store["created_at"].endswith("Z")
    one = f"{RAG}/databases/{store['id']}"
    listed = ann.get(f"{RAG}/databases").json()
    assert listed["object"] == "list"
    assert store in listed["data"]
    assert ann.get(one).json() == store
    changed = ann.patch(one, json={"name": "Other", "is_public": True})
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["description"], changed.json()["is_public"]) == (
        "Other",
        "notes",
        True,
    )
    assert ann.delete(one).json() == {"id": store["id"], "object": "rag.database", "deleted": True}
    assert ann.get(one).status_code == 404
    assert ann.delete(one).status_code == 404


def test_stores_are_listed_by_name(ann: httpx2.Client) -> None:
    ids = [create(ann, name) for name in ("zeta list", "alpha list", "mid list")]
    names = [row["name"] for row in ann.get(f"{RAG}/databases").json()["data"]]
    assert [name for name in names if name.endswith(" list")] == ["alpha list", "mid list", "zeta list"]
    for store in ids:
        ann.delete(f"{RAG}/databases/{store}")


def test_a_name_is_taken_for_its_owner_only(shop: Shop, ann: httpx2.Client) -> None:
    store = create(ann, "taken")
    again = ann.post(f"{RAG}/databases", json={"name": "taken"})
    assert again.status_code == 409
    other = create(ann, "free")
    assert ann.patch(f"{RAG}/databases/{other}", json={"name": "taken"}).status_code == 409
    with shop.client("bob") as bob:
        bob.delete(f"{RAG}/databases/{create(bob, 'taken')}")
    for one in (store, other):
        ann.delete(f"{RAG}/databases/{one}")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 422, "name"),
        ({"name": ""}, 422, "name"),
        ({"name": 7}, 422, "name"),
        ({"name": "   "}, 400, "name"),
        ({"name": "x" * 201}, 400, "name"),
        ({"name": "x", "vectorizer": "no-such-model"}, 404, "vectorizer"),
        ({"name": "x", "vectorizer": "talk"}, 400, "vectorizer"),
        ({"name": "x", "chunk_size": 3}, 400, "chunk_size"),
        ({"name": "x", "chunk_size": "many"}, 422, "chunk_size"),
        ({"name": "x", "chunk_size": 100, "chunk_overlap": 90}, 400, "chunk_overlap"),
        ({"name": "x", "is_public": "yes"}, 422, "is_public"),
    ],
)
def test_a_store_that_cannot_be_made_names_the_field(
    ann: httpx2.Client, body: dict[str, object], status: int, param: str
) -> None:
    answer = ann.post(f"{RAG}/databases", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert answer.json()["detail"] == answer.json()["error"]["message"]


def test_files_are_taken_in_before_the_answer(ann: httpx2.Client) -> None:
    store = create(ann, "upload")
    rows = brought(ann, store, ("handbook.md", HANDBOOK), ("long.txt", LONG.encode()))
    assert [(row["filename"], row["bytes"], row["status"]) for row in rows] == [
        ("handbook.md", len(HANDBOOK), "indexed"),
        ("long.txt", len(LONG), "indexed"),
    ]
    assert rows[0]["chunks"] == 1
    assert rows[1]["chunks"] > 5
    one = ann.get(f"{RAG}/databases/{store}").json()
    assert (one["document_count"], one["chunk_count"]) == (2, sum(row["chunks"] for row in rows))
    listed = documents(ann, store)
    assert [row["filename"] for row in listed] == ["handbook.md", "long.txt"]
    assert listed[0].keys() >= {"id", "filename", "bytes", "chunks", "status", "metadata", "created_at"}
    for given in (rows[0]["id"], "handbook.md"):
        assert ann.get(f"{RAG}/databases/{store}/documents/{given}").json()["text"] == HANDBOOK.decode()
    ann.delete(f"{RAG}/databases/{store}")


def test_every_chunk_is_a_piece_of_its_text_and_all_together_are_the_text(ann: httpx2.Client) -> None:
    store = create(ann, "pieces")
    brought(ann, store, ("long.txt", LONG.encode()))
    text = ann.get(f"{RAG}/databases/{store}/documents/long.txt").json()["text"]
    covered: set[int] = set()
    for hit in everything(ann, store):
        assert hit["chunk_text"] == text[hit["start_pos"] : hit["end_pos"]]
        assert len(hit["chunk_text"]) <= 512
        covered.update(range(hit["start_pos"], hit["end_pos"]))
    assert "".join(c for place, c in enumerate(text) if place not in covered).strip() == ""
    ann.delete(f"{RAG}/databases/{store}")


def test_texts_come_as_json_too_and_metadata_is_filtered_on(ann: httpx2.Client) -> None:
    store = create(ann, "texts")
    body = {
        "documents": [
            {"filename": "a.txt", "text": "the first text", "metadata": {"lang": "en", "year": 2024}},
            {"filename": "b.txt", "text": "der zweite Text", "metadata": {"lang": "de", "year": 2025, "draft": True}},
        ]
    }
    answer = ann.post(f"{RAG}/databases/{store}/documents", json=body)
    assert answer.status_code == 201, answer.text
    found = query(ann, store, "text", min_similarity=0, filter={"lang": "de"})
    assert [hit["file_path"] for hit in found] == ["b.txt"]
    assert found[0]["document_metadata"] == {"lang": "de", "year": 2025, "draft": True}
    assert query(ann, store, "text", min_similarity=0, filter={"draft": 1}) == []
    for mode in ("vector", "text", "hybrid"):
        hits = query(ann, store, "text", mode=mode, min_similarity=0, filter={"year": 2024})
        assert [hit["file_path"] for hit in hits] == ["a.txt"]
    ann.delete(f"{RAG}/databases/{store}")


def test_a_query_answers_a_bare_list_best_first_within_its_bounds(ann: httpx2.Client) -> None:
    store = create(ann, "query")
    assert query(ann, store, "anything") == []
    brought(ann, store, ("handbook.md", HANDBOOK), ("long.txt", LONG.encode()))
    hits = query(ann, store, HANDBOOK.decode().strip(), top_k=3)
    assert isinstance(hits, list)
    assert len(hits) <= 3
    assert hits[0]["similarity_score"] == pytest.approx(1, abs=1e-5)
    assert hits[0]["file_path"] == "handbook.md"
    assert hits[0].keys() >= {"chunk_id", "chunk_text", "document_id", "datastore_id", "document_metadata"}
    scores = [hit["similarity_score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    for hit in everything(ann, store):
        assert hit["similarity_percent"] == pytest.approx((hit["similarity_score"] + 1) / 2 * 100, abs=1e-3)
    for least in (40, 50, 60, 99):
        within = query(ann, store, "anything", top_k=1000, min_similarity=least)
        assert all(hit["similarity_percent"] >= least for hit in within)
    assert len(everything(ann, store)) > len(query(ann, store, "anything", top_k=1000))
    ann.delete(f"{RAG}/databases/{store}")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"query": None}, 422),
        ({"query": "  "}, 422),
        ({"query": 7}, 422),
        ({"datastore_id": None}, 422),
        ({"datastore_id": "550e8400-e29b-41d4-a716-446655440000"}, 404),
        ({"datastore_id": "not a uuid"}, 404),
        ({"datastore_id": "../../etc/passwd"}, 404),
        ({"top_k": 0}, 422),
        ({"top_k": 1001}, 422),
        ({"top_k": "5"}, 422),
        ({"min_similarity": -1}, 422),
        ({"min_similarity": 100.1}, 422),
        ({"mode": "guess"}, 422),
        ({"filter": []}, 422),
    ],
)
def test_a_bad_query_is_refused_and_names_its_field(ann: httpx2.Client, change: dict[str, object], status: int) -> None:
    store = create(ann, "bad query")
    answer = ann.post(f"{RAG}/query", json={"datastore_id": store, "query": "x", **change})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == next(iter(change))
    assert answer.json()["detail"]
    ann.delete(f"{RAG}/databases/{store}")


def test_a_malformed_body_is_400_whatever_the_route(ann: httpx2.Client) -> None:
    store = create(ann, "malformed")
    for path in (f"{RAG}/query", f"{RAG}/databases", f"{RAG}/databases/{store}/share"):
        answer = ann.post(path, content=b"{", headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    ann.delete(f"{RAG}/databases/{store}")


def test_the_same_name_again_replaces_the_document(ann: httpx2.Client) -> None:
    store = create(ann, "again")
    first = brought(ann, store, ("a.txt", b"the old words stand here"))[0]
    second = brought(ann, store, ("a.txt", b"the new words stand here"))[0]
    assert [row["id"] for row in documents(ann, store)] == [second["id"]]
    assert second["id"] != first["id"]
    assert [hit["chunk_text"] for hit in everything(ann, store)] == ["the new words stand here"]
    ann.delete(f"{RAG}/databases/{store}")


def test_the_very_same_file_again_is_the_document_that_is_there(ann: httpx2.Client) -> None:
    store = create(ann, "same")
    first = brought(ann, store, ("a.txt", LONG.encode()))[0]
    assert brought(ann, store, ("a.txt", LONG.encode()))[0] == first
    other = brought(ann, store, ("b.txt", LONG.encode()))[0]
    assert other["chunks"] == first["chunks"]
    assert len(everything(ann, store)) == first["chunks"] * 2
    assert len({(hit["file_path"], hit["start_pos"]) for hit in everything(ann, store)}) == first["chunks"] * 2
    ann.delete(f"{RAG}/databases/{store}")


def test_a_deleted_document_never_comes_back(ann: httpx2.Client) -> None:
    store = create(ann, "gone")
    rows = brought(ann, store, ("a.txt", b"alpha"), ("b.txt", b"beta"), ("deep/er/c.txt", b"gamma"))
    assert ann.delete(f"{RAG}/databases/{store}/documents/a.txt").json() == {"id": rows[0]["id"], "deleted": True}
    assert ann.delete(f"{RAG}/databases/{store}/documents/{rows[1]['id']}").status_code == 200
    assert [hit["chunk_text"] for hit in everything(ann, store)] == ["gamma"]
    assert query(ann, store, "alpha", mode="text") == []
    assert ann.delete(f"{RAG}/databases/{store}/documents/a.txt").status_code == 404
    ann.delete(f"{RAG}/databases/{store}")


def test_polling_shows_a_document_from_pending_to_indexed(ann: httpx2.Client) -> None:
    store = create(ann, "poll")
    answer = upload(ann, store, ("a.txt", b"some words"), params={"wait": "false"})
    assert answer.status_code == 202
    (row,) = answer.json()["data"]
    assert row["status"] == "pending"
    while row["status"] == "pending":
        row = ann.get(f"{RAG}/databases/{store}/documents/{row['id']}").json()
    assert (row["status"], row["text"]) == ("indexed", "some words")
    ann.delete(f"{RAG}/databases/{store}")


def test_a_document_is_cut_and_embedded_anew_on_demand(ann: httpx2.Client) -> None:
    store = create(ann, "anew")
    (row,) = brought(ann, store, ("a.txt", LONG.encode()))
    before = everything(ann, store)
    answer = ann.post(f"{RAG}/databases/{store}/documents/a.txt/reingest")
    assert answer.status_code == 202
    while ann.get(f"{RAG}/databases/{store}/documents/{row['id']}").json()["status"] == "pending":
        pass
    after = everything(ann, store)
    assert {hit["start_pos"] for hit in after} == {hit["start_pos"] for hit in before}
    assert {hit["chunk_id"] for hit in after}.isdisjoint(hit["chunk_id"] for hit in before)
    ann.delete(f"{RAG}/databases/{store}")


def test_the_seeds_curl_lines_are_answered_by_the_real_model(server: RunningServer) -> None:
    with server.client() as client:
        store = create(client, "seed")
        brought(client, store, ("handbook.md", HANDBOOK), ("cars.txt", b"Cars need oil, petrol and tyres."))
        listed = client.get(f"{RAG}/databases").json()["data"]
        assert [(row["id"], row["vectorizer"]) for row in listed] == [(store, "all-minilm-l6-v2")]
        body = {"datastore_id": store, "query": "What is the company vacation policy?", "top_k": 3}
        hits = client.post(f"{RAG}/query", json={**body, "min_similarity": 60.0}).json()
        assert [hit["file_path"] for hit in hits] == ["handbook.md"]
        assert hits[0]["similarity_percent"] > 60
        assert "rag_query" in client.get("/lollms/v1/capabilities").json()["capabilities"]
        client.delete(f"{RAG}/databases/{store}")
