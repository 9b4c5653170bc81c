"""An endpoint as it is configured, taken apart."""

from __future__ import annotations

import pytest

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
