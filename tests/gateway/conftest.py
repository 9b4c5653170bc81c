"""One gateway for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.gateway.fakes import Fake, gateway
from tests.running import RunningServer

DEAD = {"name": "delta", "url": "http://127.0.0.1:9", "type": "vllm", "check_interval": "500ms"}
MORE = {
    "model_aliases": {"fast": ["m1"], "nothing": ["nowhere"]},
    "proxy": {"header_timeout": "1s", "idle_timeout": "1s", "connect_timeout": "1s"},
    "limits": {"max_body": "1MB"},
}


@pytest.fixture(scope="package")
def fakes() -> list[Fake]:
    return [
        Fake("alpha", "openai", ("m1", "org/m2"), {"api_key": "sk-endpoint", "headers": {"X-Site": "here"}}),
        Fake("beta", "ollama", ("llama3:latest", "phi3:mini"), {"priority": 50}),
        Fake("gamma", "lmstudio", ("m1",), {"priority": 10}),
    ]


@pytest.fixture(scope="package")
def relay(tmp_path_factory: pytest.TempPathFactory, fakes: list[Fake]) -> Generator[RunningServer]:
    """Keys required; an OpenAI, an Ollama and an LM Studio endpoint; a vLLM that is never up."""
    with gateway(tmp_path_factory.mktemp("relay"), fakes, dead=[DEAD], more=MORE) as server:
        yield server
