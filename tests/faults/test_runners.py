"""Runners that hang, talk nonsense, or are stopped with the server: what a client sees, and who serves the next one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from typing import Any

import httpx2
import psutil
import pytest

from tests.faults.test_bad_weather import SLOW, WITHOUT_DEFAULTS, busy, runners, until
from tests.running import RunningServer, running

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    folder = tmp_path_factory.mktemp("runners") / "data"
    patience = {"ATRIUM_LIMITS__TOKEN_TIMEOUT": "1s", "ATRIUM_MODELS__HANG_TIMEOUT": "1s"}
    with running(folder, **patience, **WITHOUT_DEFAULTS) as server:
        faults = (
            "hang?fault=hang@5",
            "nonsense?fault=nonsense@5",
            "drop?fault=drop@5",
            "frozen?pace=20ms",
            "slow?pace=20ms",
        )
        server.install(*(f"fake:{fault}" for fault in faults))
        yield server


def asked(model: str, most: int, **more: Any) -> dict[str, Any]:
    return {**SLOW, "model": model, "max_tokens": most, **more}


def read_until_broken(client: httpx2.Client, body: dict[str, Any]) -> list[str]:
    """The data lines of a stream that must break."""
    lines: list[str] = []
    with client.stream("POST", CHAT, json=body) as answer, pytest.raises(httpx2.RemoteProtocolError):
        lines.extend(line for line in answer.iter_lines() if line.startswith("data: "))
    return lines


def pid_of(client: httpx2.Client, model: str) -> int:
    return next(one["pid"] for one in client.get("/api/admin/runners").json() if one["model"] == model)


@pytest.mark.parametrize("model", ["hang", "nonsense", "drop"])
def test_a_broken_answer_is_a_visible_break_and_the_next_is_whole(house: RunningServer, model: str) -> None:
    with house.client() as client:
        lines = read_until_broken(client, asked(model, 20))
        assert "error" in json.loads(lines[-1].removeprefix("data: "))
        assert not any("[DONE]" in line for line in lines)
        until(lambda: busy(client, model) == 0)
        whole = client.post(CHAT, json=asked(model, 3, stream=False))
        assert whole.status_code == 200
        assert whole.json()["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("model", ["hang", "nonsense"])
def test_an_answer_that_is_not_streamed_is_an_error_with_its_reason(house: RunningServer, model: str) -> None:
    with house.client() as client:
        answer = client.post(CHAT, json=asked(model, 20, stream=False))
        assert answer.status_code in (502, 504)
        assert answer.json()["error"]["message"]


def test_a_runner_that_talks_nonsense_serves_nobody_else(house: RunningServer) -> None:
    with house.client() as client:
        assert client.post(CHAT, json=asked("nonsense", 3, stream=False)).status_code == 200
        first = pid_of(client, "nonsense")
        read_until_broken(client, asked("nonsense", 20))
        assert client.post(CHAT, json=asked("nonsense", 3, stream=False)).status_code == 200
        assert pid_of(client, "nonsense") != first


def test_a_frozen_runner_is_noticed_while_nobody_asks(house: RunningServer) -> None:
    with house.client() as client:
        assert client.post(CHAT, json=asked("frozen", 3, stream=False)).status_code == 200
        frozen = psutil.Process(pid_of(client, "frozen"))
        frozen.suspend()
        until(lambda: not frozen.is_running(), 20)
        assert client.post(CHAT, json=asked("frozen", 3, stream=False)).status_code == 200


def test_a_server_that_was_stopped_for_a_while_breaks_no_answer(house: RunningServer) -> None:
    """As on a machine that was suspended: the clock has jumped over every deadline when it goes on."""
    with house.client() as client, client.stream("POST", CHAT, json=asked("slow", 150)) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        (runner,) = (one for one in runners(house) if "fake:slow" in " ".join(one.cmdline()))
        os.kill(house.process.pid, signal.SIGSTOP)
        try:
            # The runner goes on alone, for longer than a token may take, and is done with its answer.
            until(lambda: not any(one.status == "ESTABLISHED" for one in runner.net_connections("unix")), 30)
        finally:
            os.kill(house.process.pid, signal.SIGCONT)
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert sum('"content":' in line for line in rest) >= 100
