"""Three endpoints under 64 streams, one of them killed and brought back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.gateway.fakes import Fake, gateway
from tests.gateway.wire import Raw, exchange, post

STREAM = post("/olla/openai/v1/chat/completions", b'{"model": "m1", "stream": true}', "X-Fake: pace=5ms, chunks=20")
STREAMS, ROUNDS = 64, 6


def test_no_request_without_a_byte_fails_when_an_endpoint_dies(tmp_path: Path) -> None:
    fakes = [Fake(name, "openai", ("m1",)) for name in ("one", "two", "three")]
    answers: list[Raw] = []
    half = threading.Event()
    killed = threading.Event()

    def ask(url: str, number: int) -> None:
        for turn in range(ROUNDS):
            answers.append(exchange(url, STREAM))
            if number == 0 and turn == 1:
                half.set()
            if turn == 2:
                killed.wait(20)

    with gateway(tmp_path, fakes, more={"auth": {"required": False}}) as server, ThreadPoolExecutor(STREAMS) as pool:
        running = [pool.submit(ask, server.url, number) for number in range(STREAMS)]
        half.wait(20)
        fakes[1].kill()
        killed.set()
        for one in running:
            one.result()
        assert len(answers) == STREAMS * ROUNDS
        # Whatever had no byte yet went to another endpoint, or had been sent to the one that died; none is a lie.
        refused = [answer for answer in answers if answer.status != 200]
        assert all(answer.status == 502 and b"UPSTREAM_DISCONNECTED" in answer.body for answer in refused)
        for answer in answers:
            if answer.status == 200:
                assert answer.whole == answer.body.endswith(b"data: [DONE]\n\n")
        broken = [answer for answer in answers if answer.status == 200 and not answer.whole]
        assert {answer.header("x-olla-endpoint") for answer in broken} <= {"two"}
        fakes[1].start()
        back = (exchange(server.url, STREAM).header("x-olla-endpoint") for _ in range(300))
        assert "two" in back
        shown = server.client().get("/internal/status").json()
        assert shown["system"]["total_requests"] >= STREAMS * ROUNDS
        assert {one["connections"] for one in shown["endpoints"]} == {0}
