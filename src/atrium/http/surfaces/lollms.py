"""LoLLMs' own services under `/lollms/v1`, some of them also under `/v1`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from atrium.core.errors import EngineMissing, NotFound
from atrium.core.models import Ability
from atrium.dialects.lollms.answer import count_body, text_body, tokens_body, window_body
from atrium.dialects.lollms.listings import TYPES, capabilities_body, models_body, personalities_body, typed
from atrium.dialects.lollms.request import parse_model, parse_text, parse_tokens
from atrium.http.bodies import parsed
from atrium.http.reading import while_connected
from atrium.http.scope import told
from atrium.http.surfaces.openai import OpenAiBounds
from atrium.services.promises import Services

JSON = "application/json"
SPEECH = ("speech", "Install a text-to-speech model, or add an endpoint that has one")
LISTENING = ("transcription", "Install a speech-to-text model, or add an endpoint that has one")
IMAGES = ("image", "Install an image model, or add an endpoint that has one")
NEEDS_ENGINE = (
    ("/lollms/v1/audio/speech", "POST", SPEECH),
    ("/v1/audio/speech", "POST", SPEECH),
    ("/lollms/v1/audio/voices", "GET", SPEECH),
    ("/lollms/v1/audio/voices", "POST", SPEECH),
    ("/lollms/v1/audio/voices/{voice_id}", "DELETE", SPEECH),
    ("/v1/audio/voices", "GET", SPEECH),
    ("/lollms/v1/audio/transcriptions", "POST", LISTENING),
    ("/v1/audio/transcriptions", "POST", LISTENING),
    ("/v1/audio/translations", "POST", LISTENING),
    ("/lollms/v1/images/edit", "POST", IMAGES),
    ("/v1/images/generations", "POST", IMAGES),
    ("/v1/images/edits", "POST", IMAGES),
    ("/v1/images/variations", "POST", IMAGES),
)
"""Path, method and the engine that nobody has installed: none for these is built in."""


def router(services: Services, bounds: OpenAiBounds) -> APIRouter:
    surface = Surface(services, bounds)
    routes = APIRouter(tags=["LoLLMs"])
    get = ["GET", "HEAD"]
    routes.add_api_route("/lollms/v1/capabilities", surface.capabilities, methods=get)
    routes.add_api_route("/lollms/v1/{kind}/models", surface.models, methods=get)
    for prefix in ("/lollms/v1", "/v1"):
        routes.add_api_route(f"{prefix}/personalities", surface.personalities, methods=get)
        routes.add_api_route(f"{prefix}/tokenize", surface.tokenize, methods=["POST"])
        routes.add_api_route(f"{prefix}/detokenize", surface.detokenize, methods=["POST"])
        routes.add_api_route(f"{prefix}/count_tokens", surface.count_tokens, methods=["POST"])
        routes.add_api_route(f"{prefix}/context_size", surface.context_size, methods=["POST"])
    for path, method, engine in NEEDS_ENGINE:
        routes.add_api_route(path, refusing(*engine), methods=[method], response_class=Response)
    return routes


@dataclass(frozen=True, slots=True)
class Surface:
    services: Services
    bounds: OpenAiBounds

    async def tokenize(self, request: Request) -> Response:
        """Token ids of a text, by the model's own tokenizer."""
        call = await parsed(request, self.bounds, parse_text)
        self._check_key(request, call.model)
        work = self.services.tokenize.encode(call.model, call.text)
        tokens = await while_connected(request.receive, work)
        return Response(tokens_body(tokens.ids, exact=tokens.exact), media_type=JSON)

    async def detokenize(self, request: Request) -> Response:
        """The text of token ids."""
        call = await parsed(request, self.bounds, parse_tokens)
        self._check_key(request, call.model)
        text = await while_connected(request.receive, self.services.tokenize.decode(call.model, call.ids))
        return Response(text_body(text.text, exact=text.exact), media_type=JSON)

    async def count_tokens(self, request: Request) -> Response:
        """How many tokens a text has."""
        call = await parsed(request, self.bounds, parse_text)
        self._check_key(request, call.model)
        count = await while_connected(request.receive, self.services.tokenize.count(call.model, call.text))
        return Response(count_body(count.count, exact=count.exact), media_type=JSON)

    async def context_size(self, request: Request) -> Response:
        """How many tokens a request to the model may have, its answer included."""
        model = await parsed(request, self.bounds, parse_model)
        self._check_key(request, model)
        return Response(window_body(await self.services.tokenize.window(model)), media_type=JSON)

    def _check_key(self, request: Request, model: str) -> None:
        """Raises Forbidden where the caller's key is not for the model."""
        self.services.usher.names(told(request)[1], model, Ability.CHAT)

    async def capabilities(self) -> Response:
        """What works here, and which bindings do it."""
        models = self.services.browse_models.by_binding()
        return Response(capabilities_body(models), media_type=JSON)

    async def models(self, kind: str, binding_alias: str = "") -> Response:
        """The models of one type, of all bindings or of one."""
        if kind not in TYPES:
            raise NotFound(f"There is no type of models '{kind[:50]}'", hint=f"Known: {', '.join(TYPES)}")
        models = typed(self.services.browse_models.by_binding(), kind)
        chosen = [model for model in models if not binding_alias or model.binding == binding_alias]
        return Response(models_body(chosen), media_type=JSON)

    async def personalities(self) -> Response:
        """The personalities that a chat may ask for."""
        own = self.services.personalities
        return Response(personalities_body(own.known, own.since), media_type=JSON)


def refusing(engine: str, hint: str) -> Callable[[], Awaitable[Response]]:
    async def refuse() -> Response:
        """Needs an engine that is not installed."""
        raise EngineMissing(f"No {engine} engine is installed", hint=hint)

    return refuse
