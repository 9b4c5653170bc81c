"""Listening: the public port and the control socket, and a stop that lets running answers end."""

from __future__ import annotations

import asyncio
import errno
import math
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from atrium.core.errors import ConfigError, PortInUse
from atrium.http.front import Front
from atrium.http.idle import IdleWatch
from atrium.http.lane import Lane
from atrium.http.protocol import Door
from atrium.http.server import control_app
from atrium.settings.tree import Limits, Server

BACKLOG = 2048


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to us, since two of them run side by side."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@dataclass(frozen=True, slots=True)
class Sockets:
    public: socket.socket
    control: socket.socket
    url: str


def bind(server: Server, control: Path) -> Sockets:
    """Raises PortInUse, ConfigError for an address that is not this machine's."""
    public = bind_public(server)
    control.unlink(missing_ok=True)
    private = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    private.bind(str(control))
    control.chmod(0o600)
    private.listen(BACKLOG)
    host, port = public.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if shown in ("0.0.0.0", "[::]"):  # noqa: S104 - compared, not bound
        shown = "127.0.0.1" if shown == "0.0.0.0" else "[::1]"  # noqa: S104 - as above
    return Sockets(public, private, f"{'https' if server.tls else 'http'}://{shown}:{port}")


def bind_public(server: Server) -> socket.socket:
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, OverflowError) as error:
        raise ConfigError(f"Cannot listen on {server.host}:{server.port}: {error}") from None
    family, kind, _, _, address = found[0]
    public = socket.socket(family, kind)
    public.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        public.bind(address)
        public.listen(BACKLOG)
    except OSError as error:
        public.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {server.port} on {server.host} is in use by another program",
                hint=f"Stop it, or choose another port: atrium serve --port {server.port + 1}",
            ) from None
        raise ConfigError(f"Cannot listen on {server.host}:{server.port}: {error.strerror}") from None
    public.setblocking(False)  # noqa: FBT003 - the library's own signature
    return public


async def listen(front: Front, sockets: Sockets, server: Server, limits: Limits, stopping: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. A stop waits `server.stop_grace` for running answers; a second signal does not."""
    public = Listener(config_for(front, server, limits, tls=True))
    private = Listener(config_for(Front(control_app(front.app)), server, limits, tls=False))
    signals = 0

    def stop() -> None:
        nonlocal signals
        signals += 1
        stopping()
        for listener in (public, private):
            listener.should_exit = True
            listener.force_exit = signals > 1

    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop)
    async with asyncio.TaskGroup() as group:
        reload = front.reload
        if reload is not None:
            loop.add_signal_handler(signal.SIGHUP, lambda: group.create_task(reload.or_tell()))
        group.create_task(public.serve(sockets=[sockets.public]))
        group.create_task(private.serve(sockets=[sockets.control]))


def config_for(front: Front, server: Server, limits: Limits, *, tls: bool) -> uvicorn.Config:
    secured = server.tls if tls else None
    return uvicorn.Config(
        front.app,
        http=door_for(limits, front.lane),
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=math.ceil(limits.idle_timeout),
        timeout_graceful_shutdown=math.ceil(server.stop_grace),
        ssl_certfile=secured.cert if secured else None,
        ssl_keyfile=secured.key if secured else None,
    )


def door_for(limits: Limits, lane: Lane | None) -> type[Door]:
    """uvicorn makes protocols from a class, so the bounds are the class's."""
    return type("BoundDoor", (Door,), {"limits": limits, "lane": lane, "idle": IdleWatch(limits.idle_timeout)})
