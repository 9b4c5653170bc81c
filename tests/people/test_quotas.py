"""Quotas on the wire, on both lanes. Issue: requests and tokens, by user, key and model; exact; 429 that says why."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from atrium.dialects.openai.usage_chunk import UsageTaker, answer_bound, ask_for_usage
from tests.gateway.fakes import Fake, gateway
from tests.people.conftest import new_user
from tests.running import PATIENCE, RunningServer, command

CHAT: dict[str, Any] = {"model": "m1", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
LOCAL = {**CHAT, "model": "talker"}
FAKES = {"ATRIUM_MODELS__ALLOW_FAKE": "true"}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """Relays m1 and m2, and answers `talker` itself."""
    folder = tmp_path_factory.mktemp("team")
    fakes = [Fake("alpha", models=("m1", "m2")), Fake("beta", "ollama", models=("llama3:latest",), v1=False)]
    with gateway(folder, fakes, env=FAKES) as server:
        server.install("fake:talker?words=200", "fake:slow?words=2000&pace=20ms")
        yield server


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """The same with limits per address, which most tests do without."""
    rates = {"ATRIUM_LIMITS__PER_IP_PER_MINUTE": "60000", "ATRIUM_LIMITS__BURST": "10000"}
    fakes = [Fake("alpha", models=("m1",)), Fake("beta", "ollama", models=("llama3:latest",))]
    with gateway(tmp_path_factory.mktemp("limited"), fakes, env={**FAKES, **rates}) as server:
        server.install("fake:talker?words=200")
        yield server


def key_of(server: RunningServer, name: str) -> str:
    new_user(server, name)
    with server.client() as admin:
        return admin.post("/api/admin/keys", json={"username": name, "alias": "k"}).json()["full_key"]


def set_quota(server: RunningServer, **quota: object) -> dict[str, Any]:
    with server.client() as admin:
        answer = admin.put("/api/admin/quotas", json=quota)
        assert answer.status_code == 200, answer.text
        return answer.json()


def standing(server: RunningServer, number: int) -> dict[str, Any]:
    with server.client() as admin:
        return next(one for one in admin.get("/api/admin/quotas").json() if one["id"] == number)


@pytest.mark.parametrize("body", [CHAT, LOCAL], ids=["relayed", "local"])
def test_of_many_at_once_exactly_as_many_are_answered_as_the_quota_has(
    team: RunningServer, body: dict[str, Any]
) -> None:
    name = f"many-{body['model']}"
    key = key_of(team, name)
    quota = set_quota(team, user=name, measure="requests", period="minute", amount=20)
    with team.client(key=key) as client, ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(client.post, "/v1/chat/completions", json=body) for _ in range(200)]
        answers = [one.result() for one in asked]
    assert sorted({answer.status_code for answer in answers}) == [200, 429]
    assert sum(answer.status_code == 200 for answer in answers) == 20
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert "20 requests per minute for this user" in refused.json()["error"]["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-limit-requests"] == "20"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    left = [int(a.headers["x-ratelimit-remaining-requests"]) for a in answers if a.status_code == 200]
    assert min(left) == 0
    assert standing(team, quota["id"])["used"] == 20


@pytest.mark.parametrize("body", [CHAT, LOCAL], ids=["relayed", "local"])
def test_tokens_are_settled_to_what_was_used(team: RunningServer, body: dict[str, Any]) -> None:
    name = f"tokens-{body['model']}"
    quota = set_quota(team, user=name if new_user(team, name) else "", measure="tokens", period="day", amount=10_000)
    with team.client() as admin:
        key = admin.post("/api/admin/keys", json={"username": name, "alias": "k"}).json()["full_key"]
    with team.client(key=key) as client:
        answer = client.post("/v1/chat/completions", json=body)
        used = answer.json()["usage"]["total_tokens"]
        assert used > 0
        assert answer.headers["x-ratelimit-limit-tokens"] == "10000"
        now = standing(team, quota["id"])
        assert (now["used"], now["held"]) == (used, 0)
        set_quota(team, user=name, measure="tokens", period="day", amount=used)
        refused = client.post("/v1/chat/completions", json=body)
        assert refused.status_code == 429
        assert f"{used} tokens per day" in refused.json()["error"]["message"]


def test_a_key_for_other_models_may_not_use_a_local_one(team: RunningServer) -> None:
    new_user(team, "narrow")
    for alias, model, status in (("others", "m*", 403), ("this", "talk*", 200)):
        with team.client() as admin:
            wish = {"username": "narrow", "alias": alias, "models": [model]}
            key = admin.post("/api/admin/keys", json=wish).json()["full_key"]
        with team.client(key=key) as client:
            for path in ("/v1/chat/completions", "/ollama/v1/chat/completions"):
                assert client.post(path, json=LOCAL).status_code == status


def test_what_fails_is_given_back(team: RunningServer) -> None:
    key = key_of(team, "failing")
    quota = set_quota(team, user="failing", measure="requests", period="day", amount=3)
    with team.client(key=key) as client:
        bad: list[dict[str, Any]] = [{**CHAT, "model": "nope"}, {**LOCAL, "messages": []}, {**LOCAL, "n": 0}]
        for body in bad:
            assert client.post("/v1/chat/completions", json=body).status_code >= 400
        assert client.get("/v1/models").status_code == 200
    now = standing(team, quota["id"])
    assert (now["used"], now["held"]) == (0, 0)


def test_a_local_answer_without_a_bound_ends_where_the_quota_does(team: RunningServer) -> None:
    key = key_of(team, "endless")
    quota = set_quota(team, user="endless", measure="tokens", period="day", amount=60)
    with team.client(key=key) as client:
        body = {"model": "talker", "messages": [{"role": "user", "content": "go on"}]}
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["finish_reason"] == "length"
        assert answer.json()["usage"]["completion_tokens"] < 60
    assert standing(team, quota["id"])["held"] == 0


@pytest.mark.parametrize("model", ["slow", "m1"], ids=["local", "relayed"])
def test_answers_without_a_bound_leave_room_for_one_another(team: RunningServer, model: str) -> None:
    name = f"room-{model}"
    key = key_of(team, name)
    quota = set_quota(team, user=name, measure="tokens", period="day", amount=100_000)
    body = {**long(model, "pace=20ms, chunks=2000"), "stream": True}
    del body["max_tokens"]
    with team.client(key=key) as client, client.stream("POST", "/v1/chat/completions", json=body) as first:
        lines = first.iter_lines()
        next(lines)
        assert 1000 < standing(team, quota["id"])["held"] < 40_000
        with client.stream("POST", "/v1/chat/completions", json=body) as second:
            assert (first.status_code, second.status_code) == (200, 200)
    assert until_settled(team, quota["id"])["used"] < 5000


def test_keys_and_models_have_quotas_of_their_own(team: RunningServer) -> None:
    key = key_of(team, "twokeys")
    with team.client() as admin:
        (own,) = admin.get("/api/admin/keys", params={"user": "twokeys"}).json()
        other = admin.post("/api/admin/keys", json={"username": "twokeys", "alias": "other"}).json()["full_key"]
    set_quota(team, key_id=own["id"], model="m2", measure="requests", period="day", amount=1)
    with team.client(key=key) as client, team.client(key=other) as free:
        m2 = {**CHAT, "model": "m2"}
        assert client.post("/v1/chat/completions", json=m2).status_code == 200
        assert client.post("/v1/chat/completions", json=m2).status_code == 429
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert free.post("/v1/chat/completions", json=m2).status_code == 200


def test_a_stream_is_counted_by_a_chunk_that_its_reader_never_sees(team: RunningServer) -> None:
    key = key_of(team, "streaming")
    quota = set_quota(team, user="streaming", measure="tokens", period="day", amount=100_000)
    with team.client(key=key) as client:
        plain = events_of(client, {**CHAT, "stream": True})
        asked = events_of(client, {**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    assert all(json.loads(event)["choices"] for event in plain if event != "[DONE]")
    assert plain[-1] == asked[-1] == "[DONE]"
    usage = json.loads(asked[-2])["usage"]
    assert standing(team, quota["id"])["used"] == 2 * usage["total_tokens"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/olla/openai/v1/chat/completions"])
@pytest.mark.parametrize("faults", ["measured, type=text/event-stream", "measured, apart, type=text/event-stream"])
def test_a_stream_with_a_length_is_counted_unseen_as_well(team: RunningServer, path: str, faults: str) -> None:
    name = f"measured-{len(path)}-{len(faults)}"
    quota = set_quota(team, user=name if new_user(team, name) else "", measure="tokens", period="day", amount=100_000)
    with team.client() as admin:
        key = admin.post("/api/admin/keys", json={"username": name, "alias": "k"}).json()["full_key"]
    with team.client(key=key) as client:
        client.headers["X-Fake"] = faults
        plain = events_of(client, {**CHAT, "stream": True}, path)
        asked = events_of(client, {**CHAT, "stream": True, "stream_options": {"include_usage": True}}, path)
        client.headers["X-Fake"] = "measured"
        whole = client.post(path, json={**CHAT, "stream": True})
    assert all(json.loads(event)["choices"] for event in plain if event != "[DONE]")
    assert plain == [event for event in asked if event == "[DONE]" or json.loads(event)["choices"]]
    if path.startswith("/v1/"):
        assert int(whole.headers["content-length"]) == len(whole.content)
    assert standing(team, quota["id"])["used"] == 3 * json.loads(asked[-2])["usage"]["total_tokens"]


@pytest.mark.parametrize(
    ("model", "faults"),
    [("m1", "pace=20ms, chunks=2000"), ("slow", ""), ("llama3", "pace=20ms, chunks=2000")],
    ids=["relayed", "local", "translated"],
)
def test_who_leaves_in_mid_stream_gets_the_rest_back(team: RunningServer, model: str, faults: str) -> None:
    key = key_of(team, f"leaving-{model}")
    whose = {"user": f"leaving-{model}", "period": "day"}
    tokens = set_quota(team, **whose, measure="tokens", amount=100_000)
    requests = set_quota(team, **whose, measure="requests", amount=10)
    body = {**long(model, faults), "stream": True}
    with team.client(key=key) as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            lines = answer.iter_lines()
            next(lines)
            assert standing(team, tokens["id"])["held"] > 8000
        told = until_settled(team, tokens["id"])
        assert 0 < told["used"] < 5000
        assert standing(team, requests["id"])["used"] == 1


@pytest.mark.parametrize(
    ("faults", "stream", "counts"),
    [("status=500", False, 0), ("status=404", True, 0), ("close", False, 0), ("garbage", True, 0), ("half", True, 1)],
)
@pytest.mark.parametrize("model", ["m1", "llama3"], ids=["relayed", "translated"])
def test_what_an_endpoint_breaks_off_is_given_back(
    team: RunningServer, model: str, faults: str, stream: bool, counts: int
) -> None:
    name = f"broken-{model}-{faults.replace('=', '')}-{stream}"
    key = key_of(team, name)
    tokens = set_quota(team, user=name, measure="tokens", period="day", amount=100_000)
    requests = set_quota(team, user=name, measure="requests", period="day", amount=10)
    with team.client(key=key) as client:
        try:
            answer = client.post("/v1/chat/completions", json={**long(model, faults), "stream": stream})
            assert counts or answer.status_code >= 400
        except httpx2.TransportError:
            assert counts
    told = until_settled(team, tokens["id"])
    assert told["used"] < 100
    assert bool(told["used"]) == bool(counts)
    assert (standing(team, requests["id"])["used"], standing(team, requests["id"])["held"]) == (counts, 0)


def long(model: str, faults: str) -> dict[str, Any]:
    """A chat with much to reserve; the text tells an endpoint what goes wrong."""
    return {"model": model, "messages": [{"role": "user", "content": f"hello [fake {faults}]"}], "max_tokens": 50_000}


def until_settled(server: RunningServer, number: int) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while (told := standing(server, number))["held"]:
        assert time.monotonic() < deadline, told
    return told


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/chat/completions", "m1"),
        ("/v1/chat/completions", "talker"),
        ("/ollama/v1/chat/completions", "talker"),
        ("/olla/openai/v1/chat/completions", "m1"),
        ("/api/chat", "talker"),
        ("/api/chat", "m1"),
        ("/ollama/api/generate", "talker"),
        ("/olla/ollama/api/chat", "llama3"),
        ("/lollms/v1/long_context_process", "talker"),
    ],
)
def test_what_is_left_is_told_once_in_every_dialect(limited: RunningServer, path: str, model: str) -> None:
    name = f"dialect-{abs(hash((path, model)))}"
    key = key_of(limited, name)
    set_quota(limited, user=name, measure="requests", period="day", amount=1)
    set_quota(limited, user=name, measure="tokens", period="day", amount=100_000)
    body = {"model": model, "messages": CHAT["messages"], "prompt": "hello", "text": "hello", "stream": False}
    if path.startswith("/lollms"):
        del body["messages"]
    with limited.client(key=key) as client:
        good, refused = (client.post(path, json=body) for _ in range(2))
    assert (good.status_code, refused.status_code) == (200, 429), good.text
    for answer, limit in ((good, "60000"), (refused, "1")):
        names = [name.lower() for name, _ in answer.headers.raw if name.lower().startswith(b"x-ratelimit")]
        assert len(names) == len(set(names))
        assert answer.headers["x-ratelimit-limit"] == limit
        assert answer.headers["x-ratelimit-limit-requests"] == "1"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    assert good.headers["x-ratelimit-limit-tokens"] == "100000"
    assert int(refused.headers["retry-after"]) >= 1
    assert int(refused.headers["x-ratelimit-reset"]) > time.time()
    assert "1 requests per day" in refused.text


def events_of(client: httpx2.Client, body: dict[str, Any], path: str = "/v1/chat/completions") -> list[str]:
    with client.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200
        return [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"measure": "cost"}, "measure"),
        ({"period": "year"}, "period"),
        ({"amount": -1}, "amount"),
        ({"amount": 10**18}, "amount"),
        ({"model": "x" * 201}, "model"),
        ({"wrong": 1}, "wrong"),
    ],
)
def test_what_is_wrong_with_a_quota_is_named(team: RunningServer, change: dict[str, object], param: str) -> None:
    quota = {"measure": "tokens", "period": "day", "amount": 1, **change}
    with team.client() as admin:
        answer = admin.put("/api/admin/quotas", json=quota)
        assert answer.status_code == 422
        assert answer.json()["error"]["param"] == param
        for nobody in ({"user": "nobody"}, {"key_id": 10**6}, {"key_id": 10**30}):
            wish = {"measure": "tokens", "period": "day", "amount": 1, **nobody}
            assert admin.put("/api/admin/quotas", json=wish).status_code == 404


def test_commands_set_show_and_lift_quotas(team: RunningServer) -> None:
    key = key_of(team, "bycommand")
    words = ("quotas", "set", "--user", "bycommand", "--per", "day", "--requests", "1", "--tokens", "50000")
    done = command(team.data_dir, *words)
    assert done.returncode == 0, done.stderr
    with team.client(key=key) as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 429
        shown = json.loads(command(team.data_dir, "quotas", "list", "--json").stdout)
        mine = [quota for quota in shown if quota["user"] == "bycommand"]
        assert [quota["measure"] for quota in mine] == ["requests", "tokens"]
        for quota in mine:
            assert command(team.data_dir, "quotas", "delete", str(quota["id"])).returncode == 0
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert command(team.data_dir, "quotas", "set", "--per", "day").returncode == 1


def test_a_quota_knows_what_was_used_a_moment_before_it_was_set(team: RunningServer) -> None:
    key = key_of(team, "before")
    with team.client(key=key) as client:
        used = client.post("/v1/chat/completions", json=LOCAL).json()["usage"]["total_tokens"]
        quota = set_quota(team, user="before", measure="tokens", period="day", amount=used)
        assert standing(team, quota["id"])["used"] == used
        assert client.post("/v1/chat/completions", json=LOCAL).status_code == 429


def test_a_day_is_not_forgotten_by_a_restart(tmp_path: Path) -> None:
    fake = Fake("alpha", models=("m1",))
    with gateway(tmp_path, [fake]) as server:
        quota = set_quota(server, user="*", measure="requests", period="day", amount=3)
        with server.client() as client:
            for _ in range(2):
                assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        key = server.key
    with gateway(tmp_path, [fake], key=key) as server, server.client() as client:
        assert standing(server, quota["id"])["used"] == 2
        statuses = [client.post("/v1/chat/completions", json=CHAT).status_code for _ in range(2)]
        assert statuses == [200, 429]


def test_the_usage_chunk_is_taken_out_wherever_the_stream_is_cut() -> None:
    kept = b'data: {"choices":[{"delta":{"content":"\\n\\n"}}]}\n\n'
    extra = b'data: {"id":"x","choices": [],"usage":{"total_tokens":3}}\r\n\r\n'
    stream = kept + extra + b"data: [DONE]\n\n"
    for cut in range(len(stream) + 1):
        taker = UsageTaker()
        assert taker.feed(stream[:cut]) + taker.feed(stream[cut:]) + taker.rest() == kept + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"a":1}', {"a": 1, "stream_options": {"include_usage": True}}),
        (b" {} ", {"stream_options": {"include_usage": True}}),
        (b'{"stream_options":{"x":2}}', {"stream_options": {"x": 2, "include_usage": True}}),
        (b'{"stream_options":null,"b":"{"}', {"stream_options": {"include_usage": True}, "b": "{"}),
        (b'{"stream_options":{"include_usage":true}}', None),
    ],
)
def test_asking_for_usage_changes_nothing_else(body: bytes, asked: object) -> None:
    made = ask_for_usage(body)
    assert (None if made is None else json.loads(made)) == asked


def test_the_bound_of_an_answer_is_found_in_each_dialect() -> None:
    assert answer_bound(b'{"max_tokens": 5, "n": 3}') == 15
    assert answer_bound(b'{"max_completion_tokens": 7}') == 7
    assert answer_bound(b'{"options": {"num_predict": 4}}') == 4
    assert answer_bound(b'{"options": {"num_predict": -1}}') is None
    assert answer_bound(b"[]") is None
