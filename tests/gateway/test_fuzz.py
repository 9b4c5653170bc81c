"""Bytes at any boundary, in any order: nothing crashes, and no answer is taken for another's."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrium.core.errors import AtriumError, BadResponse, Disconnected
from atrium.decisions.pass_headers import HeadReader, ResponseHead
from atrium.relay.upstream import Sink, Upstream
from tests.gateway.wire import connect, get, post
from tests.running import RunningServer

WHOLE = (
    b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;x=y\r\nhello\r\n1\r\n \r\n6\r\nworld!\r\n0\r\nT: 1\r\n\r\n"
)


class Heard(Sink):
    def __init__(self) -> None:
        self.heads: list[ResponseHead] = []
        self.body = b""
        self.ended = 0
        self.broken: AtriumError | None = None

    def on_head(self, head: ResponseHead) -> None:
        self.heads.append(head)

    def on_piece(self, data: bytes) -> None:
        self.body += data

    def on_end(self) -> None:
        self.ended += 1

    def on_broken(self, error: AtriumError) -> None:
        self.broken = error


async def fed(pieces: Sequence[bytes]) -> Heard:
    """What a sink hears of these bytes, and of the end of the connection behind them."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    heard = Heard()
    transport, upstream = await loop.create_connection(lambda: Upstream(HeadReader(), 65536, lambda _: None), sock=ours)
    upstream.send(heard, b"GET / HTTP/1.1\r\n\r\n", b"", head_only=False)
    for piece in pieces:
        upstream.data_received(piece)
    transport.abort()
    upstream.connection_lost(None)
    theirs.close()
    return heard


def split(data: bytes, places: Sequence[int]) -> list[bytes]:
    cuts = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


@given(st.lists(st.integers(0, 500), max_size=40))
@settings(max_examples=100, deadline=None)
def test_an_answer_is_the_same_at_every_boundary(places: list[int]) -> None:
    heard = asyncio.run(fed(split(WHOLE, places)))
    assert (heard.body, heard.ended, heard.broken) == (b"hello world!", 1, None)
    assert [head.status for head in heard.heads] == [200]


@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=10), st.integers(0, len(WHOLE)))
@settings(max_examples=150, deadline=None)
def test_nonsense_is_refused_and_nothing_escapes(junk: bytes, places: list[int], cut: int) -> None:
    heard = asyncio.run(fed(split(WHOLE[:cut] + junk, places)))
    assert heard.ended + (heard.broken is not None) == 1
    assert heard.broken is None or isinstance(heard.broken, BadResponse | Disconnected)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\nx: a\nb: c",
        b"HTTP/1.1 200 OK\r\nx: a\x00",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nbad name: 1",
        b"HTTP/2 200 OK",
        b"HTTP/1.1 101 Switching\r\nupgrade: x",
    ],
)
async def test_a_head_that_cannot_be_trusted_is_refused(head: bytes) -> None:
    heard = await fed([head + b"\r\n\r\n"])
    assert isinstance(heard.broken, BadResponse)


@given(st.lists(st.integers(0, 2000), max_size=30))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_requests_cut_anywhere_are_answered_in_their_order(relay: RunningServer, places: list[int]) -> None:
    key = f"Authorization: Bearer {relay.key}"
    chunked = f"POST /olla/openai/echo HTTP/1.1\r\nHost: localhost\r\n{key}\r\nTransfer-Encoding: chunked\r\n"
    asked = [
        post("/olla/openai/echo", b'{"model": "m1"}', key, "X-Request-ID: 0"),
        get("/internal/health", "X-Request-ID: 1"),
        chunked.encode() + b"X-Request-ID: 2\r\n\r\n3;a=b\r\nGET\r\n1\r\n \r\n0\r\n\r\n",
        get("/olla/openai/echo", key, "X-Request-ID: 3", "Connection: close"),
    ]
    with connect(relay.url) as line:
        for piece in split(b"".join(asked), places):
            line.sendall(piece)
        with line.makefile("rb") as reader:
            said = reader.read()
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200"] * 4
    assert re.findall(rb"x-olla-request-id: (\d)", said) == [b"0", b"1", b"2", b"3"]


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([
    b"POST /olla/openai/v1/chat/completions HTTP/1.1\r\n", b"GET /olla/models HTTP/1.1\r\n", b"Host: localhost\r\n",
    b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n", b"0\r\n\r\n", b"{}", b"\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n", b"GET / HTTP/1.0\r\n\r\n",
])), max_size=12))  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_server_outlives_every_client(relay: RunningServer, pieces: list[bytes]) -> None:
    with connect(relay.url) as line:
        line.settimeout(0.05)
        try:
            for piece in pieces:
                line.sendall(piece)
            line.recv(65536)
        except OSError:
            pass
    with connect(relay.url) as line:
        line.sendall(b"GET /internal/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
