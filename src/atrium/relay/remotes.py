"""The models of all endpoints, as services see them. Implements `core.ports.Remotes`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from atrium.core.endpoints import RemoteModel
from atrium.core.errors import (
    AtriumError,
    InvalidValue,
    ModelUnavailable,
    NoEndpoint,
    UpstreamFailed,
)
from atrium.dialects.listings import tokens
from atrium.relay.ask import Reply, ask
from atrium.relay.directory import Directory, Endpoint
from atrium.relay.discover import refresh

REFRESH_TIMEOUT = 2.0
"""Seconds for all lists together; a list that comes later is read by its endpoint's next check."""
TOKEN_TIMEOUT = 30.0
SHOW_TIMEOUT = 5.0
SHOWN_FOR = 60.0
"""Seconds that a window which was asked for is believed."""
MOST_SHOWN = 1024
ASSUMED_WINDOW = 4096
"""Of a model whose endpoint does not tell."""
MISSING = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True)
class DirectoryRemotes:
    directory: Directory
    _shown: OrderedDict[tuple[str, str], tuple[float, int]] = field(
        default_factory=OrderedDict[tuple[str, str], tuple[float, int]]
    )
    """When each model's window was asked for, and what it was."""

    def names(self) -> tuple[str, ...]:
        return tuple(one.spec.name for one in self.directory.endpoints)

    def listed(self) -> tuple[RemoteModel, ...]:
        return tuple(
            remote(endpoint, name)
            for endpoint in self.directory.endpoints
            if endpoint.routable
            for name in endpoint.offered
        )

    def find(self, name: str) -> RemoteModel | None:
        down = False
        for endpoint in self.directory.endpoints:
            spelled = self._spelled(endpoint, name)
            if spelled is None:
                continue
            if endpoint.routable:
                return remote(endpoint, spelled)
            down = True
        if down:
            raise ModelUnavailable(
                f"Model '{name[:200]}' is known, but only on endpoints that are down now",
                param="model",
                retry_after=1.0,
            )
        return None

    async def refresh(self) -> None:
        await refresh(self.directory.endpoints, REFRESH_TIMEOUT)

    async def window(self, model: RemoteModel) -> int:
        told = tokens.listed_window(model.offered)
        if not told and model.kind.speaks_ollama:
            told = await self._ollama_window(model)
        if told:
            return told
        configured = next((one.spec.context for one in self.directory.endpoints if one.spec.name == model.endpoint), 0)
        return configured or ASSUMED_WINDOW

    async def encode(self, model: RemoteModel, text: str) -> list[int] | None:
        kind = model.kind.name
        if kind not in tokens.TOKENIZES:
            return None
        reply = await self._post(model, tokens.tokenize_path(kind), tokens.tokenize_body(kind, model.name, text))
        return None if reply.head.status in MISSING else tokens.read_tokens(good(reply))

    async def decode(self, model: RemoteModel, ids: Sequence[int]) -> str | None:
        kind = model.kind.name
        if kind not in tokens.TOKENIZES:
            return None
        reply = await self._post(model, tokens.detokenize_path(kind), tokens.detokenize_body(model.name, ids))
        if reply.head.status in (400, 422):
            raise InvalidValue("'tokens' has ids that the endpoint's tokenizer refuses", param="tokens")
        return None if reply.head.status in MISSING else tokens.read_text(kind, good(reply))

    async def _ollama_window(self, model: RemoteModel) -> int:
        """What it is loaded with; of one that is not loaded, what it would be or can be loaded with; 0: not told."""
        try:
            running = good(await ask(self._endpoint(model), "/api/ps", SHOW_TIMEOUT))
            loaded = tokens.loaded_window(running, model.name)
        except AtriumError:
            loaded = 0
        return loaded or await self._asked_window(model)

    async def _asked_window(self, model: RemoteModel) -> int:
        """0 where the endpoint does not tell."""
        key = (model.endpoint, model.name)
        at, told = self._shown.get(key, (0.0, 0))
        now = time.monotonic()
        if at and now - at < SHOWN_FOR:
            return told
        try:
            reply = await ask(
                self._endpoint(model), "/api/show", SHOW_TIMEOUT, body=orjson.dumps({"model": model.name})
            )
            told = tokens.shown_window(good(reply))
        except AtriumError:
            return told
        self._shown[key] = (now, told)
        if len(self._shown) > MOST_SHOWN:
            self._shown.popitem(last=False)
        return told

    async def _post(self, model: RemoteModel, path: str, body: bytes) -> Reply:
        """To a path beside `/v1`, which an endpoint's base may end in."""
        return await ask(self._endpoint(model), path, TOKEN_TIMEOUT, body=body, beside_v1=True)

    def _endpoint(self, model: RemoteModel) -> Endpoint:
        """Raises NoEndpoint when it was removed."""
        for endpoint in self.directory.endpoints:
            if endpoint.spec.name == model.endpoint:
                return endpoint
        raise NoEndpoint(f"No endpoint is named '{model.endpoint}' any more", retry_after=1.0)

    def _spelled(self, endpoint: Endpoint, name: str) -> str | None:
        """The name by which the endpoint has what the caller means."""
        for wanted in (name, *self.directory.aliases.get(name, ())):
            own = f"{endpoint.spec.name}/"
            for form in (wanted, wanted.removeprefix(own) if wanted.startswith(own) else ""):
                if form and endpoint.has(form.casefold()):
                    return endpoint.name_of(form.casefold())
        return None


def remote(endpoint: Endpoint, name: str) -> RemoteModel:
    spec = endpoint.spec
    return RemoteModel(spec.name, spec.kind, endpoint.offered[name])


def good(reply: Reply) -> bytes:
    """Raises UpstreamFailed."""
    if reply.head.status != 200:
        raise UpstreamFailed(
            f"The endpoint answered {reply.head.status}: {reply.body[:200].decode('utf-8', 'replace')}"
        )
    return reply.body
