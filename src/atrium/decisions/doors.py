"""Which door a path belongs to, and what each door asks for. Source: contract `lollms.md`, sections 1.4 and 11."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

NOT_OLLAMA = ("/api/auth", "/api/api-keys", "/api/admin", "/api/usage", "/api/datastores", "/api/store")
"""Beneath `/api`, but not Ollama's."""
CHANGES = frozenset({"/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete"})
"""Ollama's routes that change what there is."""
CHANGES_ELSEWHERE = frozenset(
    {
        *("/api/v1/models/load", "/api/v1/models/unload", "/api/v1/models/download", "/models/load", "/models/unload"),
        *("/props", "/lora-adapters", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/wake_up"),
        *("/load_lora_adapter", "/unload_lora_adapter", "/reset_prefix_cache", "/collective_rpc", "/flush_cache"),
        *("/update_weights_from_disk", "/update_weights_from_distributed", "/update_weights_from_tensor"),
        *("/init_weights_update_group", "/release_memory_occupation", "/resume_memory_occupation"),
        *("/start_profile", "/stop_profile", "/set_internal_state", "/abort_request"),
    }
)
"""What LM Studio, llama.cpp, vLLM and SGLang have of the kind."""
SLOTS = "/slots/"
"""llama.cpp's, where answers under way are saved and erased."""
SLASHES = re.compile("/{2,}")
READING = frozenset({"GET", "HEAD", "OPTIONS"})
BLOBS = "/api/blobs/"
OLLAMA_PREFIX = "/ollama"


@dataclass(frozen=True, slots=True)
class Door:
    """Its rule."""

    enabled: bool
    needs_key: bool


@dataclass(frozen=True, slots=True)
class DoorRules:
    openai: Door
    ollama: Door
    lollms: Door
    other: Door
    """Paths of no door, such as the gateway's."""

    def of(self, path: str) -> Door:
        if path.startswith("/v1/"):
            return self.openai
        name = door_of(path)
        if name is None:
            return self.other
        return self.openai if name == "openai" else self.ollama if name == "ollama" else self.lollms


class Rule(Protocol):
    @property
    def enabled(self) -> bool: ...
    @property
    def require_key(self) -> bool | None: ...


class Rules(Protocol):
    @property
    def openai(self) -> Rule: ...
    @property
    def ollama(self) -> Rule: ...
    @property
    def lollms(self) -> Rule: ...


def door_rules(given: Rules, *, required: bool) -> DoorRules:
    """What a door does not say for itself is as the whole server has it."""

    def rule(one: Rule) -> Door:
        return Door(one.enabled, required if one.require_key is None else one.require_key)

    return DoorRules(rule(given.openai), rule(given.ollama), rule(given.lollms), Door(enabled=True, needs_key=required))


def door_of(path: str) -> str | None:
    """`openai`, `ollama`, `lollms`, or None."""
    if is_at(path, "/v1"):
        return "openai"
    if is_at(path, OLLAMA_PREFIX):
        return "ollama"
    if is_at(path, "/lollms"):
        return "lollms"
    if is_at(path, "/api") and not any(is_at(path, own) for own in NOT_OLLAMA):
        return "ollama"
    return None


def is_at(path: str, prefix: str) -> bool:
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def changes_models(method: str, path: str) -> bool:
    """Whether this changes what there is, which only an administrator may.

    `path` is read as leniently as an endpoint might read it.
    """
    if method in READING:
        return False
    if "%" in path:
        path = unquote(path)
    if "//" in path:
        path = SLASHES.sub("/", path)
    rest = path.removeprefix(OLLAMA_PREFIX).rstrip("/")
    if rest in CHANGES or rest in CHANGES_ELSEWHERE or rest.startswith((BLOBS, SLOTS)):
        return True
    return method == "DELETE" and rest.startswith("/v1/models/")
