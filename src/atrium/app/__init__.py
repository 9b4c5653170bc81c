"""The one place that names concrete classes: builds everything, owns it, and takes it down in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from atrium.app.parts import (
    Tell,
    build_chat,
    build_compiler,
    build_directory,
    build_elsewhere,
    build_engines,
    build_files,
    build_installer,
    build_library,
    build_log_in,
    build_people,
    build_personalities,
    build_relay,
    build_shelves,
    build_vocabularies,
    kept_fresh,
    opened_documents,
    source_of,
)
from atrium.core.models import Installing
from atrium.engines.preload import preload
from atrium.engines.supervisor import Supervisor
from atrium.http.front import Front
from atrium.http.listen import bind, listen
from atrium.http.server import Sight, build_front
from atrium.relay.compiling import Compiler
from atrium.relay.health import Checker
from atrium.relay.remotes import DirectoryRemotes
from atrium.relay.roster import Roster
from atrium.services.attach_files import WithFiles
from atrium.services.browse_models import BrowseModels
from atrium.services.check_key import CheckKey
from atrium.services.complete import Complete
from atrium.services.condense_chat import CondenseChat
from atrium.services.configure_model import ConfigureModel
from atrium.services.embed import EmbedTexts
from atrium.services.embed_beside import EmbedBeside
from atrium.services.install_model import InstallModel
from atrium.services.issue_key import IssueKey, Wish
from atrium.services.keep_completions import KeepCompletions
from atrium.services.list_models import ListModels
from atrium.services.load_model import LoadModel
from atrium.services.long_context import work_on
from atrium.services.meter import Meter
from atrium.services.metered import MeteredChat, MeteredCompletion, MeteredEmbedding, Usher
from atrium.services.people import ADMIN
from atrium.services.promises import Services
from atrium.services.read_usage import ReadUsage
from atrium.services.usage import UsageBounds, UsageLog
from atrium.settings.endpoints import read_given
from atrium.settings.tree import Loaded, Settings
from atrium.storage.endpoints import EndpointFile
from atrium.storage.folder import DataFolder
from atrium.storage.opening import Kept, Storage, open_storage
from atrium.storage.secrets import read_pepper
from atrium.telemetry.events import EventLog
from atrium.telemetry.metrics import Metrics
from atrium.telemetry.runner_metrics import RunnerTallies

FIRST_KEY = "first start"
WATCH_SECONDS = 0.25
GC_THRESHOLDS = (20_000, 20, 50)
FIRST_CHECKS = 2.0
"""Seconds that a start waits for endpoints to be checked for the first time."""


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
        auth = settings.auth
        kept = Kept(auth.sessions_per_user, auth.audit_rows, settings.limits.stored_chats, auth.keys_per_user)
        storage = await open_storage(settings.database.url, folder.database, pepper, kept)
        try:
            async with (
                build_compiler() as compiler,
                built(loaded, folder, storage, pepper, said, compiler) as atrium,
            ):
                await atrium.services.people.ensure_admin(environment.admin_password)
                yield atrium
        finally:
            await storage.close()


@asynccontextmanager
async def built(
    loaded: Loaded, folder: DataFolder, storage: Storage, pepper: bytes, tell: Tell, compiler: Compiler
) -> AsyncGenerator[Atrium]:
    settings = loaded.settings
    library = build_library(settings, folder, tell)
    check_key = CheckKey(storage.keys, storage.sessions, pepper)
    directory = build_directory(settings, tell)
    ways = build_relay(settings, compiler), build_elsewhere(settings, directory), settings.limits.answer_timeout
    async with (
        Checker(directory, settings.discovery.interval) as checker,
        build_installer(settings, library, folder, tell) as installer,
        build_shelves(settings, library, tell) as shelves,
        build_engines(settings, folder, tallies := RunnerTallies(tell)) as engines,
        build_vocabularies(settings.limits) as vocabularies,
        UsageLog(storage.usage, UsageBounds(settings.usage.queue, settings.usage.keep), tell) as usage,
        kept_fresh(check_key, (usher := Usher(library, Meter(storage.quotas))).meter, storage.database, tell),
        opened_documents(
            settings, folder, storage, EmbedBeside(EmbedTexts(library, engines, *ways), usher, usage.note), tell
        ) as documents,
    ):
        remotes, answer_chat = DirectoryRemotes(directory), build_chat(library, engines, ways, settings)
        long_context = work_on(answer_chat, remotes, vocabularies, usher, settings.long_context, settings.limits.text)
        services = Services(
            elsewhere=ways[1],
            long_context=long_context,
            answer_chat=WithFiles(MeteredChat(CondenseChat(answer_chat, long_context), usher), ways[1], documents.read),
            complete=MeteredCompletion(Complete(library, engines, *ways), usher),
            embed=MeteredEmbedding(EmbedTexts(library, engines, *ways), usher),
            list_models=ListModels(library),
            personalities=build_personalities(settings),
            browse_models=BrowseModels(library, remotes),
            load_model=LoadModel(engines, ways[1].remote, usher),
            install_model=InstallModel(installer, library, engines, shelves),
            model_files=build_files(settings, folder, installer, ConfigureModel(library, engines, shelves)),
            people=(people := build_people(storage, check_key)),
            log_in=build_log_in(settings, storage, people, pepper, tell),
            keep_completions=KeepCompletions(storage.completions, settings.limits.stored_size),
            issue_key=IssueKey(storage.users, storage.keys, check_key, pepper),
            check_key=check_key,
            usage=ReadUsage(usage, storage.usage, storage.users, storage.keys),
            engines=engines,
            audit=storage.audit,
            usher=usher,
            documents=documents,
        )
        welcome, roster = Switch(), Roster(directory, checker, EndpointFile(folder.secrets), read_given)
        sight = Sight(tell, Metrics(engines.running, tallies), usage.note, lambda: welcome.on, folder.tmp)
        await roster.restore()
        front = build_front(services, settings, sight, roster, source_of(loaded, library))
        yield Atrium(settings, folder, services, engines, storage, front, tell, welcome, checker)


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
    cards = {card.name: card for card in atrium.services.list_models.listed()}
    await preload(atrium.settings.models.preload, cards, atrium.engines, atrium.tell)


async def watch_installing(models: ListModels, onlookers: Onlookers) -> None:
    while any(one.stage != "failed" for one in models.installing()):
        onlookers.installing(models.installing())
        await asyncio.sleep(WATCH_SECONDS)
    onlookers.installing(models.installing())
