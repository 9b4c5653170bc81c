"""The administrator's API: models and runners. The command line speaks it over the control socket."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from atrium.core.endpoints import RunnerStatus
from atrium.core.errors import InvalidValue
from atrium.core.models import Available, Installing, ModelCard
from atrium.dialects.llamacpp.known_templates import template_of
from atrium.services.configure_model import Shown
from atrium.services.promises import Services


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Installation(Body):
    sources: list[str] = []
    defaults: bool = False


class Adoption(Body):
    path: str
    name: str


class InstallingView(BaseModel):
    name: str
    stage: str
    done: int
    total: int
    error: str


class ModelView(BaseModel):
    name: str
    engine: str
    abilities: list[str]
    size: int
    digest: str
    created: int
    source: str
    context: int
    default_for: list[str]
    loaded: bool
    parent: str
    adopted: bool


class ModelsView(BaseModel):
    installed: list[ModelView]
    installing: list[InstallingView]
    problems: dict[str, str]
    """Model or configuration to what is wrong with it."""


class AvailableView(BaseModel):
    name: str
    description: str
    size: int
    abilities: list[str]
    installed: bool


class RunnerView(BaseModel):
    model: str
    state: str
    pid: int | None
    slots: int
    busy: int
    waiting: int
    memory_estimate: int
    memory_used: int
    context: int
    expires_in: float | None
    last_error: str


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/admin", tags=["admin"])
    routes.include_router(model_routes(services))
    routes.include_router(runner_routes(services))
    return routes


def model_routes(services: Services) -> APIRouter:
    routes = APIRouter()

    @routes.get("/models")
    async def models() -> ModelsView:
        cards = services.list_models.listed()
        return ModelsView(
            installed=[model_view(card, services) for card in cards],
            installing=[installing_view(one) for one in services.list_models.installing()],
            problems=services.configure_model.problems(),
        )

    @routes.get("/models/available")
    async def available() -> list[AvailableView]:
        return [available_view(one) for one in services.install_model.available()]

    @routes.post("/models/install", status_code=202)
    async def install(wanted: Installation) -> dict[str, list[InstallingView]]:
        if bool(wanted.sources) == wanted.defaults:
            raise InvalidValue("Name either sources or defaults", param="sources")
        sources = services.install_model.default_sources() if wanted.defaults else wanted.sources
        begun = [await services.install_model.start(source) for source in sources]
        return {"installing": [installing_view(one) for one in begun]}

    @routes.post("/models/adopt", status_code=201)
    async def adopt(wanted: Adoption) -> ModelView:
        return model_view(await services.configure_model.adopt(wanted.path, wanted.name), services)

    @routes.post("/models/rescan")
    async def rescan() -> dict[str, dict[str, str]]:
        """Look through adopted folders and configurations now, and open what is new."""
        await services.configure_model.rescan()
        return {"problems": services.configure_model.problems()}

    @routes.get("/models/{name:path}")
    async def model(name: str) -> dict[str, object]:
        shown = services.configure_model.shown(name)
        return {**model_view(shown.card, services).model_dump(), **shown_view(shown)}

    @routes.delete("/models/{name:path}", status_code=204)
    async def delete_model(name: str) -> None:
        await services.install_model.delete(name)

    return routes


def runner_routes(services: Services) -> APIRouter:
    routes = APIRouter()

    @routes.get("/runners")
    async def runners() -> list[RunnerView]:
        return [runner_view(status) for status in services.engines.running()]

    @routes.post("/runners/{name:path}/unload", status_code=204)
    async def unload(name: str) -> Response:
        await services.engines.unload(services.list_models.one(name).name)
        return Response(status_code=204)

    return routes


def model_view(card: ModelCard, services: Services) -> ModelView:
    loaded = {status.model for status in services.engines.running() if status.pid is not None}
    return ModelView(
        name=card.name,
        engine=card.engine,
        abilities=sorted(ability.value for ability in card.abilities),
        size=card.size,
        digest=card.digest,
        created=card.created,
        source=card.source,
        context=card.facts.dimensions.trained_context,
        default_for=[kind for kind, name in services.list_models.defaults().items() if name == card.name],
        loaded=card.name in loaded,
        parent=card.parent,
        adopted=card.adopted,
    )


def installing_view(one: Installing) -> InstallingView:
    return InstallingView(name=one.name, stage=one.stage, done=one.done, total=one.total, error=one.error)


def available_view(one: Available) -> AvailableView:
    return AvailableView(
        name=one.name,
        description=one.description,
        size=one.size,
        abilities=sorted(ability.value for ability in one.abilities),
        installed=one.installed,
    )


def runner_view(status: RunnerStatus) -> RunnerView:
    return RunnerView.model_validate({**asdict(status), "state": status.state.value})


def shown_view(shown: Shown) -> dict[str, object]:
    """What was read of a model and decided from it, with where each word came from."""
    card = shown.card
    facts = asdict(card.facts)
    facts["vocabulary"] = {**facts["vocabulary"], "control": len(card.facts.vocabulary.control)}
    said = asdict(card.config)
    origins = said.pop("origins")
    said["sampling"] = {name: value for name, value in said["sampling"].items() if value not in (None, (), {}, 0)}
    _, template = template_of(card)
    return {
        "path": card.path,
        "problem": shown.problem,
        "plan": asdict(shown.plan) if shown.plan else None,
        "template_from": template,
        "projector": card.projector.path if card.projector else "",
        "config": {name: value for name, value in said.items() if value not in (None, "", (), {})},
        "origins": origins,
        "facts": facts,
        "options": dict(card.options),
    }
