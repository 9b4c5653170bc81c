"""Two gateways on one PostgreSQL: what is changed or used at one counts at the other. Contract `lollms.md`, 1.1."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.gateway.fakes import Fake, gateway
from tests.people.conftest import log_in, new_user
from tests.postgres import postgres
from tests.running import PATIENCE

CHAT: dict[str, Any] = {"model": "m1", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
AT_MOST = 5.0
"""Seconds until a revocation counts everywhere."""
SLACK = 3.0
"""Of a machine that is busy with other tests."""


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline


def ask(client: httpx2.Client) -> int:
    return client.post("/v1/chat/completions", json=CHAT).status_code


def test_what_changes_at_one_gateway_counts_at_the_other_within_five_seconds(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    fake = Fake("alpha", models=("m1",))
    with ExitStack() as stack:
        env = {"ATRIUM_DATABASE_URL": stack.enter_context(postgres()), "ATRIUM_PEPPER": "5a" * 32}
        here = stack.enter_context(gateway(tmp_path_factory.mktemp("here"), [fake], env=env))
        admin = stack.enter_context(here.client())
        ids = {name: new_user(here, name) for name in ("ann", "gone", "meg")}
        wish = {"user": "meg", "measure": "requests", "period": "day", "amount": 4}
        quota = admin.put("/api/admin/quotas", json=wish).json()["id"]
        folder = tmp_path_factory.mktemp("there")
        there = stack.enter_context(gateway(folder, [], dead=[fake.config], env=env, key=here.key))
        other = stack.enter_context(there.client())
        made = {
            name: admin.post("/api/admin/keys", json={"username": name, "alias": "k"}).json() for name in ("ann", "meg")
        }
        shown = {"ann": made["ann"]["full_key"], "meg": made["meg"]["full_key"]}
        shown["gone"] = log_in(there, "gone").json()["access_token"]
        clients = {
            (name, place): stack.enter_context(server.client(key=key))
            for name, key in shown.items()
            for place, server in (("here", here), ("there", there))
        }
        # What was made at one is good at the other in this very moment.
        assert {call: ask(client) for call, client in clients.items()} == dict.fromkeys(clients, 200)
        assert ask(clients[("meg", "there")]) == 200

        def used(by: httpx2.Client) -> int:
            return next(one["used"] for one in by.get("/api/admin/quotas").json() if one["id"] == quota)

        began = time.monotonic()
        admin.delete(f"/api/admin/keys/{made['ann']['id']}").raise_for_status()
        admin.put(f"/api/admin/users/{ids['gone']}", json={"is_active": False}).raise_for_status()
        assert [ask(clients[(name, "here")]) for name in ("ann", "gone")] == [401, 401]
        # The fast lane remembers a key that goes on being shown no longer than one that rests.
        until(lambda: [ask(clients[(name, "there")]) for name in ("ann", "gone")] == [401, 401])
        assert time.monotonic() - began < AT_MOST + SLACK
        assert clients[("gone", "there")].get("/api/auth/me").status_code == 401
        until(lambda: used(admin) == used(other) == 3)
        assert [ask(clients[("meg", "here")]) for _ in range(2)] == [200, 429]
