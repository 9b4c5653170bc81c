"""The gateway's part of the tree. Source: contract `olla.md`, sections 8, 13 and 15."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from atrium.settings.marks import AtLeast, Doc, Duration, Secret

KeySource = Literal["session_header", "prefix_hash", "auth_header", "ip"]
Balancer = Literal["priority", "round-robin", "least-connections"]


@dataclass(frozen=True, slots=True)
class EndpointAuth:
    type: Annotated[Literal["bearer", "basic", "api_key"], Doc("how the endpoint wants its credentials")]
    token: Annotated[str | None, Doc("for `bearer`"), Secret()] = None
    token_file: Annotated[Path | None, Doc("file with the token, read at start")] = None
    username: Annotated[str | None, Doc("for `basic`")] = None
    password: Annotated[str | None, Doc("for `basic`"), Secret()] = None
    key: Annotated[str | None, Doc("for `api_key`"), Secret()] = None
    header: Annotated[str | None, Doc("for `api_key`: the header's name, `X-Api-Key` unless named")] = None


@dataclass(frozen=True, slots=True)
class ModelFilter:
    include: Annotated[tuple[str, ...], Doc("globs: only models that match one are taken")] = ()
    exclude: Annotated[tuple[str, ...], Doc("globs: models that match one are left out")] = ()


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    url: Annotated[str, Doc("`http://` or `https://` address; `user:password@` becomes Basic credentials")]
    name: Annotated[str, Doc("unique; host:port unless named")] = ""
    type: Annotated[str, Doc("`ollama`, `lmstudio`, `vllm`, `openai`, `llamacpp`, …")] = "openai"
    priority: Annotated[int, Doc("higher first"), AtLeast(0)] = 100
    weight: Annotated[int, Doc("turns taken where equals take turns"), AtLeast(1)] = 1
    api_key: Annotated[str | None, Doc("sent as `Authorization: Bearer …`"), Secret()] = None
    auth_header: Annotated[str | None, Doc("name of the header that carries `api_key` bare")] = None
    auth: Annotated[EndpointAuth | None, Doc("credentials of another shape")] = None
    headers: Annotated[dict[str, str], Doc("added to every request"), Secret()] = field(default_factory=dict[str, str])
    check_interval: Annotated[Duration, Doc("between two checks; 0 never checks")] = 5.0
    check_timeout: Annotated[Duration, Doc("how long a check may take")] = 2.0
    health_check_url: Annotated[
        str | None, Doc("path of the check, or an address elsewhere, which is sent no credentials")
    ] = None
    model_url: Annotated[str | None, Doc("path of the model list, or its address below the endpoint's own")] = None
    max_concurrent: Annotated[int, Doc("requests in flight, more wait; 0 sets no bound"), AtLeast(0)] = 0
    context: Annotated[int, Doc("window of its models in tokens, where it does not tell; 0: 4096"), AtLeast(0)] = 0
    model_filter: Annotated[ModelFilter, Doc("which of its models are taken")] = field(default_factory=ModelFilter)


@dataclass(frozen=True, slots=True)
class Proxy:
    connect_timeout: Annotated[Duration, Doc("to connect to an endpoint")] = 5.0
    header_timeout: Annotated[Duration, Doc("until an endpoint's response head")] = 600.0
    idle_timeout: Annotated[Duration, Doc("longest silence of an endpoint in mid answer")] = 600.0
    keep_alive: Annotated[Duration, Doc("how long an unused connection to an endpoint is kept")] = 4.0
    connections: Annotated[int, Doc("unused connections kept per endpoint"), AtLeast(0)] = 256
    max_response_header: Annotated[int, Doc("bytes of an endpoint's response head"), AtLeast(4096)] = 256 * 1024
    queue: Annotated[int, Doc("requests that may wait for one endpoint's `max_concurrent`"), AtLeast(0)] = 256
    queue_timeout: Annotated[Duration, Doc("how long such a request may wait")] = 60.0
    retry_status: Annotated[tuple[int, ...], Doc("answers, such as 429, after which the next endpoint is tried")] = ()
    circuit_rest: Annotated[Duration, Doc("how long an endpoint that failed five times in a row is passed over")] = 30.0
    explained: Annotated[int, Doc("requests whose explanation is kept"), AtLeast(0)] = 2000


@dataclass(frozen=True, slots=True)
class Translation:
    lossy: Annotated[bool, Doc("drop and name what an endpoint's dialect cannot say, instead of refusing it")] = False


@dataclass(frozen=True, slots=True)
class Discovery:
    interval: Annotated[Duration, Doc("between two readings of an endpoint's model list"), AtLeast(1)] = 300.0


@dataclass(frozen=True, slots=True)
class StickySessions:
    enabled: Annotated[bool, Doc("send a conversation to the endpoint that answered it before")] = False
    idle_ttl_seconds: Annotated[Duration, Doc("how long an unused session is remembered")] = 600.0
    max_sessions: Annotated[int, Doc("sessions that are remembered"), AtLeast(1)] = 10_000
    key_sources: Annotated[tuple[KeySource, ...], Doc("what tells a session, the first that is there")] = (
        "session_header",
        "prefix_hash",
        "auth_header",
        "ip",
    )
    prefix_hash_bytes: Annotated[int, Doc("bytes of `messages` that tell a conversation"), AtLeast(1)] = 512
