"""Which headers pass the gateway, as tables. Contract `olla.md`, section 9."""

from __future__ import annotations

import pytest

from atrium.decisions.pass_headers import HeadReader, forwarded_for, onward

OUR_KEY = b"lollms_0123456789abcdef_" + b"0" * 48
NOTHING = frozenset[bytes]()


@pytest.mark.parametrize(
    "name",
    [
        *("keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade"),
        *("transfer-encoding", "authorization", "x-api-key", "xi-api-key", "api-key", "x-goog-api-key", "cookie"),
        *("x-auth-token", "host", "content-length", "expect", "x-forwarded-for", "x-real-ip", "x-request-id"),
    ],
)
def test_what_is_for_this_hop_or_for_us_goes_no_further(name: str) -> None:
    assert onward([(name.encode(), b"1"), (b"x-note", b"2")], NOTHING) == [b"x-note: 2\r\n"]


@pytest.mark.parametrize("name", ["content-type", "accept", "user-agent", "accept-encoding", "openai-beta", "x-mine"])
def test_everything_else_goes_on_as_often_as_it_came(name: str) -> None:
    line = name.encode() + b": 1\r\n"
    assert onward([(name.encode(), b"1"), (name.encode(), b"1")], NOTHING) == [line, line]


def test_what_connection_names_goes_no_further() -> None:
    headers = [
        (b"connection", b"close, X-Private"),
        (b"connection", b"x-other"),
        (b"x-private", b"1"),
        (b"x-other", b"2"),
    ]
    assert onward([*headers, (b"x-kept", b"3")], NOTHING) == [b"x-kept: 3\r\n"]


def test_our_key_goes_no_further_by_any_name() -> None:
    assert onward([(b"x-note", b"see " + OUR_KEY), (b"x-word", b"lollms_is_fine")], NOTHING) == [
        b"x-word: lollms_is_fine\r\n"
    ]


def test_what_the_endpoints_configuration_sets_is_not_the_clients() -> None:
    assert onward([(b"x-site", b"mine"), (b"x-note", b"1")], frozenset({b"x-site"})) == [b"x-note: 1\r\n"]


@pytest.mark.parametrize(
    "name",
    [
        *("Set-Cookie", "Authorization", "X-Api-Key", "X-Auth-Token", "X-Olla-Endpoint", "X-Olla-Anything", "X-Site"),
        *("Access-Control-Allow-Origin", "X-RateLimit-Remaining", "Keep-Alive", "Trailer", "Upgrade", "X-Hop"),
    ],
)
def test_what_an_endpoint_must_not_say_is_left_out(name: str) -> None:
    reader = HeadReader(frozenset({b"x-site"}))
    head = f"HTTP/1.1 200 OK\r\nConnection: x-hop\r\n{name}: 1\r\nX-Note: 2\r\nX-Note: 3".encode()
    for _ in range(2):
        assert reader.read(head).kept == b"X-Note: 2\r\nX-Note: 3\r\n"


def test_what_frames_an_answer_is_read_and_not_passed_on() -> None:
    head = HeadReader().read(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\nVia: 1.0 a\r\nVia: 1.1 b"
    )
    assert (head.length, head.chunked, head.close, head.via) == (5, False, False, b"1.0 a, 1.1 b")
    assert head.kept == b"Content-Encoding: gzip\r\n"
    both = HeadReader().read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked")
    assert (both.length, both.chunked, both.close) == (None, True, True)
    old = HeadReader().read(b"HTTP/1.0 200 OK")
    assert (old.close, HeadReader().read(b"HTTP/1.0 200 OK\r\nConnection: keep-alive").close) == (True, False)


@pytest.mark.parametrize(
    ("presented", "trusted", "told"),
    [(b"", False, b"9.9.9.9"), (b"6.6.6.6", False, b"9.9.9.9"), (b"6.6.6.6", True, b"6.6.6.6, 9.9.9.9")],
)
def test_only_a_trusted_proxy_is_believed_about_others(presented: bytes, trusted: bool, told: bytes) -> None:
    assert forwarded_for("9.9.9.9", presented, trusted=trusted) == told
