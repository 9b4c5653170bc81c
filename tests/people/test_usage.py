"""What was used, told to callers and administrators. Contract `lollms.md`, section 11."""

from __future__ import annotations

import csv
import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.fakes import Fake, gateway
from tests.people.conftest import anonymous, new_user
from tests.running import RunningServer, command

CHAT: dict[str, Any] = {"model": "m1", "messages": [{"role": "user", "content": "hello"}]}


def key_of(server: RunningServer, name: str, alias: str = "k") -> str:
    with server.client() as admin:
        return admin.post("/api/admin/keys", json={"username": name, "alias": alias}).json()["full_key"]


def test_every_request_is_told_to_its_caller_and_to_administrators(house: RunningServer) -> None:
    for name in ("uma", "vic"):
        new_user(house, name)
    with house.client(key=key_of(house, "uma")) as uma, house.client(key=key_of(house, "vic")) as vic:
        tokens = 0
        for model in ("m1", "m1", "m2"):
            answer = uma.post("/v1/chat/completions", json={**CHAT, "model": model})
            tokens += answer.json()["usage"]["total_tokens"]
        uma.post("/v1/chat/completions", json={**CHAT, "model": "nope"})
        uma.get("/v1/models")
        vic.post("/olla/openai/v1/chat/completions", json=CHAT).raise_for_status()
        own = uma.get("/api/usage", params={"step": "hour"}).json()
        assert own["totals"]["requests"] == 4
        assert own["totals"]["failures"] == 1
        assert own["totals"]["total_tokens"] == tokens
        assert {share["model"]: share["requests"] for share in own["models"] if share["model"] in ("m1", "m2")} == {
            "m1": 2,
            "m2": 1,
        }
        assert sum(step["requests"] for step in own["series"]) == 4
        assert [share["alias"] for share in own["keys"]] == ["k"]
        assert "users" not in own
        assert [share["door"] for share in vic.get("/api/usage").json()["doors"]] == ["gateway"]
        assert vic.get("/api/admin/usage").status_code == 403
    with house.client() as admin:
        everybodys = admin.get("/api/admin/usage").json()
        shares = {share["username"]: share["requests"] for share in everybodys["users"]}
        assert (shares["uma"], shares["vic"]) == (4, 1)
        one = admin.get("/api/admin/usage", params={"user": "UMA"}).json()
        assert one["totals"] == own["totals"]
        assert admin.get("/api/admin/usage", params={"user": "nobody-here"}).status_code == 404


def test_usage_comes_as_csv(house: RunningServer) -> None:
    new_user(house, "wes")
    with house.client(key=key_of(house, "wes")) as wes:
        wes.post("/v1/chat/completions", json=CHAT).raise_for_status()
        wes.post("/v1/chat/completions", json={**CHAT, "model": "=1+1"})
    with house.client() as admin:
        answer = admin.get("/api/admin/usage", params={"format": "csv", "user": "wes"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["user"] for row in rows} == {"wes"}
    assert sum(int(row["requests"]) for row in rows) == 2
    assert not any(cell.startswith("=") for row in rows for cell in row.values())


def test_usage_is_told_of_one_key_and_of_one_model(house: RunningServer) -> None:
    new_user(house, "yan")
    keys = {alias: key_of(house, "yan", alias) for alias in ("first", "second")}
    for key, model in ((keys["first"], "m1"), (keys["first"], "m2"), (keys["second"], "m2")):
        with house.client(key=key) as client:
            client.post("/v1/chat/completions", json={**CHAT, "model": model}).raise_for_status()
    with house.client() as admin, house.client(key=keys["first"]) as yan:
        listed = admin.get("/api/admin/keys", params={"user": "yan"}).json()
        first = next(key["id"] for key in listed if key["alias"] == "first")
        for client, path in ((admin, "/api/admin/usage"), (yan, "/api/usage")):
            totals: list[int] = []
            for query in ({"key_id": first}, {"model": "m2"}, {"key_id": first, "model": "m2"}, {"model": "m\0"}):
                whose = {"user": "yan"} if client is admin else {}
                told = client.get(path, params={**query, **whose})
                assert told.status_code == 200, told.text
                totals.append(told.json()["totals"]["requests"])
            assert totals == [2, 2, 1, 0]
        rows = list(csv.DictReader(io.StringIO(yan.get("/api/usage", params={"format": "csv"}).text)))
    assert {(row["user"], row["model"]) for row in rows} == {("yan", "m1"), ("yan", "m2")}


def test_hours_are_whole_and_of_utc_however_the_zone_is_written(house: RunningServer) -> None:
    with house.client() as admin:
        span = {"since": "2026-03-29T01:30:00+01:00", "until": "2026-03-29T04:30:00+02:00", "step": "hour"}
        told = admin.get("/api/admin/usage", params=span).json()
        assert (told["since"], told["until"]) == ("2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z")
        today = admin.get("/api/admin/usage", params={"days": 1}).json()
        assert today["since"].endswith("T00:00:00Z")
        day = admin.get("/api/admin/usage", params={"days": 2, "until": "2026-03-30"}).json()
        assert (day["since"], day["until"]) == ("2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z")


def test_the_command_shows_usage_as_tables_csv_and_json(house: RunningServer) -> None:
    new_user(house, "zuri")
    with house.client(key=key_of(house, "zuri")) as zuri:
        zuri.post("/v1/chat/completions", json=CHAT).raise_for_status()
        zuri.post("/v1/chat/completions", json={**CHAT, "model": "nope"})

    def said(*words: str) -> str:
        done = command(house.data_dir, "usage", "--user", "zuri", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    table = said("--days", "1", "--step", "hour")
    assert [line.split()[:3] for line in table.splitlines() if line.startswith(("zuri", "k of", "m1"))] == [
        ["zuri", "2", "1"],
        ["k", "of", "zuri"],
        ["m1", "1", "0"],
    ]
    told = json.loads(said("--json", "--model", "m1", "--since", "2h"))
    assert (told["totals"]["requests"], [share["username"] for share in told["users"]]) == (1, ["zuri"])
    rows = list(csv.DictReader(io.StringIO(said("--csv", "--key", told["keys"][0]["key_prefix"]))))
    assert sum(int(row["requests"]) for row in rows) == 2
    assert "Nothing was used" in said("--until", "2020-01-01", "--since", "2019-01-01")
    for words, says in (
        (("--csv", "--json"), "one of"),
        (("--since", "soon"), "since"),
        (("--user", "nobody"), "nobody"),
    ):
        done = command(house.data_dir, "usage", *words)
        assert done.returncode == 1
        assert says in done.stderr


@pytest.mark.parametrize(
    "query",
    [
        {"days": "0"},
        {"step": "minute"},
        {"since": "soon"},
        {"since": "2040-01-01T00:00:00Z"},
        {"days": "x"},
        {"key_id": "1" + "0" * 30},
        {"until": "9999-12-31T23:30:00Z"},
    ],
)
def test_a_span_that_is_none_is_refused(house: RunningServer, query: dict[str, str]) -> None:
    with house.client() as admin:
        answer = admin.get("/api/admin/usage", params=query)
        assert answer.status_code == 422
        assert answer.json()["error"]["param"] in query
        long = {"since": "0001-01-01T00:00:00+23:00", "step": "hour"}
        assert admin.get("/api/admin/usage", params=long).status_code == 422


def test_the_dashboard_counts_hits_by_door_until_it_is_reset(tmp_path: Path) -> None:
    rules = {"auth": {"services": {"ollama": {"require_key": False}, "lollms": {"enabled": False}}}}
    with gateway(tmp_path, [Fake("alpha", models=("m1",))], more=rules) as server, server.client() as admin:
        new_user(server, "xia")
        with server.client(key=key_of(server, "xia")) as xia, anonymous(server) as nobody:
            xia.post("/v1/chat/completions", json=CHAT).raise_for_status()
            xia.get("/v1/models").raise_for_status()
            assert nobody.get("/ollama/v1/models").status_code == 200
            assert xia.get("/lollms/v1/rag/databases").status_code == 403
            assert xia.get("/api/admin/services/dashboard").status_code == 403
        admin.get("/v1/models").raise_for_status()
        told = admin.get("/api/admin/services/dashboard").json()
        assert told["usage"]["openai"]["total_hits"] == 3
        assert told["usage"]["openai"]["user_count"] == 2
        assert told["usage"]["openai"]["users"][0]["username"] == "xia"
        assert told["usage"]["ollama"]["users"][0]["username"] == "anonymous"
        assert told["settings"] == {
            "openai_api_service_enabled": True,
            "openai_api_require_key": True,
            "ollama_service_enabled": True,
            "ollama_require_key": False,
            "lollms_services_enabled": False,
            "lollms_services_require_key": True,
            "rate_limit_enabled": False,
            "rate_limit_max_requests": 0,
            "rate_limit_window_seconds": 60,
        }
        assert admin.post("/api/admin/services/reset-usage").json()["message"]
        assert admin.get("/api/admin/services/dashboard").json()["usage"]["openai"]["total_hits"] == 0
        assert admin.get("/api/admin/usage").json()["totals"]["requests"] == 1


def test_a_stop_loses_no_usage(tmp_path: Path) -> None:
    fake = Fake("alpha", models=("m1",))
    with gateway(tmp_path, [fake]) as server:
        with server.client() as client:
            for _ in range(5):
                client.post("/v1/chat/completions", json=CHAT).raise_for_status()
        key = server.key
        assert server.stop(signal.SIGTERM) == 0
    with gateway(tmp_path, [fake], key=key) as server, server.client() as client:
        assert client.get("/api/usage").json()["totals"]["requests"] == 5
