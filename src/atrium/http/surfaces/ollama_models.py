"""Which models there are, in Ollama's words: tags, show, ps. Source: contract `ollama.md`, section 6."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from atrium.core.endpoints import RemoteModel, RunnerState, RunnerStatus
from atrium.core.errors import ModelNotFound, ModelUnavailable
from atrium.core.models import Ability, ModelCard
from atrium.dialects.llamacpp.known_templates import can_think, template_of
from atrium.dialects.ollama.listings import (
    NO_LISTS,
    Details,
    Entry,
    Loaded,
    Shown,
    capabilities,
    modelfile,
    offered_entry,
    parameter_size,
    parameters_text,
    plain,
    running_body,
    show_body,
    tags_body,
    with_entries,
)
from atrium.dialects.ollama.request import parse_body, parse_model
from atrium.dialects.openai.listings import models_body
from atrium.http.reading import read_body
from atrium.http.surfaces.openai import OpenAiBounds
from atrium.services.promises import Services

JSON = "application/json"
FOR_EVER = 200 * 365 * 24 * 3600.0
TALKS = frozenset({Ability.CHAT, Ability.COMPLETION, Ability.EMBEDDING})
UNKNOWN = "unknown"
LONG = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges")
"""Lists of a model's file."""


def router(services: Services, bounds: OpenAiBounds) -> APIRouter:
    pages = Pages(services, bounds)
    routes = APIRouter(tags=["Ollama"])
    routes.add_api_route("/ollama/v1/models", pages.both_lists, methods=["GET", "HEAD"])
    for root in ("/api", "/ollama/api"):
        routes.add_api_route(f"{root}/tags", pages.tags, methods=["GET", "HEAD"])
        routes.add_api_route(f"{root}/ps", pages.running, methods=["GET", "HEAD"])
        routes.add_api_route(f"{root}/show", pages.show, methods=["POST"])
    return routes


def moment(seconds: float) -> str:
    """Unix seconds, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Pages:
    services: Services
    bounds: OpenAiBounds

    async def tags(self) -> Response:
        """Chat and embedding models, those of this machine first, each name once."""
        return Response(tags_body(tag_entries(self.services)), media_type=JSON)

    async def both_lists(self) -> Response:
        """The models that can be named in a request, in OpenAI's words and in Ollama's."""
        named = models_body(self.services.browse_models.everywhere())
        return Response(with_entries(named, tag_entries(self.services)), media_type=JSON)

    async def running(self) -> Response:
        """Models in memory, those that stay longest first."""
        now = time.time()
        loaded: list[tuple[float, Loaded]] = []
        for status in self.services.engines.running():
            card = self.services.list_models.find(status.model)
            # What was told to go serves nobody any more, though its memory takes a moment to come back.
            there = status.pid is not None and status.state is not RunnerState.STOPPING
            if card is not None and there and card.abilities & TALKS:
                stays = FOR_EVER if status.expires_in is None else status.expires_in
                loaded.append((stays, loaded_row(card, status, moment(now + stays))))
        loaded.sort(key=lambda one: -one[0])
        return Response(running_body([row for _, row in loaded]), media_type=JSON)

    async def show(self, request: Request) -> Response:
        """All that is known of one model."""
        fields = parse_body(await read_body(request.receive, self.bounds.body), self.bounds.request)
        name = parse_model(fields)
        verbose = fields.flag("verbose")
        card = self.services.list_models.find(name)
        if card is not None:
            lists = await self.services.model_files.lists(card) if verbose else NO_LISTS
            return Response(show_body(shown_card(card), lists), media_type=JSON)
        try:
            found = self.services.browse_models.remotes.find(name)
        except ModelUnavailable:
            found = None
        if found is None:
            raise ModelNotFound(f"model '{name[:200]}' not found", param="model")
        window = await self.services.browse_models.remotes.window(found)
        return Response(show_body(shown_remote(found, window)), media_type=JSON)


def tag_entries(services: Services) -> list[Entry]:
    entries = [card_entry(card) for card in services.list_models.listed() if card.abilities & TALKS]
    seen = {plain(entry.name) for entry in entries}
    for remote in services.browse_models.remotes.listed():
        if plain(remote.name) not in seen:
            seen.add(plain(remote.name))
            entries.append(offered_entry(remote.offered, moment(remote.offered.created)))
    return entries


def card_entry(card: ModelCard) -> Entry:
    facts = card.facts
    details = Details(
        parent=card.parent,
        family=facts.architecture or card.engine,
        parameters=parameter_size(facts.parameters),
        quantization=facts.quantization,
    )
    # Tools are called under a grammar, whatever the model's template knows of them.
    able = capabilities(card, tools=True, thinking=can_think(card))
    return Entry(card.name, moment(card.created), card.size, card.digest, details, able)


def loaded_row(card: ModelCard, status: RunnerStatus, expires: str) -> Loaded:
    entry = card_entry(card)
    memory = status.memory_used or status.memory_estimate
    used = Entry(entry.name, entry.modified, memory, entry.digest, entry.details, entry.capabilities)
    return Loaded(used, expires, status.context)


def shown_card(card: ModelCard) -> Shown:
    facts, config = card.facts, card.config
    architecture = facts.architecture or card.engine
    size = facts.dimensions
    info: dict[str, object] = {
        **facts.metadata,
        "general.architecture": architecture,
        "general.parameter_count": facts.parameters,
        f"{architecture}.context_length": size.trained_context,
        f"{architecture}.embedding_length": size.embedding_length,
        f"{architecture}.block_count": size.layers,
        # As large as the rest together; read from the file where the request is to be told all.
        **dict.fromkeys(LONG, None),
    }
    template = template_of(card)[0]
    parameters = parameters_text(config.sampling, config.context)
    system = config.system or ""
    return Shown(
        card_entry(card),
        info,
        template=template,
        system=system,
        parameters=parameters,
        license=config.license,
        modelfile=modelfile(card.parent or card.name, template, system, parameters),
        messages=[{"role": role, "content": content} for role, content in config.messages],
    )


def shown_remote(found: RemoteModel, window: int) -> Shown:
    """What an endpoint's list tells of a model; what it leaves out is not known here either.

    `window`: in tokens, as it counts for requests, since clients cut their prompts to it.
    """
    offered = found.offered
    family = offered.family or UNKNOWN
    info: dict[str, object] = {
        "general.architecture": family,
        "general.parameter_count": counted(offered.parameter_size),
        f"{family}.context_length": window,
        f"{family}.embedding_length": 0,
    }
    if offered.raw:
        info["atrium.listed"] = json.loads(offered.raw)
    return Shown(offered_entry(offered, moment(offered.created)), info)


def counted(size: str) -> int:
    """`7B` as a number; 0 for what is none."""
    units = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    unit = units.get(size[-1:].upper())
    try:
        return int(float(size[:-1]) * unit) if unit else int(size or "0")
    except ValueError:
        return 0
