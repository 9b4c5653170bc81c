"""The settings tree. Each field's comment line is its documentation; `docs/configuration.md` is made from it.

Durations are seconds and sizes bytes once loaded; in YAML and the environment they may carry units (`load.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from atrium.settings.auth import Auth
from atrium.settings.documents import DocumentSettings, FileSettings
from atrium.settings.gateway import Balancer, Discovery, EndpointSettings, Proxy, StickySessions, Translation
from atrium.settings.marks import AtLeast, Doc, Duration, Size, Stay
from atrium.settings.personalities import PersonalitySettings
from atrium.settings.usage import UsageSettings

MB = 1024 * 1024
ContextPolicy = Literal["usual", "refuse", "left", "middle", "summarize"]


@dataclass(frozen=True, slots=True)
class Tls:
    cert: Annotated[Path, Doc("PEM file with the certificate chain")]
    key: Annotated[Path, Doc("PEM file with the private key")]


@dataclass(frozen=True, slots=True)
class Server:
    host: Annotated[str, Doc("address to listen on")] = "127.0.0.1"
    port: Annotated[int, Doc("port to listen on; 0 takes a free one"), AtLeast(0)] = 9642
    tls: Annotated[Tls | None, Doc("certificate and key for HTTPS; null serves plain HTTP")] = None
    stop_grace: Annotated[Duration, Doc("how long a stop waits for running answers before it cancels them")] = 10.0


@dataclass(frozen=True, slots=True)
class Database:
    url: Annotated[str | None, Doc("`postgresql://…`; null keeps SQLite in the data folder")] = None


@dataclass(frozen=True, slots=True)
class Limits:
    global_per_minute: Annotated[int, Doc("requests to the whole server; 0 sets no limit")] = 1000
    per_ip_per_minute: Annotated[int, Doc("requests from one address; 0 sets no limit")] = 100
    burst: Annotated[int, Doc("requests that may come at once within those limits"), AtLeast(1)] = 50
    health_per_minute: Annotated[int, Doc("requests of `/internal/health` from one address; 0 sets no limit")] = 1000
    max_body: Annotated[Size, Doc("largest request body")] = 100 * MB
    buffered_bytes: Annotated[Size, Doc("memory for all request bodies that are being taken together")] = 512 * MB
    max_header: Annotated[Size, Doc("largest request head, at least 4KB"), AtLeast(4096)] = MB
    header_timeout: Annotated[Duration, Doc("how long a client may take to send a request's head")] = 30.0
    body_timeout: Annotated[Duration, Doc("longest silence while a client sends a body")] = 30.0
    connections: Annotated[int, Doc("open client connections; more wait in the kernel's queue"), AtLeast(1)] = 4096
    idle_timeout: Annotated[
        Duration, Doc("how long a client connection is kept that is unused, or whose client reads nothing")
    ] = 75.0
    queue: Annotated[int, Doc("requests that may wait for one model; more are refused with 503"), AtLeast(1)] = 256
    queue_timeout: Annotated[Duration, Doc("how long a request may wait for a model or a slot")] = 600.0
    answer_timeout: Annotated[Duration, Doc("longest time for one whole local answer")] = 3600.0
    token_timeout: Annotated[Duration, Doc("longest silence of a runner in mid answer before it counts as hung")] = (
        120.0
    )
    text: Annotated[int, Doc("most characters of a text to tokenise, or of a long context"), AtLeast(1)] = 16 * MB
    json_depth: Annotated[int, Doc("deepest nesting of a JSON body"), AtLeast(1)] = 200
    json_items: Annotated[int, Doc("most values in a JSON body"), AtLeast(1)] = 2_000_000
    messages: Annotated[int, Doc("most messages in one chat"), AtLeast(1)] = 10_000
    tools: Annotated[int, Doc("most tools in one chat"), AtLeast(1)] = 128
    schema_size: Annotated[Size, Doc("largest JSON schema or grammar, as text")] = 256 * 1024
    images: Annotated[int, Doc("most images in one chat"), AtLeast(1)] = 32
    image_size: Annotated[Size, Doc("largest file of an image")] = 20 * MB
    image_pixels: Annotated[int, Doc("most points of an image, width times height"), AtLeast(1)] = 40_000_000
    files: Annotated[int, Doc("most files in one chat"), AtLeast(1)] = 16
    file_size: Annotated[Size, Doc("largest file in a chat")] = 20 * MB
    file_timeout: Annotated[Duration, Doc("how long reading the files of one chat may take")] = 120.0
    stored_chats: Annotated[int, Doc("chats kept with `store` for one user; of more the oldest leave"), AtLeast(1)] = (
        1000
    )
    stored_size: Annotated[Size, Doc("largest chat that is kept, question and answer together")] = 4 * MB
    inputs: Annotated[int, Doc("most texts in one embeddings request"), AtLeast(1)] = 2048


@dataclass(frozen=True, slots=True)
class Cors:
    enabled: Annotated[bool, Doc("answer browsers of other origins")] = True
    origins: Annotated[tuple[str, ...], Doc("allowed origins; `*` for all")] = ("*",)


@dataclass(frozen=True, slots=True)
class DefaultModels:
    chat: Annotated[str | None, Doc("model of a chat that names none")] = "smollm2-135m-instruct"
    embedding: Annotated[str | None, Doc("model of an embedding that names none")] = "all-minilm-l6-v2"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    install_defaults: Annotated[bool, Doc("install the default models at the first start")] = True
    defaults: Annotated[DefaultModels, Doc("which model answers when a request names none")] = DefaultModels()
    memory: Annotated[
        str, Doc("memory for all runners: a share of the machine's (or cgroup's) such as `70%`, or a size")
    ] = "70%"
    reserve: Annotated[
        str, Doc("memory that stays free of runners when other programs take theirs: a share or a size")
    ] = "3%"
    keep_alive: Annotated[Stay, Doc("how long an unused model stays loaded; 0: not at all, `never`: for ever")] = 600.0
    parallel: Annotated[int, Doc("slots per chat model: answers made at the same time"), AtLeast(1)] = 4
    context: Annotated[
        str, Doc("tokens per slot, or `auto`: what the model was trained for, as far as memory allows")
    ] = "auto"
    threads: Annotated[int, Doc("threads per runner; 0 takes the physical cores"), AtLeast(0)] = 0
    context_policy: Annotated[
        ContextPolicy,
        Doc("a chat that does not fit: refused, its turns dropped or summarised; `usual`: as its dialect does"),
    ] = "usual"
    context_policies: Annotated[dict[str, ContextPolicy], Doc("the same for single models, by name")] = field(
        default_factory=dict[str, ContextPolicy]
    )
    prompt_cache: Annotated[Size, Doc("memory a runner may keep for prompts it has seen")] = 64 * MB
    adopt: Annotated[
        tuple[Path, ...], Doc("folders whose GGUF files are served in place: your own, Ollama's, LM Studio's, a hub's")
    ] = ()
    adopted_context: Annotated[int, Doc("tokens per slot where an adopted file states none"), AtLeast(256)] = 512
    rescan: Annotated[Duration, Doc("how often adopted folders and model configurations are looked through")] = 1.0
    sent_size: Annotated[Size, Doc("largest file of a model that is sent to `/api/blobs`")] = 100 * 1024 * MB
    preload: Annotated[tuple[str, ...], Doc("models to load at start, in this order")] = ()
    load_timeout: Annotated[Duration, Doc("how long a runner may take to be ready")] = 300.0
    hang_timeout: Annotated[Duration, Doc("how long a runner may not answer at all before it counts as hung")] = 60.0
    allow_fake: Annotated[bool, Doc("allow `fake:` models, which invent their answers, for tests")] = False


@dataclass(frozen=True, slots=True)
class LongContextSettings:
    local: Annotated[int, Doc("calls of a local model at the same time"), AtLeast(1)] = 2
    remote: Annotated[int, Doc("calls of an endpoint's model at the same time"), AtLeast(1)] = 8
    calls: Annotated[int, Doc("calls that one text may take; longer texts are refused"), AtLeast(1)] = 2000


@dataclass(frozen=True, slots=True)
class Telemetry:
    log: Annotated[Literal["json", "text"], Doc("shape of the event log on stderr")] = "json"
    level: Annotated[Literal["debug", "info", "warning", "error"], Doc("least level that is logged")] = "info"


@dataclass(frozen=True, slots=True)
class Downloads:
    attempts: Annotated[int, Doc("tries before an installation fails"), AtLeast(1)] = 4
    parallel_jobs: Annotated[int, Doc("installations at the same time"), AtLeast(1)] = 2


@dataclass(frozen=True, slots=True)
class Settings:
    server: Annotated[Server, Doc("where the server listens")] = Server()
    auth: Annotated[Auth, Doc("who may come in")] = field(default_factory=Auth)
    database: Annotated[Database, Doc("where state is kept")] = Database()
    model_aliases: Annotated[dict[str, tuple[str, ...]], Doc("other names for models: a name or a list of names")] = (
        field(default_factory=dict[str, tuple[str, ...]])
    )
    endpoints: Annotated[tuple[EndpointSettings, ...], Doc("servers that requests are relayed to")] = ()
    balancer: Annotated[Balancer, Doc("how one of several endpoints is chosen")] = "priority"
    warm_first: Annotated[bool, Doc("among equals, prefer an endpoint that has the model in memory")] = False
    routing: Annotated[Literal["strict", "optimistic"], Doc("`optimistic` sends a model nobody listed to anybody")] = (
        "strict"
    )
    proxy: Annotated[Proxy, Doc("relaying to endpoints")] = field(default_factory=Proxy)
    translation: Annotated[Translation, Doc("between callers' and endpoints' dialects")] = field(
        default_factory=Translation
    )
    discovery: Annotated[Discovery, Doc("finding out which models endpoints have")] = field(default_factory=Discovery)
    sticky_sessions: Annotated[StickySessions, Doc("conversations that stay with an endpoint")] = field(
        default_factory=StickySessions
    )
    trusted_proxies: Annotated[tuple[str, ...], Doc("addresses or networks whose `X-Forwarded-For` counts")] = ()
    limits: Annotated[Limits, Doc("bounds of every queue, body and wait")] = Limits()
    cors: Annotated[Cors, Doc("browsers of other origins")] = Cors()
    models: Annotated[ModelSettings, Doc("local models")] = field(default_factory=ModelSettings)
    files: Annotated[FileSettings, Doc("files that are sent in")] = field(default_factory=FileSettings)
    documents: Annotated[DocumentSettings, Doc("document stores")] = field(default_factory=DocumentSettings)
    long_context: Annotated[LongContextSettings, Doc("texts that are longer than a model's window")] = (
        LongContextSettings()
    )
    personalities: Annotated[tuple[PersonalitySettings, ...], Doc("manners that a chat may ask for by name")] = ()
    usage: Annotated[UsageSettings, Doc("what was used by whom")] = field(default_factory=UsageSettings)
    telemetry: Annotated[Telemetry, Doc("logs and metrics")] = Telemetry()
    downloads: Annotated[Downloads, Doc("installing models")] = Downloads()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with where they came from."""

    settings: Settings
    data_dir: Path
    config: Path | None
    """The file that was read, if one was."""
