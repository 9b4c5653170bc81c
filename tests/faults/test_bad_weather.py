"""Processes die, clients leave, folders are shared, ports are taken: the server says so and goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.running import ATRIUM, RunningServer, command, environment, running

SLOW: dict[str, Any] = {
    "model": "slow",
    "messages": [{"role": "user", "content": "go on for long"}],
    "max_tokens": 3000,
    "stream": True,
}
WITHOUT_DEFAULTS = {"ATRIUM_MODELS__INSTALL_DEFAULTS": "false", "ATRIUM_MODELS__ALLOW_FAKE": "true"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@contextmanager
def of_fakes(folder: Path) -> Generator[RunningServer]:
    """A server of fake models: `slow` takes its time, `crash` dies after five tokens."""
    with running(folder, **WITHOUT_DEFAULTS) as server:
        server.install("fake:slow?pace=20ms", "fake:crash?fault=crash@5", "fake:asleep?load=2s")
        yield server


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """For those who leave the server running."""
    with of_fakes(tmp_path_factory.mktemp("fakes") / "data") as server:
        yield server


@pytest.fixture
def doomed(folder: Path) -> Generator[RunningServer]:
    """For those who end it."""
    with of_fakes(folder) as server:
        yield server


def runners(server: RunningServer) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def metric(client: httpx2.Client, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def until(met: Callable[[], bool], seconds: float = 10.0) -> None:
    """Ask again until it holds; each question is itself a wait for an answer."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "did not come about"


def busy(client: httpx2.Client, model: str) -> int:
    statuses = client.get("/api/admin/runners").json()
    return sum(s["busy"] for s in statuses if s["model"] == model)


def test_a_client_that_leaves_in_mid_stream_frees_the_slot(fakes: RunningServer) -> None:
    with fakes.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=SLOW) as answer:
            lines = answer.iter_lines()
            assert next(lines)
            assert busy(client, "slow") == 1
        until(lambda: busy(client, "slow") == 0)


def test_a_client_that_never_reads_does_not_keep_its_slot(folder: Path) -> None:
    body = json.dumps({**SLOW, "model": "fast", "max_tokens": 30_000, "logprobs": True, "top_logprobs": 10}).encode()
    with running(folder, ATRIUM_LIMITS__IDLE_TIMEOUT="500ms", **WITHOUT_DEFAULTS) as server:
        server.install("fake:fast?context=200000&words=100000")
        host, port = server.url.removeprefix("http://").split(":")
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {server.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with server.client() as client, socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((host, int(port)))
            deaf.sendall(head.encode() + body)
            until(lambda: busy(client, "fast") == 1)
            until(lambda: busy(client, "fast") == 0)
            until(lambda: '"broken":"The client left' in (folder.parent / "server.log").read_text())


def test_a_client_that_leaves_before_the_load_begins_causes_none(fakes: RunningServer) -> None:
    with fakes.client(timeout=0.3) as client, pytest.raises(httpx2.ReadTimeout):
        client.post("/v1/chat/completions", json={**SLOW, "model": "asleep"})
    with fakes.client() as client:
        until(lambda: not any(s["busy"] or s["waiting"] for s in client.get("/api/admin/runners").json()))


def test_a_runner_that_dies_in_mid_answer_is_a_visible_break(fakes: RunningServer) -> None:
    body = {**SLOW, "model": "crash", "max_tokens": 20}
    with fakes.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines: list[str] = []
            with pytest.raises(httpx2.RemoteProtocolError):
                lines.extend(answer.iter_lines())
        lines = [line for line in lines if line.startswith("data: ")]
        assert all("[DONE]" not in line for line in lines)
        assert client.post("/v1/chat/completions", json={**body, "max_tokens": 3, "stream": False}).status_code == 200


def test_a_broken_stream_ends_with_an_error_event_and_no_done(fakes: RunningServer) -> None:
    body = json.dumps({**SLOW, "model": "crash", "max_tokens": 20}).encode()
    host, port = fakes.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {fakes.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(head.encode() + body)
        received = b"".join(iter(lambda: wire.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200")
    last = [line for line in received.split(b"\n") if line.startswith(b"data: ")][-1]
    assert json.loads(last[6:])["error"]["type"] == "upstream_error"
    assert b"[DONE]" not in received
    assert not received.endswith(b"0\r\n\r\n")


def test_a_runner_killed_between_answers_is_replaced(fakes: RunningServer) -> None:
    body = {**SLOW, "max_tokens": 3, "stream": False}
    with fakes.client() as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        for child in runners(fakes):
            child.kill()
        assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_a_killed_server_leaves_no_runner_and_starts_again(doomed: RunningServer, folder: Path) -> None:
    with doomed.client() as client:
        assert client.post("/v1/chat/completions", json={**SLOW, "max_tokens": 3, "stream": False}).status_code == 200
    children = runners(doomed)
    assert children
    doomed.stop(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    with running(folder, key=doomed.key, **WITHOUT_DEFAULTS) as again, again.client() as client:
        assert client.post("/v1/chat/completions", json={**SLOW, "max_tokens": 3, "stream": False}).status_code == 200


def test_a_stop_lets_a_running_answer_end(doomed: RunningServer) -> None:
    body = {**SLOW, "max_tokens": 50}
    with doomed.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        doomed.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert doomed.process.wait(20) == 0


def test_a_second_server_on_the_same_folder_is_refused(fakes: RunningServer) -> None:
    second = command(fakes.data_dir, "serve", "--port", "0", **WITHOUT_DEFAULTS)
    assert second.returncode == 1
    assert str(fakes.data_dir) in second.stderr
    assert "Traceback" not in second.stderr


def test_a_port_in_use_is_named(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = command(folder, "serve", "--port", str(port), **WITHOUT_DEFAULTS)
    assert refused.returncode == 1
    assert str(port) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_database_of_a_newer_version_is_left_alone(folder: Path) -> None:
    with running(folder, **WITHOUT_DEFAULTS) as server:
        assert server.stop() == 0
    with closing(sqlite3.connect(folder / "atrium.db")) as database:
        (known,) = database.execute("select version_num from alembic_version").fetchone()
        database.execute("update alembic_version set version_num = '9999'")
        database.commit()
    refused = command(folder, "serve", "--port", "0", **WITHOUT_DEFAULTS)
    assert refused.returncode == 1
    assert "9999" in refused.stderr
    assert known in refused.stderr


def test_a_disk_that_is_full_fails_the_install_and_a_later_one_succeeds(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test mounts a small tmpfs and needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(small)], check=True)
    try:
        folder = small / "data"
        failed = command(folder, "models", "install", "smollm2-135m-instruct")
        assert failed.returncode == 1
        assert "space" in failed.stderr.lower()
        assert "smollm2" not in command(folder, "models", "list", "--json").stdout
        subprocess.run(["mount", "-o", "remount,size=800m", str(small)], check=True)
        again = command(folder, "models", "install", "smollm2-135m-instruct")
        assert again.returncode == 0, again.stderr
        assert "smollm2-135m-instruct" in command(folder, "models", "list", "--json").stdout
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_an_install_killed_in_the_middle_is_finished_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    words = (*ATRIUM, "models", "install", "smollm2-135m-instruct", "--data-dir", str(folder))
    first = subprocess.Popen(
        words, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert first.stderr is not None
    assert first.stderr.readline()
    first.kill()
    first.wait()
    first.stderr.close()
    listed = json.loads(command(folder, "models", "list", "--json").stdout)
    assert listed["installed"] == listed["installing"] == []
    again = command(folder, "models", "install", "smollm2-135m-instruct")
    assert again.returncode == 0, again.stderr
    assert "smollm2-135m-instruct" in command(folder, "models", "list", "--json").stdout
