"""Three endpoints under 64 streams, one of them killed in their midst and brought back."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.gateway.fakes import Fake, gateway
from tests.gateway.wire import Raw, connect, exchange, post, read_answer

PATH, BODY = "/olla/openai/v1/chat/completions", b'{"model": "m1", "stream": true}'
LONG = post(PATH, BODY, "X-Fake: pace=20ms, chunks=120")
BRIEF = post(PATH, BODY, "X-Fake: pace=2ms, chunks=10")
STREAMS, ROUNDS = 64, 2
MORE = {"auth": {"required": False}, "proxy": {"circuit_rest": "1s"}}
DONE = b"data: [DONE]\n\n"


def listen(url: str, begun: threading.Semaphore) -> Raw:
    """One long stream; `begun` is told of its first byte."""
    with connect(url) as line:
        line.sendall(LONG)
        line.recv(1, socket.MSG_PEEK)
        begun.release()
        return read_answer(line)


def test_no_request_without_a_byte_fails_when_an_endpoint_dies(tmp_path: Path) -> None:
    fakes = [Fake(name, "openai", ("m1",)) for name in ("one", "two", "three")]
    begun = threading.Semaphore(0)
    with gateway(tmp_path, fakes, more=MORE) as server, ThreadPoolExecutor(STREAMS) as pool:

        def whole_answers(count: int) -> Counter[str | None]:
            """Who answered; every answer there is must be whole."""
            answers = list(pool.map(partial(exchange, server.url), [BRIEF] * count))
            assert {(one.status, one.whole, one.body.endswith(DONE)) for one in answers} == {(200, True, True)}
            return Counter(one.header("x-olla-endpoint") for one in answers)

        listening = [pool.submit(listen, server.url, begun) for _ in range(STREAMS)]
        for _ in range(STREAMS):
            assert begun.acquire(timeout=20)
        fakes[1].kill()
        streams = [one.result() for one in listening]
        assert {one.status for one in streams} == {200}
        broken = [one for one in streams if not one.whole]
        assert {one.header("x-olla-endpoint") for one in broken} == {"two"}
        assert len(broken) == sum(one.header("x-olla-endpoint") == "two" for one in streams) >= STREAMS // 4
        for one in streams:
            assert one.body.startswith(b"data: ")
            assert one.body.endswith(DONE) == one.whole == bool(one.trailers)
        assert set(whole_answers(STREAMS * ROUNDS)) == {"one", "three"}
        fakes[1].start()
        back = (whole_answers(STREAMS)["two"] for _ in range(60))
        assert any(back)
        shown = server.client().get("/internal/status").json()
        assert shown["system"]["total_failures"] == len(broken)
        assert shown["system"]["total_requests"] >= STREAMS * (ROUNDS + 2)
        assert {one["connections"] for one in shown["endpoints"]} == {0}
