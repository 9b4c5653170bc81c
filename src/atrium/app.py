"""The one place that names concrete classes: builds everything, owns it, and takes it down in order."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil
from starlette.types import ASGIApp

from atrium.core.models import Ability, Installing
from atrium.engines.memory import read_budget, read_memory
from atrium.engines.parsing import DocumentParser, ParseBounds
from atrium.engines.placement.local import LocalPlacement, child_environment
from atrium.engines.recipes.fake import FakeRecipe
from atrium.engines.recipes.llamacpp import LlamaCppRecipe, installed_version, read_context
from atrium.engines.supervisor import Bounds, Folders, Supervisor
from atrium.engines.vocabularies import TokenBounds, Vocabularies
from atrium.gallery.build import Builder
from atrium.gallery.fetch import PipFetch
from atrium.gallery.index import read_index
from atrium.gallery.installer import Installer
from atrium.gallery.library import Library
from atrium.gallery.shelves import Shelves
from atrium.http.front import Front
from atrium.http.listen import bind, listen
from atrium.http.reload import Source
from atrium.http.server import Sight, build_front
from atrium.relay.deadlines import Deadlines
from atrium.relay.directory import Directory
from atrium.relay.fetch_media import MediaFetch
from atrium.relay.health import Checker
from atrium.relay.pictures import PictureBounds, PictureReader
from atrium.relay.pool import PoolBounds
from atrium.relay.remote_models import RemoteModels, remote_bounds
from atrium.relay.remotes import DirectoryRemotes
from atrium.relay.roster import Roster
from atrium.relay.runners import RunnerRelay
from atrium.services.browse_models import BrowseModels
from atrium.services.chat import AnswerChat, Overflows
from atrium.services.check_key import CheckKey
from atrium.services.complete import Complete
from atrium.services.condense_chat import CondenseChat
from atrium.services.configure_model import ConfigureModel
from atrium.services.elsewhere import Elsewhere
from atrium.services.embed import EmbedTexts
from atrium.services.fill_store import FillBounds, FillStore
from atrium.services.ground_chat import GroundChat
from atrium.services.install_model import InstallModel
from atrium.services.issue_key import IssueKey, Wish
from atrium.services.keep_completions import KeepCompletions
from atrium.services.list_models import ListModels
from atrium.services.load_model import LoadModel
from atrium.services.log_in import LogIn
from atrium.services.long_context import work_on
from atrium.services.passwords import Passwords
from atrium.services.people import ADMIN, People
from atrium.services.prepare_document import PrepareDocument
from atrium.services.promises import Documents, Services
from atrium.services.search_store import SearchStore
from atrium.services.store_documents import StoreDocuments
from atrium.services.stores import Cutting, Stores
from atrium.settings.endpoints import read_endpoints, read_given
from atrium.settings.load import load
from atrium.settings.tree import Limits, Loaded, Settings
from atrium.storage.endpoints import EndpointFile
from atrium.storage.folder import DataFolder
from atrium.storage.opening import Kept, Storage, open_shelf, open_storage
from atrium.storage.secrets import read_pepper
from atrium.storage.store_files import ShelfBounds
from atrium.telemetry.events import EventLog
from atrium.telemetry.metrics import Metrics

FIRST_KEY = "first start"
FLUSH_SECONDS = 60.0
WATCH_SECONDS = 0.25
GC_THRESHOLDS = (20_000, 20, 50)
CHARACTERS = 2
"""That a token of a document counts as: so few that a chunk of any language fits its model's window."""
FIRST_CHECKS = 2.0
"""Seconds that a start waits for endpoints to be checked for the first time."""
Tell = Callable[[str, Mapping[str, object]], None]


@dataclass(slots=True)
class Switch:
    """Whether new requests are welcome."""

    on: bool = True

    def turn_off(self) -> None:
        self.on = False


@dataclass(frozen=True, slots=True)
class Atrium:
    """A whole, open application. It listens only once `serve` is called."""

    settings: Settings
    folder: DataFolder
    services: Services
    engines: Supervisor
    storage: Storage
    front: Front
    tell: Tell
    welcome: Switch
    checker: Checker

    @property
    def app(self) -> ASGIApp:
        return self.front.app

    async def first_key(self) -> str | None:
        """A key of the administrator's at the first start, once: not again when all keys were revoked."""
        if not await self.storage.first("key"):
            return None
        _, _, full_key = await self.services.issue_key.issue(ADMIN, Wish(FIRST_KEY))
        return full_key


@dataclass(frozen=True, slots=True)
class Environment:
    """What comes from the process's environment and is no setting."""

    admin_password: str | None = None
    pepper: str | None = None


@asynccontextmanager
async def opened(loaded: Loaded, environment: Environment, *, tell: Tell | None = None) -> AsyncGenerator[Atrium]:
    """Lock the data folder, open what is in it, build the application; at the end everything is put back in order.

    Raises ConfigError, FolderInUse, SchemaTooNew.
    """
    settings = loaded.settings
    said: Tell = tell or EventLog(settings.telemetry.log, settings.telemetry.level)
    folder = DataFolder(loaded.data_dir)
    folder.create()
    with folder.locked():
        await asyncio.to_thread(folder.clear_tmp)
        pepper = read_pepper(folder.secrets, environment.pepper)
        kept = Kept(settings.auth.sessions_per_user, settings.auth.audit_rows, settings.limits.stored_chats)
        storage = await open_storage(settings.database.url, folder.database, pepper, kept)
        try:
            async with built(loaded, folder, storage, pepper, said) as atrium:
                await atrium.services.people.ensure_admin(environment.admin_password)
                yield atrium
        finally:
            await storage.close()


@asynccontextmanager
async def built(
    loaded: Loaded, folder: DataFolder, storage: Storage, pepper: bytes, tell: Tell
) -> AsyncGenerator[Atrium]:
    settings = loaded.settings
    library = build_library(settings, folder, tell)
    check_key = CheckKey(storage.keys, storage.sessions, pepper)
    directory = build_directory(settings)
    ways = build_relay(settings), build_elsewhere(settings, directory), settings.limits.answer_timeout
    async with (
        Checker(directory, settings.discovery.interval, tell) as checker,
        build_installer(settings, library, folder, tell) as installer,
        build_shelves(settings, library, tell) as shelves,
        build_engines(settings, folder, tell) as engines,
        build_vocabularies(settings.limits) as vocabularies,
        opened_documents(settings, folder, storage, EmbedTexts(library, engines, *ways), tell) as documents,
    ):
        overflows = Overflows(settings.models.context_policy, settings.models.context_policies)
        remotes = DirectoryRemotes(directory, settings.limits.answer_timeout)
        answer_chat = AnswerChat(library, engines, ways[0], build_pictures(settings), *ways[1:], overflows)
        long_context = work_on(answer_chat, remotes, vocabularies, settings.long_context, settings.limits.text)
        services = Services(
            elsewhere=ways[1],
            answer_chat=CondenseChat(answer_chat, long_context),
            complete=Complete(library, engines, *ways),
            embed=EmbedTexts(library, engines, *ways),
            list_models=ListModels(library),
            browse_models=BrowseModels(library, remotes),
            load_model=LoadModel(engines),
            install_model=InstallModel(installer, library, engines, shelves),
            configure_model=ConfigureModel(library, engines, shelves),
            people=(people := build_people(storage, check_key)),
            log_in=build_log_in(settings, storage, people, pepper, tell),
            keep_completions=KeepCompletions(storage.completions, settings.limits.stored_size),
            issue_key=IssueKey(storage.users, storage.keys, check_key, pepper),
            check_key=check_key,
            engines=engines,
            audit=storage.audit,
            documents=documents,
        )
        welcome, roster = Switch(), Roster(directory, checker, EndpointFile(folder.secrets), read_given)
        sight = Sight(tell, Metrics(engines.running), lambda: welcome.on, folder.tmp)
        await roster.restore()
        front = build_front(services, settings, sight, roster, source_of(loaded, library))
        flushing = asyncio.create_task(flush_often(check_key))
        try:
            yield Atrium(settings, folder, services, engines, storage, front, tell, welcome, checker)
        finally:
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)
            await check_key.flush()


def source_of(loaded: Loaded, library: Library) -> Source:
    return Source(lambda: load(loaded.config, loaded.data_dir, os.environ).settings, library.rename)


def build_people(storage: Storage, check_key: CheckKey) -> People:
    return People(storage.users, storage.sessions, check_key, Passwords())


def build_log_in(settings: Settings, storage: Storage, people: People, pepper: bytes, tell: Tell) -> LogIn:
    return LogIn(
        storage.users,
        storage.sessions,
        people,
        pepper,
        settings.auth.session,
        settings.auth.signup == "open",
        tell,
    )


@asynccontextmanager
async def opened_documents(
    settings: Settings, folder: DataFolder, storage: Storage, embed: EmbedTexts, tell: Tell
) -> AsyncGenerator[Documents]:
    """Document stores, with the tasks that fill them."""
    own = settings.documents
    bounds = ParseBounds(own.parse_memory, own.parse_timeout, own.parallel, own.max_text)
    parser = DocumentParser(bounds, folder.tmp, child_environment(os.environ))
    shelf = await open_shelf(storage, folder.stores, ShelfBounds(own.open_stores, own.vector_memory))
    cutting = Cutting(own.chunk_tokens * CHARACTERS, own.overlap_tokens * CHARACTERS)
    stores = Stores(storage.stores, shelf, storage.users, embed.models, cutting, own.stores_per_user)
    prepare = PrepareDocument(parser, shelf, embed, folder.files, own.max_chunks)
    filling = FillBounds(own.parallel, own.queue, folder.mark)
    try:
        async with FillStore(stores, storage.ingests, prepare, filling, tell) as fill:
            search = SearchStore(stores, shelf, embed, own.query_text)
            yield Documents(stores, StoreDocuments(stores, fill), search, parser, GroundChat(stores, search))
    finally:
        await parser.close()
        await shelf.close()


def build_library(settings: Settings, folder: DataFolder, tell: Tell) -> Library:
    chosen = settings.models.defaults
    defaults = {Ability.CHAT: chosen.chat, Ability.EMBEDDING: chosen.embedding}
    named = {ability: name for ability, name in defaults.items() if name}
    library = Library(folder.models, settings.model_aliases, named, tell)
    library.open()
    return library


def build_shelves(settings: Settings, library: Library, tell: Tell) -> Shelves:
    models = settings.models
    return Shelves(library, models.adopt, tell, rescan=models.rescan, unstated_context=models.adopted_context)


def build_installer(settings: Settings, library: Library, folder: DataFolder, tell: Tell) -> Installer:
    builder = Builder(library, PipFetch(settings.downloads.attempts), folder.tmp)
    return Installer(
        library,
        builder,
        read_index(),
        tell,
        parallel=settings.downloads.parallel_jobs,
        allow_fake=settings.models.allow_fake,
    )


def build_engines(settings: Settings, folder: DataFolder, tell: Tell) -> Supervisor:
    models, limits = settings.models, settings.limits
    bounds = Bounds(
        memory=read_budget(models.memory, read_memory()),
        keep_alive=models.keep_alive,
        load_timeout=models.load_timeout,
        queue=limits.queue,
        queue_timeout=limits.queue_timeout,
    )
    llamacpp = LlamaCppRecipe(
        slots=models.parallel,
        context=read_context(models.context),
        threads=models.threads or psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        prompt_cache=models.prompt_cache,
        engine_version=installed_version(),
    )
    recipes = {"llamacpp": llamacpp, "fake": FakeRecipe(models.parallel)}
    placement = LocalPlacement(child_environment(os.environ))
    return Supervisor(recipes, placement, bounds, Folders(folder.run, folder.logs), tell)


def build_vocabularies(limits: Limits) -> Vocabularies:
    return Vocabularies(child_environment(os.environ), TokenBounds(limits.token_timeout, limits.queue))


def build_directory(settings: Settings) -> Directory:
    """Raises ConfigError."""
    proxy = settings.proxy
    bounds = PoolBounds(proxy.connect_timeout, proxy.keep_alive, proxy.connections, proxy.max_response_header)
    optimistic = settings.routing == "optimistic"
    directory = Directory(bounds, settings.model_aliases, settings.balancer, optimistic)
    for spec in read_endpoints(settings.endpoints):
        directory.add(spec)
    return directory


def build_relay(settings: Settings) -> RunnerRelay:
    limits = settings.limits
    deadlines = Deadlines(head=limits.token_timeout, between=limits.token_timeout, whole=limits.answer_timeout)
    return RunnerRelay(deadlines, schema_size=limits.schema_size)


def build_pictures(settings: Settings) -> PictureReader:
    limits = settings.limits
    return PictureReader(PictureBounds(limits.images, limits.image_size, limits.image_pixels), MediaFetch())


def build_elsewhere(settings: Settings, directory: Directory) -> Elsewhere:
    return Elsewhere(RemoteModels(directory, remote_bounds(settings)), settings.limits.answer_timeout)


async def flush_often(check_key: CheckKey) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        await check_key.flush()


@dataclass(frozen=True, slots=True)
class Onlookers:
    """Who is told, on a terminal or in a test, what happens at a start."""

    announce: Callable[[str, str | None], None]
    """The address and, at the first start, the one key."""
    installing: Callable[[Sequence[Installing]], None]
    """How far the default models are, again and again until they are here or have failed."""


async def serve(loaded: Loaded, environment: Environment, onlookers: Onlookers) -> None:
    """Listen until a signal.

    Raises Refusal leaves: ConfigError, FolderInUse, PortInUse, SchemaTooNew.
    """
    async with opened(loaded, environment) as atrium:
        settings = atrium.settings
        sockets = bind(settings.server, atrium.folder.control_socket)
        try:
            onlookers.announce(sockets.url, await atrium.first_key())
            atrium.tell("server.started", {"url": sockets.url, "data_dir": str(atrium.folder.path)})
            if not settings.auth.required:
                atrium.tell("server.open_door", {"url": sockets.url, "host": settings.server.host})
            await atrium.checker.checked_once(FIRST_CHECKS)
            settle_heap()
            preparing = asyncio.create_task(prepare_models(atrium, onlookers))
            await listen(atrium.front, sockets, settings.server, settings.limits, stopping_of(atrium))
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
            atrium.tell("server.stopped", {})
        finally:
            atrium.folder.control_socket.unlink(missing_ok=True)


def settle_heap() -> None:
    """What the start has made lives for ever: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def stopping_of(atrium: Atrium) -> Callable[[], None]:
    def stopping() -> None:
        if atrium.welcome.on:
            atrium.welcome.turn_off()
            atrium.tell("server.stopping", {"grace": atrium.settings.server.stop_grace})

    return stopping


async def prepare_models(atrium: Atrium, onlookers: Onlookers) -> None:
    """Install the default models that are missing, and load what is to be preloaded."""
    if atrium.settings.models.install_defaults:
        for source in atrium.services.install_model.default_sources():
            await atrium.services.install_model.start(source)
        await watch_installing(atrium.services.list_models, onlookers)
    wanted = atrium.settings.models.preload
    cards = [card for card in atrium.services.list_models.listed() if card.name in wanted]
    await atrium.engines.preload(sorted(cards, key=lambda card: wanted.index(card.name)))


async def watch_installing(models: ListModels, onlookers: Onlookers) -> None:
    while any(one.stage != "failed" for one in models.installing()):
        onlookers.installing(models.installing())
        await asyncio.sleep(WATCH_SECONDS)
    onlookers.installing(models.installing())
