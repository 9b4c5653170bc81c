"""A user's own account. Contract `lollms.md`, sections 1.1 to 1.3 and 2."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from tests.gateway.fakes import gateway
from tests.people.conftest import PASSWORD, anonymous, log_in, new_user, token_of
from tests.running import KEY, RunningServer, command

CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hello"}]}


def test_a_login_gives_a_token_and_a_cookie_that_scripts_cannot_read(house: RunningServer) -> None:
    new_user(house, "ann")
    answer = log_in(house, "ANN")
    assert answer.json()["token_type"] == "bearer"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    with house.client(key=answer.json()["access_token"]) as client:
        me = client.get("/api/auth/me").json()
    assert me["username"] == "ann"
    assert set(me) == {"id", "username", "is_admin", "is_active", "created_at"}
    with anonymous(house) as browser:
        browser.cookies.set("atrium_session", answer.json()["access_token"])
        assert browser.get("/api/auth/me").json() == me
        assert browser.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_session_is_dead_after_logout_and_its_token_is_stored_nowhere(house: RunningServer) -> None:
    new_user(house, "leaver")
    token = token_of(house, "leaver")
    stored = b"".join(path.read_bytes() for path in house.data_dir.glob("atrium.db*"))
    assert token.encode() not in stored
    with house.client(key=token) as client:
        assert client.get("/v1/models").status_code == 200
        out = client.post("/api/auth/logout")
        assert out.status_code == 200
        assert "max-age=0" in out.headers["set-cookie"].lower()
        after = client.get("/api/auth/me")
    assert after.status_code == 401
    assert after.headers["www-authenticate"] == "Bearer"
    assert after.json()["detail"] == after.json()["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Origin": "HERE"}, 201),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "HERE"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "HERE"}, 201),
    ],
)
def test_a_cookie_counts_for_changes_from_our_own_pages_only(
    house: RunningServer, headers: dict[str, str], status: int
) -> None:
    name = f"b{abs(hash(tuple(headers.items())))}"
    new_user(house, name)
    sent = {key: house.url if value == "HERE" else value for key, value in headers.items()}
    with anonymous(house) as browser:
        browser.cookies.set("atrium_session", token_of(house, name))
        assert browser.post("/api/api-keys", json={"alias": "web"}, headers=sent).status_code == status
        assert browser.get("/api/api-keys", headers=sent).status_code == 200


def test_a_login_that_another_page_sends_sets_no_cookie(house: RunningServer) -> None:
    new_user(house, "lured")
    with anonymous(house) as browser:
        form = {"username": "lured", "password": PASSWORD}
        answer = browser.post("/api/auth/token", data=form, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers


def test_a_wrong_name_and_a_wrong_password_are_told_alike(house: RunningServer) -> None:
    new_user(house, "carl")
    with house.client() as client:
        client.post("/api/admin/users", json={"username": "keys-only"}).raise_for_status()
    answers = [log_in(house, name, "not the password") for name in ("carl", "keys-only", "no-such", "\x00", "x" * 500)]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["detail"] for answer in answers}) == 1


def test_guessing_is_slowed_for_known_and_unknown_names_alike(tmp_path: Path) -> None:
    with gateway(tmp_path, []) as server:
        new_user(server, "dora")
        for name in ("dora", "nobody"):
            answers = guesses(server, [name] * 7)
            assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
            assert int(answers[-1].headers["retry-after"]) >= 1
            assert answers[-1].json()["error"]["type"] == "rate_limit_exceeded"
        others = guesses(server, [f"name{n}" for n in range(12)])
        assert [answer.status_code for answer in others] == [401] * 10 + [429] * 2


def guesses(server: RunningServer, names: list[str]) -> list[httpx2.Response]:
    """All at once, since each that is taken costs a slow hash; those that were refused last."""
    with ThreadPoolExecutor(len(names)) as pool:
        asked = [pool.submit(log_in, server, name, "wrong") for name in names]
        return sorted((one.result() for one in asked), key=lambda answer: answer.status_code)


def test_a_changed_password_ends_the_other_sessions(house: RunningServer) -> None:
    new_user(house, "eve")
    here, there = token_of(house, "eve"), token_of(house, "eve")
    change = {"current_password": PASSWORD, "new_password": "another good one"}
    with house.client(key=here) as client, house.client(key=there) as other:
        assert other.get("/api/auth/me").status_code == 200
        wrong = client.post("/api/auth/change-password", json={**change, "current_password": "nope"})
        short = client.post("/api/auth/change-password", json={**change, "new_password": "short"})
        half = client.post(
            "/api/auth/change-password",
            content=b'{"current_password": "\\ud800", "new_password": "x"}',
            headers={"Content-Type": "application/json"},
        )
        assert (wrong.status_code, short.status_code, half.status_code) == (403, 422, 403)
        assert client.post("/api/auth/change-password", json=change).status_code == 200
        assert client.get("/api/auth/me").status_code == 200
        assert other.get("/api/auth/me").status_code == 401
    assert log_in(house, "eve").status_code == 401
    assert log_in(house, "eve", "another good one").status_code == 200


@pytest.mark.parametrize("change", [{"password": "set by an admin"}, {"is_active": False}, None])
def test_an_admin_ends_sessions_by_reset_deactivation_and_deletion(
    house: RunningServer, change: dict[str, object] | None
) -> None:
    name = f"f{len(str(change))}"
    number = new_user(house, name)
    token = token_of(house, name)
    with house.client(key=token) as user, house.client() as admin:
        key = user.post("/api/api-keys", json={"alias": "k"}).json()["full_key"]
        assert user.get("/v1/models").status_code == 200
        if change is None:
            assert admin.delete(f"/api/admin/users/{number}").status_code == 204
        else:
            assert admin.put(f"/api/admin/users/{number}", json=change).status_code == 200
        assert user.get("/api/auth/me").status_code == 401
        with house.client(key=key) as by_key:
            assert by_key.get("/v1/models").status_code == (200 if change and "password" in change else 401)
        if change == {"is_active": False}:
            assert log_in(house, name).status_code == 401
            admin.put(f"/api/admin/users/{number}", json={"is_active": True}).raise_for_status()
            assert user.get("/api/auth/me").status_code == 401


def test_a_key_is_made_shown_once_listed_used_and_revoked(house: RunningServer) -> None:
    new_user(house, "gus")
    with house.client(key=token_of(house, "gus")) as client:
        made = client.post("/api/api-keys", json={"alias": "  laptop "})
        assert made.status_code == 201
        key = made.json()
        assert key["alias"] == "laptop"
        assert made.headers["cache-control"] == "no-store"
        assert KEY.fullmatch(key["full_key"])
        assert key["full_key"].startswith(key["key_prefix"] + "_")
        (listed,) = client.get("/api/api-keys").json()
        assert "full_key" not in listed
        assert {"id", "alias", "key_prefix", "created_at", "last_used_at"} <= set(listed)
        assert listed["last_used_at"] is None
        with house.client(key=key["full_key"]) as own:
            assert own.post("/v1/chat/completions", json=CHAT).status_code == 200
            assert own.get("/api/api-keys").json()[0]["last_used_at"] is not None
            assert own.post("/api/api-keys", json={"alias": "second"}).status_code == 201
            assert client.post("/api/api-keys", json={"alias": "laptop"}).status_code == 409
            assert client.delete(f"/api/api-keys/{key['id']}").status_code == 204
            assert own.get("/v1/models").status_code == 401
            assert own.post("/v1/chat/completions", json=CHAT).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"alias": ""}, 422),
        ({"alias": "   "}, 422),
        ({"alias": "x" * 101}, 422),
        ({"alias": 5}, 422),
        ({}, 422),
        ({"alias": "a\x00b"}, 422),
        ({"alias": "late", "expires_at": "2020-01-01T00:00:00Z"}, 422),
        ({"alias": "odd", "expires_at": "soon"}, 422),
        ({"alias": "edge", "expires_at": "9999-12-31T23:59:59-23:00"}, 422),
        ({"alias": "early", "expires_at": "0001-01-01T00:00:00+23:00"}, 422),
        ({"alias": "wide", "models": [""]}, 422),
        ({"alias": "long", "models": ["x"] * 65}, 422),
        ("{", 400),
    ],
)
def test_what_is_wrong_with_a_key_is_named(house: RunningServer, body: dict[str, object] | str, status: int) -> None:
    kind = {"Content-Type": "application/json"}
    with house.client() as client:
        if isinstance(body, str):
            answer = client.post("/api/api-keys", content=body, headers=kind)
        else:
            answer = client.post("/api/api-keys", json=body)
    assert answer.status_code == status
    assert answer.json()["detail"]
    if status == 422:
        assert answer.json()["error"]["param"].split(".")[0] in {"alias", "expires_at", "models"}


def test_keys_of_others_are_neither_seen_nor_revoked(house: RunningServer) -> None:
    for name in ("hal", "ida"):
        new_user(house, name)
    with house.client(key=token_of(house, "hal")) as hal, house.client(key=token_of(house, "ida")) as ida:
        keys = [hal.post("/api/api-keys", json={"alias": f"k{n}"}).json()["id"] for n in range(3)]
        mine = ida.post("/api/api-keys", json={"alias": "k0"}).json()["id"]
        assert [key["id"] for key in ida.get("/api/api-keys").json()] == [mine]
        for number in (keys[0], 10**6, 10**30, 0):
            assert ida.delete(f"/api/api-keys/{number}").status_code == 404
        assert ida.delete("/api/api-keys/x").status_code == 422
        many = ida.request("DELETE", "/api/api-keys", json={"key_ids": [*keys, mine, 10**30, -1]})
        assert many.json()["deleted"] == 1
        assert hal.request("DELETE", "/api/api-keys", json={"key_ids": keys[:2]}).json()["deleted"] == 2
        assert len(hal.get("/api/api-keys").json()) == 1


def test_a_key_ends_when_it_said_and_makes_none_that_outlives_it(house: RunningServer) -> None:
    new_user(house, "jan")
    with house.client(key=token_of(house, "jan")) as client:
        end = datetime.now(UTC) + timedelta(hours=1)
        key = client.post("/api/api-keys", json={"alias": "short", "expires_at": end.isoformat()}).json()
        with house.client(key=key["full_key"]) as own:
            child = own.post("/api/api-keys", json={"alias": "child"}).json()
        assert child["expires_at"] == key["expires_at"]


def test_a_stranger_signs_up_only_where_that_is_open(house: RunningServer, tmp_path: Path) -> None:
    new = {"username": "kim", "password": PASSWORD, "email": "kim@example.org"}
    with anonymous(house) as stranger:
        made = stranger.post("/api/auth/register", json=new)
        assert made.status_code == 201
        assert made.json()["is_admin"] is False
        assert stranger.post("/api/auth/register", json=new).status_code == 409
        assert stranger.post("/api/auth/register", json={**new, "username": "a b"}).status_code == 422
        assert stranger.post("/api/auth/register", json={"username": "l"}).status_code == 422
        assert stranger.post("/api/auth/register", content=b"{").status_code == 400
    assert log_in(house, "kim").status_code == 200
    with gateway(tmp_path, []) as closed, anonymous(closed) as stranger:
        assert stranger.post("/api/auth/register", json=new).status_code == 403


def test_nobody_logs_in_before_a_password_is_set_and_a_changed_one_is_not_healed(tmp_path: Path) -> None:
    env = {"ATRIUM_ADMIN_PASSWORD": "from the environment"}
    with gateway(tmp_path, []) as server:
        assert log_in(server, "admin", "admin").status_code == 401
        key = server.key
    with gateway(tmp_path, [], env=env, key=key) as server:
        token = log_in(server, "admin", "from the environment").json()["access_token"]
        change = {"current_password": "from the environment", "new_password": "my very own"}
        with server.client(key=token) as client:
            assert client.post("/api/auth/change-password", json=change).status_code == 200
        assert log_in(server, "admin", "from the environment").status_code == 401
        done = command(server.data_dir, "users", "password", "admin", "--password", "by a command")
        assert done.returncode == 0
        assert log_in(server, "admin", "by a command").status_code == 200


def test_the_last_administrator_stays_and_ids_that_are_none_are_404(house: RunningServer) -> None:
    with house.client() as client:
        (admin,) = [user for user in client.get("/api/admin/users").json() if user["is_admin"]]
        where = f"/api/admin/users/{admin['id']}"
        assert client.put(where, json={"is_active": False}).status_code == 409
        assert client.put(where, json={"is_admin": False}).status_code == 409
        assert client.delete(where).status_code == 409
        for number in (0, 10**6, 10**30):
            assert client.put(f"/api/admin/users/{number}", json={"is_active": True}).status_code == 404
            assert client.delete(f"/api/admin/users/{number}").status_code == 404
            assert client.delete(f"/api/admin/keys/{number}").status_code == 404


def test_what_is_changed_is_written_down_with_who_and_from_where(house: RunningServer) -> None:
    number = new_user(house, "lea")
    done = command(house.data_dir, "keys", "create", "--user", "lea", "--alias", "cli", "--model", "m*")
    assert done.returncode == 0, done.stderr
    with house.client() as client:
        client.put(f"/api/admin/users/{number}", json={"password": "reset by admin"}).raise_for_status()
        assert client.put(f"/api/admin/users/{number}", json={"password": "x"}).status_code == 422
        reset, keyed, made = client.get("/api/admin/audit", params={"limit": 3}).json()
        older = client.get("/api/admin/audit", params={"limit": 1, "before": keyed["id"]}).json()
    assert older == [made]
    assert made["action"] == "POST /api/admin/users"
    assert (made["actor"], made["address"], made["detail"]) == ("admin", "127.0.0.1", "user lea")
    assert keyed["actor"] == "control socket"
    assert reset["action"] == f"PUT /api/admin/users/{number}"
    assert reset["detail"] == "user lea: password"
    assert "reset by admin" not in str(reset)
    with house.client(key=token_of_reset(house)) as user:
        assert user.get("/api/admin/audit").status_code == 403


def test_the_audit_log_is_searched_by_who_what_and_when(house: RunningServer) -> None:
    number = new_user(house, "mia")
    with house.client(key=token_of(house, "mia")) as mia, house.client() as admin:
        mia.post("/api/api-keys", json={"alias": "50% off"}).raise_for_status()
        admin.put(f"/api/admin/users/{number}", json={"is_active": True}).raise_for_status()

        def found(**query: str) -> list[tuple[str, str]]:
            answer = admin.get("/api/admin/audit", params=query)
            assert answer.status_code == 200, answer.text
            return [(act["actor"], act["action"]) for act in answer.json()]

        made, changed = ("mia", "POST /api/api-keys"), ("admin", f"PUT /api/admin/users/{number}")
        assert found(actor="MIA") == [made]
        assert found(action="user mia: is_active true") == [changed]
        assert found(action="/API/API-KEYS", actor="mia") == [made]
        assert found(action="%", actor="mia") == found(action="\0%", actor="mia") == []
        assert found(actor="mia", since="2020-01-01", until="2020-01-02T00:00:00+05:00") == []
        assert found(actor="mia", since="2020-01-01T00:00:00-03:00", before=str(10**30)) == [made]
        for wrong in ({"since": "soon"}, {"limit": "0"}, {"actor": "x" * 101}, {"until": "0001-01-01T00:00:00+09:00"}):
            refused = admin.get("/api/admin/audit", params=wrong)
            assert (refused.status_code, refused.json()["error"]["param"]) == (422, *wrong)
    shown = command(house.data_dir, "audit", "--actor", "mia", "--since", "1h")
    assert "POST /api/api-keys" in shown.stdout
    (told,) = json.loads(command(house.data_dir, "audit", "--json", "--action", "user mia: is_active").stdout)
    assert (told["actor"], told["address"]) == ("admin", "127.0.0.1")
    assert command(house.data_dir, "audit", "--limit", "0").returncode == 1


def test_commands_take_and_give_rights_at_once(house: RunningServer) -> None:
    new_user(house, "ned")

    def said(*words: str) -> str:
        done = command(house.data_dir, "users", *words, "ned")
        assert done.returncode == 0, done.stderr
        return done.stdout

    with house.client(key=token_of(house, "ned")) as ned:
        assert ned.get("/api/admin/users").status_code == 403
        assert said("promote") == "User ned: admin, password.\n"
        assert ned.get("/api/admin/users").status_code == 200
        assert said("demote") == "User ned: user, password.\n"
        assert ned.get("/api/admin/users").status_code == 403
        assert said("deactivate") == "User ned: user, inactive, password.\n"
        assert ned.get("/v1/models").status_code == 401
        assert said("activate") == "User ned: user, password.\n"
    assert log_in(house, "ned").status_code == 200
    for act in ("demote", "deactivate"):
        last = command(house.data_dir, "users", act, "admin")
        assert (last.returncode, "last active administrator" in last.stderr) == (1, True)
    assert command(house.data_dir, "users", "promote", "nobody").returncode == 1


def token_of_reset(house: RunningServer) -> str:
    return log_in(house, "lea", "reset by admin").json()["access_token"]


def test_a_cookie_is_for_https_alone_where_a_trusted_proxy_says_it_came_so(
    house: RunningServer, tmp_path: Path
) -> None:
    new_user(house, "otto")
    form, told = {"username": "otto", "password": PASSWORD}, {"X-Forwarded-Proto": "https"}
    with gateway(tmp_path, [], more={"trusted_proxies": ["127.0.0.0/8"]}) as behind, anonymous(behind) as browser:
        new_user(behind, "otto")
        by_https, plain = (browser.post("/api/auth/token", data=form, headers=one) for one in (told, {}))
    with anonymous(house) as stranger:
        untrusted = stranger.post("/api/auth/token", data=form, headers=told)
    cookies = [answer.headers["set-cookie"].lower() for answer in (by_https, plain, untrusted)]
    assert ["secure" in cookie for cookie in cookies] == [True, False, False]


def test_a_body_that_has_no_end_is_no_login(house: RunningServer) -> None:
    with anonymous(house) as stranger:
        large = stranger.post("/api/auth/token", content=iter([b"username=" + b"x" * 100_000]))
        fields = stranger.post("/api/auth/token", data={"username": "ann"})
        json = stranger.post("/api/auth/token", json={"username": "ann", "password": PASSWORD})
    assert (large.status_code, fields.status_code, json.status_code) == (413, 422, 422)
