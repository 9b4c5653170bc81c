"""Endpoints: HTTP addresses that serve models. A local runner is one, behind a unix socket."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from atrium.core.kinds import Kind
from atrium.core.models import ModelCard

Header = tuple[bytes, bytes]


class RunnerState(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Runner:
    """A ready child process that serves one local model."""

    card: ModelCard
    socket: str
    """Path of its unix socket."""
    pid: int
    slots: int
    context: int
    """Tokens per slot, prompt and answer together."""
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RunnerPlan:
    """How a model would run."""

    slots: int
    context: int
    """Tokens per slot."""
    threads: int
    """0: the engine's own choice."""
    memory: int
    """Bytes of resident memory, estimated."""


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """What a person or a metric sees of a model's runner."""

    model: str
    state: RunnerState
    pid: int | None
    slots: int
    busy: int
    waiting: int
    memory_estimate: int
    """Bytes, estimated before loading."""
    memory_used: int
    """Bytes of resident memory as measured; 0 when not running."""
    expires_in: float | None
    """Seconds until it is unloaded if nobody asks (in use: counted from now); None: never, or not running."""
    last_error: str = ""
    context: int = 0
    """Tokens per slot; 0 when not running."""


class Health(Enum):
    """What the last check said. Source: contract `olla.md`, section 7."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    BUSY = "busy"
    UNHEALTHY = "unhealthy"
    OFFLINE = "offline"
    CONFIG_ERROR = "config_error"
    RATE_LIMITED = "rate_limited"


ROUTABLE = frozenset({Health.HEALTHY, Health.BUSY})


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """A configured endpoint, checked. Durations in seconds."""

    name: str
    kind: Kind
    host: str
    port: int
    tls: bool
    base: str
    """Path in front of every request, without a slash at its end."""
    priority: int = 100
    weight: int = 1
    headers: tuple[Header, ...] = ()
    """Added to every request: its own credentials first. Names are lower case."""
    check_interval: float = 5.0
    """0: never checked, taken for healthy."""
    check_timeout: float = 2.0
    health_path: str = ""
    health_at: EndpointSpec | None = None
    """Whose health counts for it, where the check's address is not below its own."""
    model_path: str = ""
    max_concurrent: int = 0
    """Requests in flight; more wait. 0: no bound."""
    context: int = 0
    """Tokens that its models take where it does not tell; 0: nothing is known."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Globs over model names."""

    @property
    def authority(self) -> str:
        """Host and port as `Host` names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Without credentials, query or fragment: it may be shown."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.base}"


@dataclass(frozen=True, slots=True)
class Offered:
    """A model as an endpoint lists it. Unknown texts are empty, unknown numbers 0."""

    name: str
    created: int = 0
    """Unix seconds."""
    owner: str = ""
    size: int = 0
    digest: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization: str = ""
    context: int = 0
    """Tokens."""
    type: str = "llm"
    """`llm`, `vlm` or `embeddings`."""
    loaded: bool | None = None
    """None: the endpoint does not say."""
    raw: bytes = b""
    """The entry as the endpoint wrote it, JSON."""


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model on an endpoint."""

    endpoint: str
    kind: Kind
    offered: Offered

    @property
    def name(self) -> str:
        return self.offered.name
