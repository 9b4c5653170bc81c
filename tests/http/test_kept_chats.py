"""Chats kept with `store`, on the wire: read, listed, noted and deleted by their owner, also after a restart."""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.running import RunningServer, command, running

FAKES = {
    "ATRIUM_MODELS__INSTALL_DEFAULTS": "false",
    "ATRIUM_MODELS__ALLOW_FAKE": "true",
    "ATRIUM_LIMITS__STORED_CHATS": "6",
    "ATRIUM_LIMITS__STORED_SIZE": "64KB",
}
HELLO: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "data"


@pytest.fixture(scope="module")
def fakes(folder: Path) -> Generator[RunningServer]:
    with running(folder, **FAKES) as server:
        server.install("fake:parrot?words=4")
        yield server


def client_of(server: RunningServer, key: str = "") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key or server.key, max_retries=0)


@pytest.fixture
def client(fakes: RunningServer) -> openai.OpenAI:
    made = client_of(fakes)
    for one in made.chat.completions.list(limit=100):
        made.chat.completions.delete(one.id)
    return made


def keep(client: openai.OpenAI, **more: Any) -> Any:
    chats: Any = client.chat.completions
    return chats.create(model="parrot", messages=HELLO, store=True, **more)


def test_a_kept_answer_is_read_again_with_what_was_asked(client: openai.OpenAI) -> None:
    answer = keep(client, metadata={"topic": "greeting"}, user="u-7", temperature=0.5)
    found = client.chat.completions.retrieve(answer.id)
    assert found.choices == answer.choices
    assert (found.created, found.model, found.usage) == (answer.created, answer.model, answer.usage)
    assert found.model_dump()["metadata"] == {"topic": "greeting"}
    assert found.model_dump()["input_user"] == "u-7"
    asked = client.chat.completions.messages.list(answer.id)
    assert [(m.role, m.content) for m in asked.data] == [("system", "Be brief."), ("user", "Hello")]
    (second,) = client.chat.completions.messages.list(answer.id, after=asked.data[0].id, order="asc").data
    assert second.id == asked.data[1].id


def test_a_stream_is_kept_by_the_time_it_has_ended(client: openai.OpenAI) -> None:
    text, number = "", ""
    for chunk in keep(client, stream=True, n=2):
        number = chunk.id
        text += chunk.choices[0].delta.content or "" if chunk.choices[0].index == 0 else ""
    found = client.chat.completions.retrieve(number)
    assert found.object == "chat.completion"
    assert len(found.choices) == 2
    assert found.choices[0].message.content == text


def test_what_was_not_to_be_kept_is_not(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="parrot", messages=HELLO)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(answer.id)


def test_lists_are_paged_ordered_and_chosen_by_metadata(client: openai.OpenAI) -> None:
    ids = [keep(client, metadata={"half": str(n % 2), "n": str(n)}).id for n in range(5)]
    assert [one.id for one in client.chat.completions.list()] == ids
    assert [one.id for one in client.chat.completions.list(order="desc", limit=2)] == ids[::-1], "pages follow"
    page = client.chat.completions.list(limit=2, after=ids[1])
    assert [one.id for one in page.data] == ids[2:4]
    assert page.has_more
    odd = client.chat.completions.list(metadata={"half": "1"})
    assert [one.id for one in odd] == ids[1::2]
    assert client.chat.completions.list(metadata={"half": "1", "n": "0"}).data == []
    assert client.chat.completions.list(model="other").data == []
    assert len(client.chat.completions.list(model="parrot").data) == 5


def test_of_more_than_are_kept_the_oldest_leave(client: openai.OpenAI) -> None:
    ids = [keep(client, metadata={"n": str(n)}).id for n in range(8)]
    assert [one.id for one in client.chat.completions.list(limit=100)] == ids[2:]


def test_metadata_is_changed_and_a_deleted_one_is_gone(client: openai.OpenAI) -> None:
    answer = keep(client, metadata={"a": "1"})
    changed = client.chat.completions.update(answer.id, metadata={"b": "2"})
    assert changed.model_dump()["metadata"] == {"b": "2"}
    assert client.chat.completions.list(metadata={"a": "1"}).data == []
    gone = client.chat.completions.delete(answer.id)
    assert (gone.id, gone.object, gone.deleted) == (answer.id, "chat.completion.deleted", True)
    for again in (client.chat.completions.retrieve, client.chat.completions.delete):
        with pytest.raises(openai.NotFoundError):
            again(answer.id)


def test_nobody_sees_what_is_another_ones(fakes: RunningServer, client: openai.OpenAI) -> None:
    command(fakes.data_dir, "users", "create", "ann", "--password", "a long password")
    made = command(fakes.data_dir, "keys", "create", "--user", "ann", "--alias", "a", "--quiet")
    ann = client_of(fakes, made.stdout.strip())
    mine = keep(client)
    hers = keep(ann)
    assert [one.id for one in ann.chat.completions.list()] == [hers.id]
    assert [one.id for one in client.chat.completions.list()] == [mine.id]
    for attempt in (
        lambda: ann.chat.completions.retrieve(mine.id),
        lambda: ann.chat.completions.update(mine.id, metadata={}),
        lambda: ann.chat.completions.delete(mine.id),
        lambda: ann.chat.completions.messages.list(mine.id),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    with pytest.raises(openai.BadRequestError):
        ann.chat.completions.list(after=mine.id)


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=no", "after")],
)
def test_a_wrong_query_is_named(fakes: RunningServer, query: str, param: str) -> None:
    with fakes.client() as http:
        answer = http.get(f"/v1/chat/completions?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_wrong_change_is_named(fakes: RunningServer, client: openai.OpenAI) -> None:
    answer = keep(client)
    with fakes.client() as http:
        for body in ({}, {"metadata": {"a": 1}}, {"metadata": [1]}, {"metadata": {"k" * 65: "v"}}):
            refused = http.post(f"/v1/chat/completions/{answer.id}", json=body)
            assert refused.status_code == 400, body
            assert refused.json()["error"]["param"].startswith("metadata")
        assert http.put(f"/v1/chat/completions/{answer.id}", json={}).status_code == 405


def test_what_is_too_large_to_be_kept_is_refused_before_it_is_answered(client: openai.OpenAI) -> None:
    large: list[Any] = [{"role": "user", "content": "x" * 40_000}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="parrot", messages=large, store=True)
    assert refused.value.param == "store"


def test_what_is_kept_outlives_a_crash(folder: Path, fakes: RunningServer, tmp_path: Path) -> None:
    with running(tmp_path / "data", **FAKES) as first:
        first.install("fake:parrot?words=4")
        answer = keep(client_of(first), metadata={"k": "v"})
        key = first.key
        first.stop(signal.SIGKILL)
    with running(tmp_path / "data", key=key, **FAKES) as second:
        found = client_of(second).chat.completions.retrieve(answer.id)
        assert found.choices == answer.choices
        assert found.model_dump()["metadata"] == {"k": "v"}
