"""Endpoints over HTTPS: their certificates are verified."""

from __future__ import annotations

from pathlib import Path

import trustme

from tests.gateway.fakes import Fake, gateway
from tests.gateway.wire import exchange, post

STREAM = post("/olla/openai/v1/chat/completions", b'{"model": "m1", "stream": true}')
OPEN = {"auth": {"required": False}}


def secured(folder: Path) -> tuple[Fake, Path]:
    """A fake endpoint that speaks HTTPS, and the authority that vouches for it."""
    authority = trustme.CA()
    cert, trusted = folder / "cert.pem", folder / "ca.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(cert)
    authority.cert_pem.write_to_path(trusted)
    return Fake("safe", "openai", ("m1",), cert=cert), trusted


def test_an_endpoint_that_can_prove_who_it_is_is_used(tmp_path: Path) -> None:
    fake, trusted = secured(tmp_path)
    with gateway(tmp_path, [fake], more=OPEN, env={"SSL_CERT_FILE": str(trusted)}) as server:
        for _ in range(3):
            answer = exchange(server.url, STREAM)
            assert (answer.status, answer.whole) == (200, True)


def test_an_endpoint_that_cannot_is_offline(tmp_path: Path) -> None:
    fake, _ = secured(tmp_path)
    with gateway(tmp_path, [fake], more=OPEN) as server:
        assert exchange(server.url, STREAM).status == 503
        assert server.client().get("/internal/status").json()["endpoints"][0]["status"] == "offline"
