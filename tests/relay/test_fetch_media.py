"""Fetching what a request names: over real HTTP, within bounds, and each redirect checked anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from atrium.core.errors import InvalidValue
from atrium.relay.fetch_media import MediaFetch

PLACE = "messages[0].content[1]"


def only_this_one(address: str) -> str:
    return "" if address == "127.0.0.1" else "a test says so"


LENIENT = MediaFetch(only_this_one)


@asynccontextmanager
async def serving(answers: dict[str, bytes]) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """A server with these answers by path; its address, and the heads of the requests that came."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        writer.write(answers[head.split()[1].decode()])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}", heads


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)


def to(place: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


async def test_a_file_comes_through_its_redirects_under_the_name_that_was_asked_for() -> None:
    async with serving({"/a?x=1": to("/b"), "/b": ok(b"picture")}) as (url, heads):
        assert await LENIENT(f"{url}/a?x=1", most=100, place=PLACE) == b"picture"
        assert await LENIENT(f"{url}/b", most=100, place=PLACE) == b"picture"
    assert all(b"host: localhost:" in head.lower() for head in heads)


async def test_a_cookie_that_came_with_one_file_goes_out_with_no_other() -> None:
    cookie = ok(b"picture").replace(b"\r\n", b"\r\nSet-Cookie: who=ann\r\n", 1)
    async with serving({"/a": cookie, "/b": ok(b"picture")}) as (url, heads):
        for path in "ab":
            await LENIENT(f"{url}/{path}", most=100, place=PLACE)
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/large", "larger than 100 bytes"),
        ("/missing", "answers 404"),
        ("/round", "leads on"),
        ("/elsewhere", "refused"),
        ("/file", "Only http"),
        ("/astray", "leads on to one that is none"),
        ("/nonsense", "could not be fetched"),
    ],
)
async def test_what_breaks_a_rule_is_refused_with_its_host_and_place(path: str, reason: str) -> None:
    answers = {
        "/large": ok(b"x" * 101),
        "/missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret",
        "/round": to("/round"),
        "/elsewhere": to("http://127.0.0.2:1/secret"),
        "/file": to("file:///etc/passwd"),
        "/astray": to("http://[no"),
        "/nonsense": b"this is no HTTP\r\n\r\n",
    }
    async with serving(answers) as (url, _):
        with pytest.raises(InvalidValue, match=reason) as refused:
            await LENIENT(f"{url}{path}", most=100, place=PLACE)
    assert refused.value.param == PLACE
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1", "http://localhost", "http://2130706433", "http://0x7f000001", "http://127.1", "http://[::1]"],
)
async def test_no_packet_is_sent_to_this_machine_however_it_is_spelt(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "2130706433" in address or "0x7f" in address or "127.1" in address:
        monkeypatch.undo()
    async with serving({}) as (url, heads):
        port = url.rsplit(":", 1)[1]
        with pytest.raises(InvalidValue, match="refused"):
            await MediaFetch()(f"{address}:{port}/", most=100, place=PLACE)
    assert not heads


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://localhost/x", "http://u:p@localhost/", "http://", "http://[::1"]
)
async def test_other_addresses_are_none(address: str) -> None:
    with pytest.raises(InvalidValue):
        await MediaFetch()(address, most=100, place=PLACE)
