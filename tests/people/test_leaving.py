"""Who does not wait for an answer has had it made all the same."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from tests.gateway.fakes import Fake, gateway
from tests.people.test_quotas import CHAT, FAKES, key_of, set_quota, standing
from tests.running import PATIENCE, RunningServer


def wait_until(server: RunningServer, number: int, **wanted: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while {name: standing(server, number)[name] for name in wanted} != wanted:
        assert time.monotonic() < deadline, standing(server, number)


@pytest.mark.parametrize(("model", "least"), [("m1", 50), ("slow", 0)], ids=["relayed", "local"])
def test_a_request_that_is_left_before_its_answer_counts(tmp_path: Path, model: str, least: int) -> None:
    """`least`: tokens that it takes; of a model that was not even loaded there are none."""
    with gateway(tmp_path, [Fake("alpha")], env=FAKES) as server:
        server.install("fake:slow?words=2000&pace=20ms")
        key = key_of(server, "hasty")
        requests = set_quota(server, user="hasty", measure="requests", period="day", amount=2)["id"]
        tokens = set_quota(server, user="hasty", measure="tokens", period="day", amount=10**6)["id"]
        body = json.dumps({**CHAT, "model": model, "max_tokens": 2000}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {server.url[7:]}\r\nAuthorization: Bearer {key}\r\n"
        head += f"Content-Type: application/json\r\nX-Fake: hang\r\nContent-Length: {len(body)}\r\n\r\n"
        for count in (1, 2):
            with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
                client.sendall(head.encode() + body)
                wait_until(server, requests, held=1)
            wait_until(server, requests, used=count, held=0)
        assert standing(server, tokens)["used"] >= least
        with server.client(key=key) as client:
            assert client.post("/v1/chat/completions", json=CHAT).status_code == 429
            totals = client.get("/api/usage").json()["totals"]
            assert (totals["requests"], totals["failures"]) == (3, 1)
