"""The parts of the application, each from its own settings."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import psutil

from atrium.core.document_ports import Parser
from atrium.core.events import Tell
from atrium.core.models import Ability
from atrium.decisions.choose_endpoint import Balancing
from atrium.decisions.choose_overflow import Overflows
from atrium.engines.bounds import Folders, bounds_of
from atrium.engines.parsing import DocumentParser, ParseBounds
from atrium.engines.placement.local import LocalPlacement, child_environment
from atrium.engines.recipes.fake import FakeRecipe
from atrium.engines.recipes.llamacpp import LlamaCppRecipe, installed_version, read_context
from atrium.engines.supervisor import Supervisor
from atrium.engines.vocabularies import TokenBounds, Vocabularies
from atrium.gallery.build import Builder
from atrium.gallery.contents import GgufContents
from atrium.gallery.download import FileDownload
from atrium.gallery.fetch import PipFetch
from atrium.gallery.index import read_index
from atrium.gallery.installer import Installer
from atrium.gallery.library import Library
from atrium.gallery.sent_files import SentFolder
from atrium.gallery.shelves import Shelves
from atrium.http.reload import Source
from atrium.relay.compiling import Compiler
from atrium.relay.deadlines import Deadlines
from atrium.relay.directory import Directory
from atrium.relay.downloads import HttpDownloads
from atrium.relay.fetch_media import MediaFetch
from atrium.relay.pictures import PictureBounds, PictureReader
from atrium.relay.pool import PoolBounds
from atrium.relay.remote_models import RemoteModels, remote_bounds
from atrium.relay.runners import RunnerRelay
from atrium.relay.shapes import Shaper
from atrium.services.attach_files import FileBounds, ReadFiles
from atrium.services.chat import AnswerChat
from atrium.services.check_key import CheckKey
from atrium.services.configure_model import ConfigureModel
from atrium.services.elsewhere import Elsewhere
from atrium.services.embed_beside import EmbedBeside
from atrium.services.fill_store import FillBounds, FillStore
from atrium.services.ground_chat import GroundChat
from atrium.services.log_in import LogIn
from atrium.services.meter import Meter
from atrium.services.model_files import ModelFiles
from atrium.services.passwords import Passwords
from atrium.services.people import People
from atrium.services.personalities import Personalities, read_personalities
from atrium.services.prepare_document import PrepareDocument
from atrium.services.promises import Documents
from atrium.services.search_store import SearchStore
from atrium.services.store_documents import StoreDocuments
from atrium.services.stores import Cutting, Stores
from atrium.settings.endpoints import read_endpoints
from atrium.settings.load import load
from atrium.settings.tree import Limits, Loaded, Settings
from atrium.storage.database import Database
from atrium.storage.folder import DataFolder
from atrium.storage.opening import Storage, open_shelf
from atrium.storage.postgres_shelf import PostgresBounds
from atrium.storage.store_files import ShelfBounds

FLUSH_SECONDS = 5.0
CHARACTERS = 2
"""That a token of a document counts as: so few that a chunk of any language fits its model's window."""


def source_of(loaded: Loaded, library: Library) -> Source:
    return Source(lambda: load(loaded.config, loaded.data_dir, os.environ).settings, library.rename)


def build_people(storage: Storage, check_key: CheckKey) -> People:
    return People(storage.users, storage.sessions, check_key, Passwords())


def build_personalities(settings: Settings) -> Personalities:
    """Raises ConfigError."""
    return read_personalities(settings.personalities, datetime.now(UTC))


def build_log_in(settings: Settings, storage: Storage, people: People, pepper: bytes, tell: Tell) -> LogIn:
    signup = settings.auth.signup == "open"
    return LogIn(storage.users, storage.sessions, people, pepper, settings.auth.session, signup, tell)


@asynccontextmanager
async def opened_documents(
    settings: Settings, folder: DataFolder, storage: Storage, embed: EmbedBeside, tell: Tell
) -> AsyncGenerator[Documents]:
    """Document stores, with the tasks that fill them."""
    own = settings.documents
    # As many of stores as of chats: neither waits for the other's.
    bounds = ParseBounds(own.parse_memory, own.parse_timeout, own.parallel * 2, own.max_text)
    parser = DocumentParser(bounds, folder.tmp, child_environment(os.environ))
    files = ShelfBounds(own.open_stores, own.vector_memory)
    rows = PostgresBounds(own.vector_memory, own.exact_below)
    shelf = await open_shelf(storage, folder.stores, files, rows, tell)
    cutting = Cutting(own.chunk_tokens * CHARACTERS, own.overlap_tokens * CHARACTERS)
    stores = Stores(storage.stores, shelf, storage.users, embed, cutting, own.stores_per_user)
    prepare = PrepareDocument(parser, shelf, embed, folder.files, own.max_chunks)
    filling = FillBounds(own.parallel, own.queue, own.documents_per_store, folder.mark)
    try:
        async with FillStore(stores, storage.ingests, prepare, filling, tell) as fill:
            search = SearchStore(shelf, embed, own.query_text)
            contents, read = StoreDocuments(stores, fill, embed), build_reader(settings, folder, parser)
            yield Documents(stores, contents, search, parser, GroundChat(stores, search), read)
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
    attempts = settings.downloads.attempts
    builder = Builder(library, PipFetch(attempts), FileDownload(HttpDownloads(), attempts), folder.tmp)
    return Installer(
        library,
        builder,
        read_index(),
        tell,
        parallel=settings.downloads.parallel_jobs,
        allow_fake=settings.models.allow_fake,
    )


def build_files(settings: Settings, folder: DataFolder, gallery: Installer, configure: ConfigureModel) -> ModelFiles:
    sent = SentFolder(folder.tmp, settings.models.sent_size)
    return ModelFiles(sent, GgufContents(), configure.models, gallery, configure)


def build_engines(settings: Settings, folder: DataFolder, tell: Tell) -> Supervisor:
    models = settings.models
    llamacpp = LlamaCppRecipe(
        slots=models.parallel,
        context=read_context(models.context),
        threads=models.threads or psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        prompt_cache=models.prompt_cache,
        engine_version=installed_version(),
    )
    recipes = {"llamacpp": llamacpp, "fake": FakeRecipe(models.parallel)}
    placement = LocalPlacement(child_environment(os.environ))
    bounds = bounds_of(models, settings.limits)
    return Supervisor(recipes, placement, bounds, Folders(folder.run, folder.logs, folder.seen), tell)


def build_vocabularies(limits: Limits) -> Vocabularies:
    return Vocabularies(child_environment(os.environ), TokenBounds(limits.token_timeout, limits.queue))


def build_directory(settings: Settings, tell: Tell) -> Directory:
    """Raises ConfigError."""
    proxy = settings.proxy
    bounds = PoolBounds(proxy.connect_timeout, proxy.keep_alive, proxy.connections, proxy.max_response_header)
    optimistic = settings.routing == "optimistic"
    balancing = Balancing(settings.balancer, settings.warm_first)
    directory = Directory(bounds, settings.model_aliases, balancing, optimistic, proxy.circuit_rest, tell)
    for spec in read_endpoints(settings.endpoints):
        directory.add(spec)
    return directory


def build_compiler() -> Compiler:
    return Compiler(child_environment(os.environ))


def build_relay(settings: Settings, compiler: Compiler) -> RunnerRelay:
    limits = settings.limits
    deadlines = Deadlines(head=limits.token_timeout, between=limits.token_timeout, whole=limits.answer_timeout)
    return RunnerRelay(deadlines, Shaper(limits.schema_size, compiler))


def build_pictures(settings: Settings) -> PictureReader:
    limits = settings.limits
    return PictureReader(PictureBounds(limits.images, limits.image_size, limits.image_pixels), MediaFetch())


def build_chat(
    library: Library, engines: Supervisor, ways: tuple[RunnerRelay, Elsewhere, float], settings: Settings
) -> AnswerChat:
    """`ways` to local and to remote models, and how many seconds an answer may take."""
    overflows = Overflows(settings.models.context_policy, settings.models.context_policies)
    return AnswerChat(library, engines, ways[0], build_pictures(settings), *ways[1:], overflows)


def build_reader(settings: Settings, folder: DataFolder, parser: Parser) -> ReadFiles:
    limits = settings.limits
    bounds = FileBounds(limits.files, limits.file_size, limits.text, limits.file_timeout, limits.queue_timeout)
    return ReadFiles(parser, bounds, folder.tmp, asyncio.Semaphore(settings.documents.parallel))


def build_elsewhere(settings: Settings, directory: Directory) -> Elsewhere:
    remote = RemoteModels(directory, remote_bounds(settings), build_pictures(settings))
    return Elsewhere(remote, settings.limits.answer_timeout)


@asynccontextmanager
async def kept_fresh(check_key: CheckKey, meter: Meter, database: Database, tell: Tell) -> AsyncGenerator[None]:
    """Uses of keys are written down; with a database that gateways share, what the others did is read."""
    await meter.reload()

    async def refresh() -> None:
        failing = False
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await check_key.flush()
                await (meter.reload() if database.sqlite else meter.refresh())
                failing = False
            except Exception as broken:  # noqa: BLE001 - a task's root: it is tried again
                if not failing:
                    tell("upkeep.failed", {"error": str(broken)[:500]})
                failing = True

    refreshing = asyncio.create_task(refresh())
    try:
        yield
    finally:
        refreshing.cancel()
        await asyncio.gather(refreshing, return_exceptions=True)
        await check_key.flush()
