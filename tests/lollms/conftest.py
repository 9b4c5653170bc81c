"""The program with its own models, and endpoints of several kinds beside them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import httpx2
import pytest

from tests.lollms.endpoints import Endpoint, serving
from tests.running import RunningServer


@contextmanager
def beside(server: RunningServer, *endpoints: Endpoint) -> Generator[None]:
    """The server with these endpoints added; afterwards it is as it was."""
    with server.client() as client, ExitStack() as stack:
        for endpoint in endpoints:
            stack.enter_context(serving(endpoint))
            added = client.post("/api/admin/endpoints", json=endpoint.config)
            assert added.status_code == 201, added.text
            stack.callback(client.delete, f"/api/admin/endpoints/{endpoint.config['name']}")
            client.post(f"/api/admin/endpoints/{endpoint.config['name']}/check")
        yield


@pytest.fixture
def client(server: RunningServer) -> Generator[httpx2.Client]:
    with server.client(timeout=600) as client:
        yield client


@pytest.fixture(scope="module")
def remote(server: RunningServer) -> Generator[dict[str, Endpoint]]:
    """A vLLM that tells its tokenizer and window, an Ollama without OpenAI's paths, and a plain OpenAI endpoint."""
    endpoints = {kind: Endpoint(kind, f"{kind}-model") for kind in ("vllm", "ollama", "openai")}
    endpoints["ollama"].model = "llama3:latest"
    with beside(server, *endpoints.values()):
        yield endpoints


@pytest.fixture
def added(server: RunningServer) -> Generator[Callable[[Endpoint], Endpoint]]:
    """Adds an endpoint for one test."""
    with ExitStack() as stack:

        def add(endpoint: Endpoint) -> Endpoint:
            stack.enter_context(beside(server, endpoint))
            return endpoint

        yield add


@pytest.fixture
def named(server: RunningServer) -> Generator[Endpoint]:
    """An endpoint with the name and the model of the document."""
    with beside(server, Endpoint("ollama", "llama3:latest", name="ollama")):
        yield Endpoint("ollama", "llama3:latest")
