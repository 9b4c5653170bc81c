"""What became of a request that a model on this machine answered: the record, the command, the metrics."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.test_bad_weather import WITHOUT_DEFAULTS, metric
from tests.running import RunningServer, command, running

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """A house with room for one of two models, and a small third."""
    folder = tmp_path_factory.mktemp("sight") / "data"
    with running(folder, ATRIUM_MODELS__MEMORY="100MB", **WITHOUT_DEFAULTS) as server:
        sizes = "size=70MB&slots=1&pace=1ms"
        server.install(f"fake:first?{sizes}", f"fake:second?{sizes}", "fake:vectors?size=20MB&ability=embedding")
        yield server


def asked(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **more}


def explained(client: httpx2.Client, request_id: str) -> dict[str, Any]:
    answer = client.get(f"/api/admin/requests/{request_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_local_answer_is_explained_with_its_load_slot_and_speed(house: RunningServer) -> None:
    with house.client() as client:
        client.post(CHAT, json=asked("first"), headers={"X-Request-ID": "warm"})
        client.post(CHAT, json=asked("second", service_tier="auto"), headers={"X-Request-ID": "why"})
        record = explained(client, "why")
        assert (record["model"], record["caller"], record["routing"]) == ("second", "admin", ["local"])
        assert record["evicted"] == ["first"]
        assert record["loaded"] > 0
        assert record["slot"] == 0
        assert record["completion_tokens"] == 5
        assert record["tokens_per_second"] > 0
        assert record["dropped"] == "service_tier"
        assert record["error"] == ""
        again = client.post(CHAT, json=asked("second"), headers={"X-Request-ID": "again"})
        assert again.status_code == 200
        assert explained(client, "again")["evicted"] == []
        assert client.get("/api/admin/requests?limit=1").json()[0]["id"] == "again"
        assert metric(client, 'atrium_evictions_total{model="first"}') == 1
        assert metric(client, 'atrium_load_seconds_count{model="second"}') == 1
        assert metric(client, 'atrium_tokens_per_second_count{model="second",phase="generation"}') == 2
    told = command(house.data_dir, "explain", "why")
    assert told.returncode == 0, told.stderr
    assert "'second' on this machine, slot 0" in told.stdout
    assert "'first' had to leave for it" in told.stdout
    assert "not honoured: service_tier" in told.stdout


def test_waits_for_a_slot_are_measured(house: RunningServer) -> None:
    names = ["queue-1", "queue-2", "queue-3"]
    count, seconds = 'atrium_queue_seconds_count{model="second"}', 'atrium_queue_seconds_sum{model="second"}'
    with house.client() as client, ThreadPoolExecutor(3) as pool:

        def ask(name: str) -> int:
            return client.post(CHAT, json=asked("second", max_tokens=50), headers={"X-Request-ID": name}).status_code

        ask("warm-up")
        before = metric(client, count), metric(client, seconds)
        assert list(pool.map(ask, names)) == [200] * 3
        waited = [explained(client, name)["waited"] for name in names]
        assert metric(client, count) - before[0] == 3
        assert metric(client, seconds) - before[1] == pytest.approx(sum(waited), abs=1e-3)
        assert max(waited) > 0, "there is one slot"


def test_a_client_that_left_is_explained_with_its_waits(house: RunningServer) -> None:
    body = asked("first", max_tokens=5000, stream=True)
    with house.client() as client:
        with client.stream("POST", CHAT, json=body, headers={"X-Request-ID": "left"}) as answer:
            assert next(answer.iter_lines())
        while client.get("/api/admin/requests/left").status_code != 200:
            continue
        record = explained(client, "left")
        assert "left" in record["broken"]
        assert record["loaded"] > 0


def test_a_refusal_is_explained(house: RunningServer) -> None:
    with house.client() as client:
        client.post(CHAT, json=asked("first", temperature=9), headers={"X-Request-ID": "bad"})
        client.post(CHAT, json=asked("nobody"), headers={"X-Request-ID": "unknown"})
        assert "temperature" in explained(client, "bad")["error"]
        assert explained(client, "unknown")["status"] == 404
    assert "refused: " in command(house.data_dir, "explain", "unknown").stdout


def test_embeddings_and_other_dialects_are_explained_too(house: RunningServer) -> None:
    with house.client() as client:
        client.post("/v1/embeddings", json={"model": "vectors", "input": "x"}, headers={"X-Request-ID": "vectors"})
        assert explained(client, "vectors")["loaded"] > 0
        client.post("/api/chat", json={**asked("second"), "stream": False}, headers={"X-Request-ID": "ollama"})
        record = explained(client, "ollama")
        assert (record["model"], record["slot"]) == ("second", 0)


def test_top_shows_local_models(house: RunningServer) -> None:
    with house.client() as client:
        assert client.post(CHAT, json=asked("second")).status_code == 200
    shown = command(house.data_dir, "top", "--once", COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    (row,) = (line for line in shown.stdout.splitlines() if "second" in line and "ready" in line)
    assert "0/1" in row
    assert "local" in shown.stdout


def test_a_house_without_room_says_so(tmp_path: Path) -> None:
    with running(tmp_path / "data", ATRIUM_MODELS__MEMORY="10MB", **WITHOUT_DEFAULTS) as server:
        server.install("fake:large?size=70MB")
        with server.client() as client:
            refused = client.post(CHAT, json=asked("large"), headers={"X-Request-ID": "large"})
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "insufficient_memory"
            assert "70 MiB" in explained(client, "large")["error"]
            assert metric(client, 'atrium_model_refusals_total{model="large",why="memory"}') == 1
