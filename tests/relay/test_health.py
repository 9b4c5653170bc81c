"""What a check makes of an endpoint's answer, and of its models. Contract `olla.md`, sections 4.1 and 7."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from atrium.core.endpoints import Health
from atrium.decisions.choose_endpoint import Balancing
from atrium.relay import directory as book
from atrium.relay import health
from atrium.relay.directory import Directory, Endpoint
from atrium.relay.health import Checker, next_wait
from atrium.relay.pool import PoolBounds
from atrium.settings.endpoints import read_given

MODELS = b'{"object":"list","data":[{"id":"m1"}]}'
Page = tuple[int, str, bytes]
"""Status, more header lines, body."""


@dataclass
class Server:
    """Answers each path with its page; what has none is 404."""

    pages: dict[str, Page] = field(default_factory=dict[str, Page])
    heads: list[str] = field(default_factory=list[str])
    port: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                status, lines, body = self.pages.get(head.split()[1].decode(), (404, "", b""))
                if status:
                    writer.write(f"HTTP/1.1 {status} x\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def serving(pages: Mapping[str, Page]) -> AsyncGenerator[Server]:
    server = Server(dict(pages))
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def watched(port: int, **more: object) -> tuple[Checker, Endpoint]:
    directory = Directory(PoolBounds(1.0, 4.0, 8, 65536), {}, Balancing())
    given: dict[str, Any] = {"name": "den", "url": f"http://127.0.0.1:{port}", "check_timeout": 0.2, **more}
    return Checker(directory, 300.0), directory.add(read_given(given))


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ((200, "", MODELS), Health.HEALTHY),
        ((204, "", b""), Health.HEALTHY),
        ((302, "location: /elsewhere\r\n", b""), Health.UNHEALTHY),
        ((401, "", b""), Health.CONFIG_ERROR),
        ((403, "", b""), Health.CONFIG_ERROR),
        ((404, "", b""), Health.UNHEALTHY),
        ((429, "", b""), Health.RATE_LIMITED),
        ((500, "", b""), Health.UNHEALTHY),
        ((0, "", b""), Health.OFFLINE),
    ],
)
async def test_a_status_tells_how_an_endpoint_is(page: Page, found: Health) -> None:
    async with serving({"/well": page, "/v1/models": (200, "", MODELS)}) as server:
        checker, endpoint = watched(server.port, health_check_url="/well")
        await checker.check(endpoint)
    assert endpoint.health is found
    assert endpoint.routable == (found is Health.HEALTHY) == endpoint.has("m1")


async def test_who_refuses_the_connection_is_offline() -> None:
    async with serving({}) as server:
        port = server.port
    checker, endpoint = watched(port)
    await checker.check(endpoint)
    assert endpoint.health is Health.OFFLINE


async def test_who_asks_for_a_pause_gets_it() -> None:
    async with serving({"/v1/models": (429, "retry-after: 7\r\n", b"")}) as server:
        checker, endpoint = watched(server.port)
        await checker.check(endpoint)
    assert 5 < endpoint.checked.next_at - time.time() <= 7


async def test_a_good_answer_that_comes_late_means_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SLOW", 0.0)
    async with serving({"/v1/models": (200, "", MODELS)}) as server:
        checker, endpoint = watched(server.port)
        await checker.check(endpoint)
    assert endpoint.health is Health.BUSY
    assert endpoint.routable


async def test_without_its_default_page_the_model_list_is_asked_from_then_on() -> None:
    async with serving({"/v1/models": (200, "", MODELS)}) as server:
        checker, endpoint = watched(server.port, type="vllm")
        await checker.check(endpoint)
        server.heads.clear()
        await checker.check(endpoint)
    assert endpoint.health is Health.HEALTHY
    assert [head.split()[1] for head in server.heads] == ["/v1/models"]


async def test_a_check_carries_the_endpoints_own_key_and_shows_it_to_nobody_else() -> None:
    async with serving({"/v1/models": (200, "", MODELS)}) as own, serving({"/well": (200, "", b"")}) as sidecar:
        at = f"http://127.0.0.1:{sidecar.port}/well"
        checker, endpoint = watched(own.port, api_key="sk-own", health_check_url=at)
        await checker.check(endpoint)
        assert endpoint.health is Health.HEALTHY
        assert all("authorization: Bearer sk-own" in head for head in own.heads)
        assert not any("sk-own" in head for head in sidecar.heads)
        sidecar.pages.clear()
        await checker.check(endpoint)
    assert endpoint.health is Health.UNHEALTHY


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b'{"data": "m2"}', b'{"data": null}', b'{"data": [1', b"\xff\xfe"],
)
async def test_a_list_that_is_none_keeps_the_one_before(body: bytes) -> None:
    async with serving({"/v1/models": (200, "", MODELS)}) as server:
        checker, endpoint = watched(server.port)
        await checker.check(endpoint)
        server.pages["/v1/models"] = (200, "", body)
        endpoint.checked.stale = True
        await checker.check(endpoint)
    assert list(endpoint.offered) == ["m1"]


async def test_what_is_no_model_in_a_list_is_passed_over() -> None:
    odd = b'{"data": [1, null, {}, {"id": 7}, {"id": ""}, {"id": "m2", "created": "soon"}, {"id": "m2"}]}'
    async with serving({"/v1/models": (200, "", odd)}) as server:
        checker, endpoint = watched(server.port)
        await checker.check(endpoint)
    assert list(endpoint.offered) == ["m2"]


async def test_a_model_without_a_date_was_made_when_it_was_first_seen() -> None:
    async with serving({"/v1/models": (200, "", MODELS)}) as server:
        checker, endpoint = watched(server.port)
        await checker.check(endpoint)
        first = endpoint.offered["m1"].created
        assert abs(time.time() - first) < 60
        endpoint.list_models(tuple(replace(one, created=0) for one in endpoint.offered.values()), first + 1000.0)
    assert endpoint.offered["m1"].created == first


async def test_globs_say_which_models_are_taken_and_another_path_where_they_are_listed() -> None:
    names = b'{"data": [{"id": "a/1"}, {"id": "a/2"}, {"id": "b/1"}]}'
    async with serving({"/v1/models": (200, "", MODELS), "/all": (200, "", names)}) as server:
        globs = {"include": ["a/*"], "exclude": ["*2"]}
        checker, endpoint = watched(server.port, model_filter=globs, model_url="/all")
        await checker.check(endpoint)
    assert list(endpoint.offered) == ["a/1"]


async def test_who_is_never_checked_counts_as_down_for_a_while_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "REFUSED_FOR", 0.01)
    directory = Directory(PoolBounds(1.0, 4.0, 8, 65536), {}, Balancing())
    endpoint = directory.add(read_given({"url": "http://127.0.0.1:9", "check_interval": 0}))
    assert endpoint.health is Health.HEALTHY
    directory.refused(endpoint)
    assert endpoint.health is Health.OFFLINE
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, later.set)
    await later.wait()
    assert endpoint.health is Health.HEALTHY


@pytest.mark.parametrize(
    ("state", "failures", "intervals"),
    [
        (Health.HEALTHY, 0, 1),
        (Health.BUSY, 0, 1),
        (Health.CONFIG_ERROR, 9, 1),
        (Health.OFFLINE, 1, 1),
        (Health.OFFLINE, 2, 2),
        (Health.UNHEALTHY, 3, 4),
        (Health.OFFLINE, 4, 8),
        (Health.OFFLINE, 5, 12),
        (Health.OFFLINE, 50, 12),
    ],
)
def test_who_stays_down_is_asked_less_and_less_often(state: Health, failures: int, intervals: int) -> None:
    spec = read_given({"url": "http://h:1", "check_interval": 2})
    assert next_wait(spec, state, failures) == pytest.approx(2 * intervals, rel=0.101)
    slow = read_given({"url": "http://h:1", "check_interval": 50})
    assert next_wait(slow, state, failures) <= 60
