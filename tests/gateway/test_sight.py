"""Endpoints that come and go, and records that explain: over the API and by the commands."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2

from tests.gateway.fakes import Fake, gateway
from tests.gateway.wire import exchange, post
from tests.running import RunningServer, command, running

CHAT = "/olla/openai/v1/chat/completions"
PARTS = (("count", ""), ("bucket", 'le="+Inf",'))
OWN_PARTS = (("count", ""), ("bucket", ',le="+Inf"'))


def test_how_long_requests_took_is_told_in_buckets(relay: RunningServer) -> None:
    def counts(client: httpx2.Client) -> dict[str, float]:
        lines = [line.rpartition(" ") for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    names = [f'atrium_request_seconds_{part}{{{more}surface="olla"}}' for part, more in PARTS]
    names += [f'olla_endpoint_seconds_{part}{{endpoint="alpha"{more}}}' for part, more in OWN_PARTS]
    with relay.client() as client:
        before = counts(client)
        client.post(CHAT, json={"model": "m1"}).raise_for_status()
        after = counts(client)
    for name in names:
        assert after[name] == before.get(name, 0) + 1, name


def test_a_request_can_be_explained(relay: RunningServer) -> None:
    key = f"Authorization: Bearer {relay.key}"
    exchange(relay.url, post(CHAT, b'{"model": "fast"}', key, "X-Request-ID: why-1"))
    with relay.client() as client:
        record = client.get("/api/admin/requests/why-1").json()
        assert (record["model"], record["ran"], record["caller"]) == ("fast", "m1", "admin")
        assert record["candidates"] == ["alpha", "gamma"]
        assert record["passed_over"]["delta"] == "it is offline"
        assert record["passed_over"]["beta"] == "it does not list the model"
        assert [(name, how) for name, how, _ in record["tries"]] == [("alpha", "it answered 200")]
        assert (record["prompt_tokens"], record["completion_tokens"]) == (3, 5)
        assert client.get("/api/admin/requests?limit=1").json()[0]["id"] == "why-1"
        assert client.get("/api/admin/requests/none").status_code == 404
    told = command(relay.data_dir, "explain", "why-1")
    assert told.returncode == 0, told.stderr
    assert "passed over delta: it is offline" in told.stdout
    assert "3 tokens in, 5 out" in told.stdout
    assert command(relay.data_dir, "explain", "none").returncode == 1


def test_endpoints_come_and_go_while_it_runs_and_over_a_restart(tmp_path: Path) -> None:
    extra = Fake("extra", "ollama", ("late:1b",))
    extra.start()
    try:
        with gateway(tmp_path, [Fake("one")]) as server:
            url = f"http://127.0.0.1:{extra.port}"
            words = ("endpoints", "add", url, "--name", "extra", "--type", "ollama", "--api-key", "sk-x")
            added = command(server.data_dir, *words)
            assert "healthy, 1 models" in added.stdout, added.stderr
            key = f"Authorization: Bearer {server.key}"
            assert exchange(server.url, post(CHAT, b'{"model": "late:1b"}', key)).header("x-olla-endpoint") == "extra"
            assert command(server.data_dir, *words).returncode == 1
            shown = command(server.data_dir, "endpoints", "list", "--json").stdout
            assert "sk-x" not in shown
            assert {row["name"]: row["status"] for row in json.loads(shown)} == {"one": "healthy", "extra": "healthy"}
            assert command(server.data_dir, "endpoints", "remove", "one").returncode == 1
            assert (server.data_dir / "secrets" / "endpoints.json").stat().st_mode & 0o777 == 0o600
        with running(server.data_dir, key=server.key) as again:
            assert command(again.data_dir, "endpoints", "check").returncode == 0
            assert command(again.data_dir, "endpoints", "remove", "extra").returncode == 0
            assert command(again.data_dir, "endpoints", "list").stdout == "There are no endpoints.\n"
    finally:
        extra.kill()


def test_what_is_no_endpoint_is_refused_by_name(relay: RunningServer) -> None:
    with relay.client() as client:
        for given in ({"url": "ftp://x"}, {"url": "http://h", "type": "wrong"}, {"url": "http://h", "nmae": "x"}, {}):
            answer = client.post("/api/admin/endpoints", json=given)
            assert answer.status_code == 400, given
            assert answer.json()["error"]["message"]


def test_endpoints_are_the_administrators(relay: RunningServer) -> None:
    with relay.client() as client:
        client.post("/api/admin/users", json={"username": "eve"})
        own = client.post("/api/admin/keys", json={"username": "eve", "alias": "e"}).json()["full_key"]
    with relay.client(key=own) as user:
        assert user.post("/api/admin/endpoints", json={"url": "http://127.0.0.1:1"}).status_code == 403
        assert user.get("/api/admin/requests").status_code == 403


def test_top_shows_what_is_going_on(relay: RunningServer) -> None:
    shown = command(relay.data_dir, "top", "--once", COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    assert "alpha" in shown.stdout
    assert "Newest requests" in shown.stdout
