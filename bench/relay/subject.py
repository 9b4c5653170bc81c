"""What is measured: a place to send requests to, and the process whose CPU they cost."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass

from bench.relay.cores import cpu_seconds

CHAT = "m1"
"""nginx answers it whole, from memory."""
STREAM = "s1"
"""Our own upstream streams it."""
DIRECT, NGINX, LITELLM, ATRIUM = "upstream alone", "nginx", "LiteLLM", "Atrium"
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a chat is posted, and with which key."""

    port: int
    path: str = "/v1/chat/completions"
    key: str = "none"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Subject:
    """A proxy before the upstreams, or the upstreams themselves."""

    name: str
    pid: int
    posts: Address
    streams: Address


def chat_body(model: str, *, chunks: int = 0, pace_ms: int = 0, burst: int = 1) -> bytes:
    """Length, pace and burst travel in fields that every proxy passes on; see bench.relay.upstream."""
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": "system", "content": "You answer."}, {"role": "user", "content": "Name three colours."}],
        "temperature": 0,
    }
    if chunks:
        body |= {"stream": True, "max_tokens": chunks, "seed": pace_ms, "user": str(burst)}
    return json.dumps(body).encode()


def request_bytes(address: Address, body: bytes, *, keep_alive: bool) -> bytes:
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: 127.0.0.1:{address.port}\r\nAuthorization: Bearer {address.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return (head + ("" if keep_alive else "Connection: close\r\n") + "\r\n").encode() + body


def post(address: Address, body: bytes) -> str:
    """An empty string where the answer is a 200, else what went wrong."""
    headers = {"Authorization": f"Bearer {address.key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=10)
    try:
        connection.request("POST", address.path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return str(error)
    finally:
        connection.close()
    return "" if answer.status == http.HTTPStatus.OK else f"{answer.status} {text[:300]}"


def wait_until_ready(subject: Subject) -> None:
    """Both routes answer. Raises RuntimeError with the last refusal."""
    deadline = time.monotonic() + PATIENCE
    for address, body in ((subject.posts, chat_body(CHAT)), (subject.streams, chat_body(STREAM, chunks=2))):
        while problem := post(address, body):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{subject.name} never answered {address.path}: {problem}")
            time.sleep(0.2)


def wait_until_idle(subject: Subject) -> None:
    """What was asked last is worked off, so that it costs the next subject nothing."""
    deadline = time.monotonic() + PATIENCE
    before = cpu_seconds(subject.pid)
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = cpu_seconds(subject.pid)
        if now - before < 0.02:
            return
        before = now
