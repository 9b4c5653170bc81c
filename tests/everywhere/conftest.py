"""The same clients on a local model, on an endpoint that speaks Ollama's API alone, and on one with OpenAI's alone.

On real weights they are tested in `tests/clients` and `tests/lollms`.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.gateway.fakes import Fake, gateway
from tests.running import RunningServer

WORDS = "word0 word1 word2 word3 word4 "
LOCAL, OLLAMA, OPENAI = "a local model", "an Ollama endpoint", "an OpenAI endpoint"
EMBEDDING = "text-embedding-{}"
"""`lollms_client` asks for no other embedding models than those of such names."""


@dataclass(frozen=True)
class Place:
    """Where a model runs, and what is known of it."""

    kind: str
    chat: str
    embedding: str
    vector: int
    """Numbers in one of its vectors."""
    window: int
    fake: Fake | None = None

    @property
    def thinks(self) -> bool:
        return self.fake is not None

    def told(self) -> dict[str, Any]:
        """The body that the endpoint was asked with last."""
        assert self.fake is not None
        return self.fake.last()["body"]

    def says(self, text: str) -> bool:
        """Whether this is an answer of the model's."""
        return text.strip() == WORDS.strip() if self.fake else bool(text.strip())


async def settled(answer: Any) -> Any:
    """What a sync client answered at once and an async one will answer."""
    return await answer if inspect.isawaitable(answer) else answer


async def gathered(answer: Any) -> list[Any]:
    """The parts of a stream, of a sync client's or an async one's."""
    stream = await settled(answer)
    return [part async for part in stream] if hasattr(stream, "__aiter__") else list(stream)


MORE = {"models": {"install_defaults": False, "allow_fake": True}}


@pytest.fixture(scope="package")
def hut() -> Fake:
    return Fake("hut", "ollama", ("llama3:latest", EMBEDDING.format("hut")), v1=False)


@pytest.fixture(scope="package")
def sky() -> Fake:
    return Fake("sky", "openai", ("qwen", EMBEDDING.format("sky")))


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory, hut: Fake, sky: Fake) -> Generator[RunningServer]:
    """A server with models of its own, which the built-in engine invents, and both endpoints."""
    with gateway(tmp_path_factory.mktemp("everywhere"), [hut, sky], more=MORE) as server:
        server.install("fake:parrot?words=5", f"fake:{EMBEDDING.format('house')}?ability=embedding")
        yield server


@pytest.fixture(scope="package")
def places(house: RunningServer, hut: Fake, sky: Fake) -> dict[str, Place]:
    return {
        LOCAL: Place(LOCAL, "parrot", EMBEDDING.format("house"), 32, 8192),
        OLLAMA: Place(OLLAMA, "llama3", EMBEDDING.format("hut"), 2, 8192, hut),
        OPENAI: Place(OPENAI, "qwen", EMBEDDING.format("sky"), 2, 4096, sky),
    }


@pytest.fixture(params=[LOCAL, OLLAMA, OPENAI])
def place(places: dict[str, Place], request: pytest.FixtureRequest) -> Place:
    return places[request.param]


@pytest.fixture(params=[OLLAMA, OPENAI])
def endpoint(places: dict[str, Place], request: pytest.FixtureRequest) -> Place:
    return places[request.param]


@pytest.fixture(params=[LOCAL, OLLAMA])
def asked(places: dict[str, Place], request: pytest.FixtureRequest) -> Place:
    """Where it is answered here; an endpoint that speaks OpenAI's API is relayed what was sent."""
    return places[request.param]
