"""What Atrium's gateway keeps: after many requests, and for clients that stay and say nothing."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.relay.atrium import atrium
from bench.relay.cores import Cores, resident_kib
from bench.relay.posts import post_load
from bench.relay.rows import Budget, Row
from bench.relay.subject import ATRIUM, CHAT, Address, Subject, chat_body, request_bytes, wait_until_ready

CLIENTS = 1000
LAST_CHUNK = re.compile(rb"\r\n0\r\n(?:[^\r\n]+\r\n)*\r\n\Z")
"""Trailers may follow it."""


@contextmanager
def fresh(folder: Path, direct: Subject, core: int) -> Generator[Subject]:
    """A server that no earlier load has made room in."""
    with atrium(folder, direct, core) as subject:
        wait_until_ready(subject)
        yield subject


def growth(subject: Subject, *, requests: int, core: int) -> float:
    """MiB that so many requests at 64 connections add, after a second of warming up."""
    post_load(subject, connections=64, seconds=1, core=core)
    before = resident_kib(subject.pid)
    sent = 0
    while sent < requests:
        sent += post_load(subject, connections=64, seconds=2, core=core).requests
    return (resident_kib(subject.pid) - before) / 1024


def is_whole(data: bytes) -> bool:
    head, found, rest = data.partition(b"\r\n\r\n")
    if length := re.search(rb"(?i)\ncontent-length: *(\d+)", head):
        return len(rest) >= int(length[1])
    return bool(found and LAST_CHUNK.search(rest))


def ask(sock: socket.socket, address: Address) -> None:
    """One whole answer over a connection that stays. Raises RuntimeError for anything but a 200."""
    sock.sendall(request_bytes(address, chat_body(CHAT), keep_alive=True))
    data = b""
    while not is_whole(data) and (more := sock.recv(65536)):
        data += more
    if not data.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"an idle client was answered {data[:300]!r}")


def is_open(sock: socket.socket) -> bool:
    sock.settimeout(0)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True


def idle_kib(subject: Subject) -> float:
    """KiB per client that has asked once and keeps its connection."""
    with ExitStack() as stack:
        warm = stack.enter_context(socket.create_connection(("127.0.0.1", subject.posts.port), timeout=10))
        for _ in range(CLIENTS):
            ask(warm, subject.posts)
        before = resident_kib(subject.pid)
        clients: list[socket.socket] = []
        for _ in range(CLIENTS):
            sock = socket.create_connection(("127.0.0.1", subject.posts.port), timeout=10)
            clients.append(stack.enter_context(sock))
            ask(sock, subject.posts)
        time.sleep(0.2)
        after = resident_kib(subject.pid)
        if gone := [c for c in clients if not is_open(c)]:
            raise RuntimeError(f"{len(gone)} of {CLIENTS} idle clients were disconnected")
    return (after - before) / CLIENTS


def memory_rows(folder: Path, direct: Subject, cores: Cores, *, requests: int) -> Generator[Row]:
    with fresh(folder / "growth", direct, cores.proxy) as subject:
        grown = growth(subject, requests=requests, core=cores.load)
    yield Row(f"growth over {requests:,} requests", "MiB", {ATRIUM: [grown]}, Budget("≤", 5, "MiB"))
    with fresh(folder / "idle", direct, cores.proxy) as subject:
        idle = idle_kib(subject)
    yield Row(f"each of {CLIENTS:,} idle clients", "KiB", {ATRIUM: [idle]}, Budget("≤", 20, "KiB"))
