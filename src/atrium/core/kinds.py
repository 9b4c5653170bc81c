"""What differs between back ends, as data: how each is spelled, probed and asked for its models.

Source: contract `olla.md`, sections 3.1, 4.1, 7 and 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    """Canonical, as in JSON and in `X-Olla-Backend-Type`."""
    prefixes: tuple[str, ...]
    """Spellings in `/olla/{prefix}/…`, lower case; a configured `type` may be any of them, or the name."""
    health: str
    """Path of the probe unless the endpoint names its own."""
    lists: tuple[tuple[str, str], ...]
    """Paths of the model list with its format (`openai`, `ollama`, `lmstudio`); the next is tried after a 404."""
    speaks_openai: bool = True
    speaks_ollama: bool = False
    on_demand: bool = False
    """It lists models that it loads only when they are asked for."""
    takes_files: bool = False
    """Documents may stand in its chats, or it has servers behind it that take them."""


OPENAI_LIST = (("/v1/models", "openai"),)
LMSTUDIO_LISTS = (("/api/v0/models", "lmstudio"), *OPENAI_LIST)


def plain(name: str, health: str = "/health", *prefixes: str, takes_files: bool = False) -> Kind:
    return Kind(name, prefixes or (name,), health, OPENAI_LIST, takes_files=takes_files)


ALL = (
    Kind("ollama", ("ollama",), "/", (("/api/tags", "ollama"),), speaks_ollama=True, on_demand=True),
    Kind("lmstudio", ("lmstudio", "lm-studio", "lm_studio"), "/v1/models", LMSTUDIO_LISTS, on_demand=True),
    plain("vllm"),
    plain("openai", "/v1/models", "openai", "openai-compatible", takes_files=True),
    plain("llamacpp"),
    plain("sglang"),
    plain("litellm", takes_files=True),
    Kind("lemonade", ("lemonade",), "/api/v1/health", (("/api/v1/models", "openai"),)),
    plain("lmdeploy"),
    plain("vllm-mlx"),
    plain("omlx"),
    Kind("docker-model-runner", ("dmr",), "/engines/v1/models", (("/engines/v1/models", "openai"),)),
    plain("atrium", "/internal/health", takes_files=True),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in ALL}
PREFIXES: Mapping[str, Kind] = {prefix: kind for kind in ALL if kind.name != "atrium" for prefix in kind.prefixes}
SPELLINGS: Mapping[str, Kind] = {**PREFIXES, **KINDS}
"""Every way to write a type in the configuration."""
EVERY = "proxy"
"""The prefix that means every endpoint."""
ANY_OPENAI = "openai"
"""The prefix that means every endpoint which speaks OpenAI's API."""
