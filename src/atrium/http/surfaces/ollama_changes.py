"""Changing which models there are, in Ollama's words: pull, create, copy, delete. For administrators alone.

Source: contract `ollama.md`, section 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass

import orjson
from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from atrium.core.errors import AtriumError, InvalidValue, ModelNotFound, NotFound, NotOffered
from atrium.core.models import ModelCard
from atrium.decisions.fake_address import SCHEME
from atrium.dialects.fields import Fields
from atrium.dialects.ollama.changes import Created, Progress, parse_copy, parse_create, parse_digest, parse_source
from atrium.dialects.ollama.listings import plain
from atrium.dialects.ollama.request import parse_body, parse_model
from atrium.http.reading import body_pieces, read_body
from atrium.http.scope import exchange_of
from atrium.http.surfaces.openai import OpenAiBounds
from atrium.services.promises import Services

JSON = "application/json"
LINES = "application/x-ndjson"
STEP = 0.5
"""Seconds between two lines of progress."""


def router(services: Services, bounds: OpenAiBounds) -> APIRouter:
    changes = Changes(services, bounds)
    routes = APIRouter(tags=["Ollama"])
    for root in ("/api", "/ollama/api"):
        routes.add_api_route(f"{root}/pull", changes.pull, methods=["POST"])
        routes.add_api_route(f"{root}/push", changes.push, methods=["POST"])
        routes.add_api_route(f"{root}/create", changes.create, methods=["POST"])
        routes.add_api_route(f"{root}/copy", changes.copy, methods=["POST"])
        routes.add_api_route(f"{root}/delete", changes.delete, methods=["DELETE"])
        routes.add_api_route(f"{root}/blobs/{{digest}}", changes.has_blob, methods=["HEAD"])
        routes.add_api_route(f"{root}/blobs/{{digest}}", changes.add_blob, methods=["POST"])
    return routes


@dataclass(frozen=True, slots=True)
class Changes:
    services: Services
    bounds: OpenAiBounds

    async def pull(self, request: Request) -> Response:
        """Install a model, telling how far it is."""
        fields = await self._fields(request)
        source = parse_source(fields)
        exchange_of(request.scope).deed = f"model {source}"
        return await answered(self._pulled(source), stream=fields.flag("stream", default=True))

    async def push(self, request: Request) -> Response:
        """Refused: there is nowhere to push to."""
        parse_model(await self._fields(request))
        raise NotOffered("Models are not pushed from here", hint="Copy the file, or install it on the other server")

    async def create(self, request: Request) -> Response:
        """A model of another one's files, with words and settings of its own."""
        fields = await self._fields(request)
        created = parse_create(fields)
        exchange_of(request.scope).deed = f"model {created.name} of {created.base or created.file}"
        return await answered(self._created(created), stream=fields.flag("stream", default=True))

    async def copy(self, request: Request) -> Response:
        """The same model under another name; deleting one leaves the other."""
        source, destination = parse_copy(await self._fields(request))
        card = self._card(source)
        exchange_of(request.scope).deed = f"model {card.name} as {destination}"
        await self.services.configure_model.copy(card.name, plain(destination))
        return Response()

    async def delete(self, request: Request) -> Response:
        """Take a model out of memory and off the disk."""
        name = parse_model(await self._fields(request))
        if self.services.list_models.find(name) is None and self.services.elsewhere.remote.serves(name):
            hint = "Delete it where it is"
            raise InvalidValue(f"The model '{name}' is an endpoint's and is not deleted from here", hint=hint)
        exchange_of(request.scope).deed = f"model {name}"
        await self.services.install_model.delete(self._card(name).name)
        return Response()

    async def has_blob(self, digest: str) -> Response:
        """Whether a file of these contents is here."""
        return Response(status_code=200 if await self.services.model_files.has(parse_digest(digest)) else 404)

    async def add_blob(self, digest: str, request: Request) -> Response:
        """Take a GGUF file, of which a model can be made then."""
        length = request.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else None
        async with aclosing(body_pieces(request.receive, self.bounds.body.patience)) as pieces:
            await self.services.model_files.take(parse_digest(digest), pieces, size)
        return Response(status_code=201)

    def _card(self, name: str) -> ModelCard:
        """Raises ModelNotFound, in Ollama's own words."""
        card = self.services.list_models.find(name)
        if card is None:
            raise ModelNotFound(f"model '{name[:200]}' not found", param="model")
        return card

    async def _fields(self, request: Request) -> Fields:
        return parse_body(await read_body(request.receive, self.bounds.body), self.bounds.request)

    async def _pulled(self, source: str) -> AsyncGenerator[bytes]:
        """Raises NotFound, Forbidden, InvalidValue, InstallFailed, DiskFull."""
        progress = Progress()
        yield progress.said("pulling manifest")
        installing = self.services.install_model
        if self.services.list_models.find(source) is None:
            try:
                name = (await installing.start(source)).name
            except (NotFound, InvalidValue) as missing:
                if isinstance(missing, InvalidValue) and not is_elsewhere(source):
                    raise
                raise NotFound("pull model manifest: file does not exist") from missing
            done = asyncio.create_task(installing.finished(name))
            try:
                while not (await asyncio.wait({done}, timeout=STEP))[0]:
                    state = next((one for one in self.services.list_models.installing() if one.name == name), None)
                    if state is not None:
                        yield progress.step(state)
                card = done.result()
            finally:
                # Whoever asked may leave; the installation goes on for the next who asks.
                done.cancel()
                with suppress(asyncio.CancelledError, AtriumError):
                    await done
            yield progress.whole(card)
            yield progress.said("verifying sha256 digest")
        yield progress.said("writing manifest")
        yield progress.said("success")

    async def _created(self, created: Created) -> AsyncGenerator[bytes]:
        """Raises ModelNotFound, InvalidValue, DiskFull."""
        progress = Progress()
        name = plain(created.name)
        if created.file:
            yield progress.said("parsing GGUF")
            await self.services.model_files.make(name, created.file, created.config)
            yield progress.said(f"using existing layer sha256:{created.file}")
        else:
            base = self._card(created.base)
            yield progress.said(f"using existing layer sha256:{base.digest}")
            await self.services.configure_model.create(name, base.name, created.config)
        yield progress.said("writing manifest")
        yield progress.said("success")


def is_elsewhere(source: str) -> bool:
    """A repository or an address, from which nothing is fetched."""
    return "/" in source and not source.startswith(("/", SCHEME))


async def answered(lines: AsyncGenerator[bytes], *, stream: bool) -> Response:
    """As lines, where an error is the last of them; or the last line alone, where it is the answer."""
    if stream:
        return StreamingResponse(told(lines), media_type=LINES)
    last = b"{}"
    async for line in lines:
        last = line
    return Response(last, media_type=JSON)


async def told(lines: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    try:
        async for line in lines:
            yield line
    except AtriumError as error:
        yield orjson.dumps({"error": error.sentence}) + b"\n"
