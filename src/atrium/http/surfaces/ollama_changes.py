"""Changing which models there are, in Ollama's words: pull, create, copy, delete. For administrators alone.

Source: contract `ollama.md`, section 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
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
from atrium.http.edge import dropped_header
from atrium.http.reading import body_pieces, read_body, while_connected
from atrium.http.scope import exchange_of
from atrium.http.surfaces.openai import OpenAiBounds
from atrium.services.promises import Services

JSON = "application/json"
LINES = "application/x-ndjson"
INSTEAD = (
    "Take a name that 'atrium models available' lists, or the http or https address or the absolute path of a GGUF file"
)
ADDRESSES = ("http://", "https://")
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
        exchange_of(request.scope).deed = f"model {source.partition('?')[0]}"
        # Nothing is fetched past a certificate that is none.
        dropped = dropped_header(("insecure",) if fields.flag("insecure") else ())
        stream = fields.flag("stream", default=True)
        return await answered(request, self._pulled(source), dropped, stream=stream)

    async def push(self, request: Request) -> Response:
        """Refused: there is nowhere to push to."""
        parse_model(await self._fields(request))
        raise NotOffered("Models are not pushed from here", hint="Copy the file, or install it on the other server")

    async def create(self, request: Request) -> Response:
        """A model of another one's files, with words and settings of its own."""
        fields = await self._fields(request)
        created = parse_create(fields)
        exchange_of(request.scope).deed = f"model {created.name} of {created.base or created.file}"
        stream = fields.flag("stream", default=True)
        return await answered(request, self._created(created), dropped_header(created.dropped), stream=stream)

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
        """Raises ModelNotFound, in Ollama's own words, and InvalidValue for a model that only an endpoint has."""
        card = self.services.list_models.find(name)
        if card is None and self.services.elsewhere.remote.serves(name):
            said = f"The model '{name[:200]}' is an endpoint's and is neither copied nor changed nor deleted from here"
            raise InvalidValue(said, hint="Do so where it is", param="model")
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
        if name := await self._begun(source):
            done = asyncio.create_task(installing.finished(name))
            try:
                while not (await asyncio.wait({done}, timeout=STEP))[0]:
                    state = next((one for one in self.services.list_models.installing() if one.name == name), None)
                    if state is not None:
                        yield progress.step(state)
                card = done.result()
            finally:
                # Whoever asked may leave: it goes on for others who wait, and else waits for the next who asks.
                done.cancel()
                with suppress(asyncio.CancelledError, AtriumError):
                    await done
            yield progress.whole(card)
            yield progress.said("verifying sha256 digest")
        yield progress.said("writing manifest")
        yield progress.said("success")

    async def _begun(self, source: str) -> str:
        """The name of the model that is being installed now; empty where it is here, or only an endpoint has it.

        Raises NotFound, in Ollama's own words, Forbidden, InvalidValue, DiskFull.
        """
        if self._is_here(source):
            return ""
        try:
            return (await self.services.install_model.start(source, held=True)).name
        except (NotFound, InvalidValue) as missing:
            if self.services.elsewhere.remote.serves(source):
                return ""
            if isinstance(missing, InvalidValue) and not is_repository(source):
                raise
            raise NotFound("pull model manifest: file does not exist", hint=way_out(source, missing)) from missing

    def _is_here(self, source: str) -> bool:
        models = self.services.list_models
        if source.startswith(ADDRESSES):
            return any(card.source == source.partition("?")[0] for card in models.listed())
        return models.find(source) is not None

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


def is_repository(source: str) -> bool:
    """Of files elsewhere, from which nothing is fetched."""
    return "/" in source and not source.startswith(("/", SCHEME, *ADDRESSES))


def way_out(source: str, missing: AtriumError) -> str:
    """What to do instead, where that is to be guessed: a name with a tag or a repository is another program's."""
    if ":" in source or is_repository(source):
        return INSTEAD
    return missing.hint if missing.hint.startswith("Did you mean") else ""


async def answered(
    request: Request, lines: AsyncGenerator[bytes], headers: Mapping[str, str], *, stream: bool
) -> Response:
    """As lines, where an error is the last of them, or the whole answer where it comes before the first; or the last
    line alone, where it is the answer. What was begun ends when the client leaves."""
    first = await while_connected(request.receive, first_of(lines))
    if stream:
        return StreamingResponse(told(first, lines), media_type=LINES, headers=headers)
    return Response(await while_connected(request.receive, last_of(first, lines)), media_type=JSON, headers=headers)


async def first_of(lines: AsyncGenerator[bytes]) -> bytes:
    return await anext(lines)


async def last_of(first: bytes, lines: AsyncGenerator[bytes]) -> bytes:
    last = first
    async with aclosing(lines):
        async for line in lines:
            last = line
    return last


async def told(first: bytes, lines: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    try:
        async with aclosing(lines):
            async for line in lines:
                yield line
    except AtriumError as error:
        yield orjson.dumps({"error": error.sentence}) + b"\n"
