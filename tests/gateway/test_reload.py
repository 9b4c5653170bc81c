"""The configuration read again while the server runs."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gateway.fakes import Fake, gateway
from tests.gateway.test_failure import soon
from tests.gateway.wire import exchange, post
from tests.running import RunningServer, command

CHAT = "/olla/openai/v1/chat/completions"
OPEN = {"auth": {"required": False}}


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def asked(server: RunningServer, model: str, *lines: str) -> str | None:
    return exchange(server.url, post(CHAT, json.dumps({"model": model}).encode(), *lines)).header("x-olla-endpoint")


def test_endpoints_aliases_and_limits_are_read_again_and_no_request_is_dropped(tmp_path: Path) -> None:
    one, two = Fake("one", "openai", ("m1",)), Fake("two", "openai", ("m1", "m2"))
    with gateway(tmp_path, [one, two], more={**OPEN, "balancer": "priority"}) as server, ThreadPoolExecutor(9) as pool:
        streams = [
            pool.submit(
                exchange, server.url, post(CHAT, b'{"model":"m1","stream":true}', "X-Fake: pace=100ms, chunks=20")
            )
            for _ in range(8)
        ]
        one.when(in_flight=4)
        moved = {**one.config, "priority": 500, "headers": {"X-Site": "there"}}
        rewrite(tmp_path, endpoints=[moved], model_aliases={"quick": "m1"}, limits={"max_body": "2KB"})
        told = command(server.data_dir, "config", "reload", "--config", str(tmp_path / "gateway.yaml"))
        assert told.stdout == "Read again. Endpoints: 1 removed, 1 changed.\n", told.stderr
        assert asked(server, "quick") == "one"
        assert asked(server, "m2") is None
        echo = json.loads(exchange(server.url, post("/olla/openai/echo", b"{}")).body)
        assert dict(echo["headers"])["x-site"] == "there"
        for path in (CHAT, "/v1/embeddings"):
            assert exchange(server.url, post(path, b'{"x": "' + b"y" * 3000 + b'"}')).status == 413
        answers = [stream.result() for stream in streams]
        assert [(answer.status, answer.whole) for answer in answers] == [(200, True)] * 8
        assert {answer.header("x-olla-endpoint") for answer in answers} == {"one", "two"}

        rewrite(tmp_path, endpoints=[moved, two.config], limits={"per_ip_per_minute": 60, "burst": 1})
        server.process.send_signal(signal.SIGHUP)
        log = tmp_path / "server.log"
        assert soon(lambda: log.read_text().count('"config.reloaded"') == 2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"balancr": "priority"}, "balancer"),
        ({"endpoints": [{"url": "http://h:1", "api_kye": "sk-secret"}]}, "api_key"),
        ({"endpoints": [{"url": "http://h:1", "api_key": "${NOT_SET_ANYWHERE}"}]}, "NOT_SET_ANYWHERE"),
        ({"endpoints": [{"url": "http://h:1"}, {"url": "http://h:1"}]}, "h:1"),
    ],
)
def test_a_wrong_configuration_changes_nothing(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with gateway(tmp_path, [Fake("one")], more=OPEN) as server, server.client() as client:
        rewrite(tmp_path, **changes)
        server.process.send_signal(signal.SIGHUP)
        log = tmp_path / "server.log"
        assert soon(lambda: '"config.refused"' in log.read_text())
        answer = client.post("/api/admin/reload")
        assert answer.status_code == 400
        assert named in answer.json()["error"]["message"]
        assert asked(server, "m1") == "one"
        assert "sk-secret" not in log.read_text() + answer.text


def test_only_an_administrator_may_have_it_read_again(relay: RunningServer) -> None:
    with relay.client() as client:
        client.post("/api/admin/users", json={"username": "rea"})
        own = client.post("/api/admin/keys", json={"username": "rea", "alias": "r"}).json()["full_key"]
    with relay.client(key=own) as user:
        assert user.post("/api/admin/reload").status_code == 403
