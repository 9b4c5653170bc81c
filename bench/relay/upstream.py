"""`python -m bench.relay.upstream PORT`: an upstream that streams at the pace asked for, or faster than a proxy can.

A plain epoll loop: an event loop's timers are too coarse for gaps, and its writes too slow not to be the bottleneck.
"""

from __future__ import annotations

import heapq
import itertools
import json
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import TypedDict

MARK = "~"
"""Stands once in every chunk and nowhere else, so that a client counts chunks without parsing."""
MODELS = b'{"object":"list","data":[{"id":"s1","object":"model","created":1700000000,"owned_by":"bench"}]}'
HEALTH = b'{"status":"ok"}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"X-Request-Id: req-%08d\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Asked(TypedDict, total=False):
    """Fields that every proxy passes on: chunks, milliseconds between them, and chunks in one write."""

    max_tokens: int
    seed: int
    user: str


def framed(data: str) -> bytes:
    raw = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def chunk(number: int, choices: str, extra: str = "") -> bytes:
    return framed(
        f'{{"id":"chatcmpl-{number:08d}","object":"chat.completion.chunk","created":1700000000,"model":"s1",'
        f'"choices":[{choices}]{extra}}}'
    )


def piece(number: int) -> bytes:
    return chunk(number, f'{{"index":0,"delta":{{"content":" word{MARK}"}},"finish_reason":null}}')


def ending(number: int, count: int) -> bytes:
    usage = f',"usage":{{"prompt_tokens":12,"completion_tokens":{count},"total_tokens":{12 + count}}}'
    stop = chunk(number, '{"index":0,"delta":{},"finish_reason":"stop"}')
    return stop + chunk(number, "", usage) + framed("[DONE]") + b"0\r\n\r\n"


@dataclass(slots=True)
class Client:
    """One connection and the answer it is being given."""

    sock: socket.socket
    received: bytes = b""
    backlog: bytes = b""
    piece: bytes = b""
    ending: bytes = b""
    left: int = 0
    pace: float = 0.0
    burst: int = 1
    keep_alive: bool = True
    closed: bool = False


@dataclass(slots=True)
class Upstream:
    listener: socket.socket
    poll: select.epoll = field(default_factory=select.epoll)
    clients: dict[int, Client] = field(default_factory=dict[int, Client])
    unpaced: dict[int, Client] = field(default_factory=dict[int, Client])
    paced: list[tuple[float, int, Client]] = field(default_factory=list[tuple[float, int, Client]])
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def serve(self) -> None:
        self.poll.register(self.listener, select.EPOLLIN)
        while True:
            self.wait()
            for fd, events in self.poll.poll(0):
                self.on_event(fd, events)
            for client in tuple(self.unpaced.values()):
                self.emit(client)
            self.emit_due(time.perf_counter())

    def wait(self) -> None:
        """Until something is to be done. select() counts in microseconds where epoll counts in milliseconds."""
        if self.unpaced:
            return
        timeout = max(0.0, self.paced[0][0] - time.perf_counter()) if self.paced else None
        select.select([self.poll], [], [], timeout)

    def on_event(self, fd: int, events: int) -> None:
        if fd == self.listener.fileno():
            sock, _ = self.listener.accept()
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.clients[sock.fileno()] = Client(sock)
            self.poll.register(sock, select.EPOLLIN)
            return
        client = self.clients[fd]
        if events & select.EPOLLOUT:
            self.flush(client)
        elif events:
            self.read(client)

    def read(self, client: Client) -> None:
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close(client)
            return
        client.received += data
        head, found, rest = client.received.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = int(lengths[0].split(b":")[1]) if lengths else 0
        if found and len(rest) >= size:
            client.received = rest[size:]
            self.answer(client, head, rest[:size])

    def answer(self, client: Client, head: bytes, body: bytes) -> None:
        if not head.startswith(b"POST"):
            whole = MODELS if b"/models" in head.split(b"\r\n")[0] else HEALTH
            self.write(client, PLAIN % (len(whole), whole))
            return
        client.keep_alive = b"connection: close" not in head.lower()
        asked: Asked = json.loads(body)
        number = next(self.numbers)
        client.left = asked.get("max_tokens", 16)
        client.pace = asked.get("seed", 0) / 1000
        client.burst = int(asked.get("user", "1"))
        client.piece, client.ending = piece(number), ending(number, client.left)
        self.write(client, HEAD % number)
        if client.pace:
            heapq.heappush(self.paced, (time.perf_counter() + client.pace, number, client))
        else:
            self.unpaced[client.sock.fileno()] = client

    def emit_due(self, now: float) -> None:
        """A late chunk does not move the ones after it."""
        while self.paced and self.paced[0][0] <= now:
            due, number, client = heapq.heappop(self.paced)
            if client.closed:
                continue
            self.emit(client)
            if client.left:
                heapq.heappush(self.paced, (due + client.pace, number, client))

    def emit(self, client: Client) -> None:
        count = min(client.burst, client.left)
        client.left -= count
        self.write(client, client.piece * count)
        if not client.left and not client.closed:
            self.unpaced.pop(client.sock.fileno(), None)
            self.write(client, client.ending)
            self.close_when_done(client)

    def write(self, client: Client, data: bytes) -> None:
        """An unpaced client that does not take all of it rests until it does."""
        if client.backlog:
            client.backlog += data
            return
        try:
            sent = client.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close(client)
            return
        if sent < len(data):
            client.backlog = data[sent:]
            self.unpaced.pop(client.sock.fileno(), None)
            self.poll.modify(client.sock, select.EPOLLIN | select.EPOLLOUT)

    def flush(self, client: Client) -> None:
        data, client.backlog = client.backlog, b""
        self.write(client, data)
        if not client.backlog and not client.closed:
            self.poll.modify(client.sock, select.EPOLLIN)
            if client.left and not client.pace:
                self.unpaced[client.sock.fileno()] = client
            self.close_when_done(client)

    def close_when_done(self, client: Client) -> None:
        if not (client.keep_alive or client.left or client.backlog or client.closed):
            self.close(client)

    def close(self, client: Client) -> None:
        client.closed = True
        self.unpaced.pop(client.sock.fileno(), None)
        del self.clients[client.sock.fileno()]
        client.sock.close()


if __name__ == "__main__":
    Upstream(socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)).serve()
