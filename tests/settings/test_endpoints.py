"""An endpoint as it is configured, taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atrium.core.errors import InvalidValue
from atrium.core.kinds import PREFIXES, SPELLINGS, Kind
from atrium.decisions.relayed_path import split_prefix, upstream_path
from atrium.settings.endpoints import read_given

OWN = {"name": "den", "url": "http://h:1/gw", "type": "openai", "api_key": "secret"}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/ready?deep=1", "/ready?deep=1"),
        ("ready", "/ready"),
        ("http://h:1/gw/ready?deep=1", "/ready?deep=1"),
        ("http://H:1/gw/ready", "/ready"),
    ],
)
def test_a_check_below_the_endpoint_is_a_path_of_it(url: str, path: str) -> None:
    spec = read_given({**OWN, "health_check_url": url})
    assert (spec.health_path, spec.health_at) == (path, None)


def test_a_check_elsewhere_is_asked_there_without_credentials() -> None:
    spec = read_given({**OWN, "health_check_url": "https://sidecar/ready?deep=1"})
    assert spec.health_path == "/ready?deep=1"
    assert spec.health_at is not None
    assert spec.health_at.url == "https://sidecar"
    assert spec.health_at.headers == ()
    assert spec.url == "http://h:1/gw"


def test_a_check_beside_the_endpoints_own_base_keeps_its_credentials() -> None:
    spec = read_given({**OWN, "health_check_url": "http://h:1/ready"})
    assert spec.health_at is not None
    assert (spec.health_at.url, spec.health_path) == ("http://h:1", "/ready")
    assert spec.health_at.headers == spec.headers


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"api_key": "k"}, (b"authorization", b"Bearer k")),
        ({"api_key": "k", "auth_header": "X-Api-Key"}, (b"x-api-key", b"k")),
        ({"auth": {"type": "bearer", "token": "t"}}, (b"authorization", b"Bearer t")),
        ({"auth": {"type": "basic", "username": "u", "password": "p"}}, (b"authorization", b"Basic dTpw")),
        ({"auth": {"type": "api_key", "key": "k"}}, (b"x-api-key", b"k")),
        ({"auth": {"type": "api_key", "key": "k", "header": "X-Goog-Api-Key"}}, (b"x-goog-api-key", b"k")),
        ({"headers": {"Authorization": "loses"}, "api_key": "k"}, (b"authorization", b"Bearer k")),
        ({"headers": {"X-Site": "here"}}, (b"x-site", b"here")),
        ({"url": "http://u:p%40@h:1"}, (b"authorization", b"Basic dTpwQA==")),
    ],
)
def test_credentials_of_every_shape_become_a_header(given: dict[str, Any], header: tuple[bytes, bytes]) -> None:
    spec = read_given({"url": "http://h:1", **given})
    assert spec.headers == (header,)
    assert spec.url == "http://h:1"


def test_a_token_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    spec = read_given({"url": "http://h", "auth": {"type": "bearer", "token_file": str(tmp_path / "token")}})
    assert spec.headers == ((b"authorization", b"Bearer from-file"),)
    with pytest.raises(InvalidValue, match="cannot be read"):
        read_given({"url": "http://h", "auth": {"type": "bearer", "token_file": str(tmp_path / "none")}})


@pytest.mark.parametrize("spelled", [*SPELLINGS, "LM-Studio", "OLLAMA"])
def test_every_type_is_found_however_it_is_spelled(spelled: str) -> None:
    assert read_given({"url": "http://h", "type": spelled}).kind is SPELLINGS[spelled.lower()]


@pytest.mark.parametrize(("prefix", "kind"), [*PREFIXES.items(), ("VLLM", PREFIXES["vllm"])])
def test_every_prefix_leads_to_its_type(prefix: str, kind: Kind) -> None:
    assert split_prefix(f"/olla/{prefix}/v1/x?".encode()) == (kind.name, b"/v1/x?")


@pytest.mark.parametrize(
    ("base", "rest", "target"),
    [
        ("", b"/v1/models", b"/v1/models"),
        ("/gw", b"/v1/models", b"/gw/v1/models"),
        ("/v1", b"/v1/chat/completions", b"/v1/chat/completions"),
        ("/api/v1", b"/v1", b"/api/v1"),
        ("/v1", b"/v10/x", b"/v1/v10/x"),
        ("/v1", b"/echo", b"/v1/echo"),
    ],
)
def test_an_endpoints_own_base_stands_before_every_path(base: str, rest: bytes, target: bytes) -> None:
    assert upstream_path(base, rest) == target
