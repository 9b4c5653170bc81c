"""A server in front of an endpoint that speaks only Ollama's API, and of some that speak only OpenAI's."""

from __future__ import annotations

from collections.abc import Generator

import openai
import pytest

from tests.gateway.fakes import Fake, gateway
from tests.running import RunningServer

MORE = {
    "model_aliases": {"fast": ["llama3"]},
    "proxy": {"header_timeout": "1s", "idle_timeout": "1s", "connect_timeout": "1s"},
    "models": {"install_defaults": False, "allow_fake": True},
    "limits": {"files": 3, "file_size": "100KB", "text": 500_000},
}


@pytest.fixture(scope="package")
def den() -> Fake:
    """An Ollama server from before it had OpenAI's paths."""
    return Fake("den", "ollama", ("llama3:latest", "nomic-embed:latest"), v1=False)


@pytest.fixture(scope="package")
def lab() -> Fake:
    return Fake("lab", "vllm", ("qwen",))


@pytest.fixture(scope="package")
def cloud() -> Fake:
    return Fake("cloud", "openai", ("gpt",), {"api_key": "sk-cloud"})


@pytest.fixture(scope="package")
def both(tmp_path_factory: pytest.TempPathFactory, den: Fake, lab: Fake, cloud: Fake) -> Generator[RunningServer]:
    with gateway(tmp_path_factory.mktemp("translation"), [den, lab, cloud], more=MORE) as server:
        with server.client() as client:
            client.post("/api/admin/models/install", json={"sources": ["fake:parrot?words=5"]}).raise_for_status()
        yield server


@pytest.fixture
def client(both: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{both.url}/v1", api_key=both.key, max_retries=0)
