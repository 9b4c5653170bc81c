"""Limits. Contract `olla.md`, section 11."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from atrium.core.errors import RateLimited
from atrium.decisions.client_address import client_address, read_networks
from atrium.decisions.spend import Rate, full, spend, wait_for_one
from atrium.http import limits
from atrium.http.limits import Limiter
from atrium.settings.tree import Limits, Settings
from tests.gateway.fakes import Fake, gateway
from tests.gateway.wire import exchange, get, post

OPEN = {"auth": {"required": False}}
CHAT = post("/olla/openai/v1/chat/completions", b'{"model": "m1"}')


def test_the_burst_is_exact_under_concurrency_and_both_lanes_share_it(tmp_path: Path) -> None:
    env = {"ATRIUM_LIMITS__PER_IP_PER_MINUTE": "60", "ATRIUM_LIMITS__BURST": "20"}
    with gateway(tmp_path, [Fake("one")], more=OPEN, env=env) as server, ThreadPoolExecutor(16) as pool:
        began = time.monotonic()
        asked = [CHAT, get("/olla/models"), get("/v1/models"), get("/olla/openai/echo")] * 15
        answers = [one.result() for one in [pool.submit(exchange, server.url, data) for data in asked]]
        good = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status == 429]
        assert len(good) + len(refused) == 60
        assert 20 <= len(good) <= 21 + (time.monotonic() - began)
        assert min(int(a.header("x-ratelimit-remaining") or -1) for a in good) == 0
        assert all(int(answer.header("retry-after") or 0) >= 1 for answer in refused)
        assert {answer.header("x-ratelimit-limit") for answer in answers} == {"60"}
        assert exchange(server.url, get("/internal/health")).status == 200
        spoofed = exchange(server.url, get("/olla/models", "X-Forwarded-For: 9.9.9.9"))
        assert spoofed.status == 429
        assert b"RATE_LIMITED" in spoofed.body


def test_a_trusted_proxy_tells_who_is_behind_it(tmp_path: Path) -> None:
    env = {"ATRIUM_LIMITS__PER_IP_PER_MINUTE": "60", "ATRIUM_LIMITS__BURST": "2"}
    more = {**OPEN, "trusted_proxies": ["127.0.0.0/8"]}
    with gateway(tmp_path, [Fake("one")], more=more, env=env) as server:
        for address in ("1.1.1.1", "2.2.2.2"):
            answers = [exchange(server.url, get("/olla/models", f"X-Forwarded-For: {address}")) for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 200, 429]
        told = exchange(server.url, get("/olla/openai/echo", "X-Forwarded-For: 3.3.3.3"))
        assert b'"3.3.3.3, 127.0.0.1"' in told.body
        assert b'["x-real-ip","3.3.3.3"]' in told.body


def test_who_is_behind_a_trusted_proxy_is_told_of_translated_requests_too(tmp_path: Path) -> None:
    more = {**OPEN, "trusted_proxies": ["127.0.0.0/8"]}
    den = Fake("den", "ollama", ("m1",), v1=False)
    body = b'{"model": "m1", "messages": [{"role": "user", "content": "hi"}]}'
    with gateway(tmp_path, [den], more=more) as server, server.client() as client:
        lines = ("X-Forwarded-For: 3.3.3.3", "X-Request-ID: whence")
        assert exchange(server.url, post("/v1/chat/completions", body, *lines)).status == 200
        record = client.get("/api/admin/requests/whence").json()
        assert (record["address"], record["candidates"]) == ("3.3.3.3", ["den"])


def test_a_bucket_gives_what_it_has_and_no_more() -> None:
    rate = Rate(60, 3)
    bucket = full(rate, 0.0)
    assert [spend(bucket, rate, 0.0) for _ in range(4)] == [True, True, True, False]
    assert wait_for_one(bucket, rate) == 1
    assert spend(bucket, rate, 1.0)
    assert not spend(bucket, rate, 1.5)
    assert [spend(bucket, rate, 1000.0) for _ in range(4)] == [True, True, True, False]


def test_the_address_is_the_last_one_that_nobody_vouches_for() -> None:
    trusted = read_networks(["10.0.0.0/8", "::1"])
    assert client_address("10.0.0.1", b"6.6.6.6, 1.2.3.4, 10.0.0.2", trusted) == "1.2.3.4"
    assert client_address("9.9.9.9", b"1.2.3.4", trusted) == "9.9.9.9"
    assert client_address("10.0.0.1", b"junk", trusted) == "10.0.0.1"
    assert client_address("10.0.0.1", b"", trusted) == "10.0.0.1"
    assert client_address("10.0.0.1", b"1.2.3.4", ()) == "10.0.0.1"


def test_who_is_refused_by_one_bucket_gives_back_what_it_took_from_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now, time=lambda: clock.now)
    monkeypatch.setattr(limits, "time", clock)
    asked = Limiter(Settings(limits=Limits(global_per_minute=6000, per_ip_per_minute=1, burst=2)), ())

    def passes(address: str) -> bool:
        try:
            asked.take(address)
        except RateLimited:
            return False
        return True

    assert [passes("1.1.1.1") for _ in range(3)] == [True, True, False]
    clock.now += 0.5
    assert not passes("1.1.1.1")
    assert [passes("2.2.2.2") for _ in range(2)] == [True, True]
