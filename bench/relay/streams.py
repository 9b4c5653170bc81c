"""Streams: one process listens to all of them, counts chunks and notes the time between them."""

from __future__ import annotations

import select
import socket
import statistics
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.relay.cores import cpu_seconds, pinned
from bench.relay.rows import Budget, Row, by_round, of_medians
from bench.relay.subject import (
    DIRECT,
    LITELLM,
    NGINX,
    STREAM,
    Address,
    Subject,
    chat_body,
    request_bytes,
    wait_until_idle,
)
from bench.relay.upstream import MARK

PACE_MS = 20
FAST_PACE_MS = 1
"""Unpaced, every proxy is busy and reads many chunks at once; at this pace it handles most of them one by one."""
RESOLUTION_MS = 0.1
"""An added p99 gap repeats no better than this from run to run."""
SILENCE = 30.0
UNPACED_CHUNKS = 3000
"""Per stream and second of effort, and per chunk in a burst."""
BURST = 8
"""Chunks in one write keep the upstream ahead of every proxy; one by one it is hardly faster than nginx."""
SLOW_CHUNKS = 50
"""LiteLLM's share of them: it is some hundred times slower."""


@dataclass(frozen=True, slots=True)
class Plan:
    streams: int
    chunks: int
    pace_ms: int = 0
    burst: int = 1

    @property
    def spread(self) -> float:
        """Seconds over which the streams begin, so that paced ones do not all speak at once."""
        return 0.001 * self.streams if self.pace_ms else 0.0


@dataclass(slots=True)
class Stream:
    sock: socket.socket
    head: bytes = b""
    begun: bool = False
    chunks: int = 0
    last: float = 0.0


@dataclass(slots=True)
class Ear:
    """Listens to the streams of one plan. Gaps count while all of them are running."""

    name: str
    address: Address
    plan: Plan
    poll: select.epoll = field(default_factory=select.epoll)
    open: dict[int, Stream] = field(default_factory=dict[int, Stream])
    gaps: list[float] = field(default_factory=list[float])
    started: int = 0
    ended: int = 0

    def listen(self) -> float:
        """Seconds it took. Raises RuntimeError when a stream is not all there."""
        try:
            return self.listen_to_all()
        finally:
            self.poll.close()
            for stream in self.open.values():
                stream.sock.close()

    def listen_to_all(self) -> float:
        body = chat_body(STREAM, chunks=self.plan.chunks, pace_ms=self.plan.pace_ms, burst=self.plan.burst)
        request = request_bytes(self.address, body, keep_alive=False)
        start = heard = time.perf_counter()
        step = self.plan.spread / self.plan.streams
        while self.ended < self.plan.streams:
            now = time.perf_counter()
            while self.started < self.plan.streams and now >= start + self.started * step:
                self.begin(request)
            events = self.poll.poll(0.001 if self.started < self.plan.streams else 1.0)
            for fd, _ in events:
                self.hear(self.open[fd])
            if events:
                heard = now
            elif now - heard > SILENCE:
                raise RuntimeError(f"{self.name}: {len(self.open)} streams fell silent")
        return time.perf_counter() - start

    def begin(self, request: bytes) -> None:
        sock = socket.create_connection(("127.0.0.1", self.address.port), timeout=SILENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request)
        sock.settimeout(0)
        self.open[sock.fileno()] = Stream(sock)
        self.poll.register(sock, select.EPOLLIN)
        self.started += 1

    def hear(self, stream: Stream) -> None:
        try:
            data = stream.sock.recv(65536)
        except ConnectionError as error:
            raise RuntimeError(f"{self.name}: {error} after {stream.chunks} chunks") from error
        now = time.perf_counter()
        if not data:
            self.finish(stream)
            return
        if not stream.begun:
            data = self.after_head(stream, data)
        count = data.count(MARK.encode())
        if not count:
            return
        stream.chunks += count
        if self.plan.pace_ms and stream.last and self.started == self.plan.streams and not self.ended:
            self.gaps.append(now - stream.last)
            self.gaps += [0.0] * (count - 1)
        stream.last = now

    def after_head(self, stream: Stream, data: bytes) -> bytes:
        stream.head += data
        head, found, rest = stream.head.partition(b"\r\n\r\n")
        if not found:
            return b""
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(f"{self.name}: {stream.head[:300]!r}")
        stream.begun = True
        return rest

    def finish(self, stream: Stream) -> None:
        del self.open[stream.sock.fileno()]
        stream.sock.close()
        self.ended += 1
        if stream.chunks != self.plan.chunks:
            raise RuntimeError(f"{self.name}: a stream ended after {stream.chunks} of {self.plan.chunks} chunks")


@dataclass(frozen=True, slots=True)
class Heard:
    chunks: int
    seconds: float
    cpu: float
    p99_gap_ms: float

    @property
    def per_second(self) -> float:
        return self.chunks / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu * 1e6 / self.chunks


def hear(subject: Subject, plan: Plan, core: int) -> Heard:
    ear = Ear(subject.name, subject.streams, plan)
    before = cpu_seconds(subject.pid)
    with pinned(core):
        seconds = ear.listen()
    cpu = cpu_seconds(subject.pid) - before
    wait_until_idle(subject)
    gap = statistics.quantiles(ear.gaps, n=100)[98] * 1000 if len(ear.gaps) > 1 else 0.0
    return Heard(plan.streams * plan.chunks, seconds, cpu, gap)


def cost_row(what: str, heard: Mapping[str, Sequence[Heard]]) -> Row:
    costs = {name: [h.cpu_us for h in streams] for name, streams in heard.items() if name != DIRECT}
    return Row(f"{what}: CPU per chunk", "µs", costs, Budget("≤", 1.6), by_round(costs, NGINX))


def unpaced_rows(heard: Mapping[str, Sequence[Heard]]) -> list[Row]:
    what = "64 streams, unpaced"
    rates = rates_of(heard)
    return [Row(f"{what}: chunks", "/s", rates, Budget("≥", 1.0), by_round(rates, NGINX)), cost_row(what, heard)]


def burst_row(heard: Mapping[str, Sequence[Heard]]) -> Row:
    rates = rates_of(heard)
    return Row(f"64 streams, {BURST} chunks a write: chunks", "/s", rates, ratio=by_round(rates, NGINX))


def rates_of(heard: Mapping[str, Sequence[Heard]]) -> dict[str, list[float]]:
    return {name: [h.per_second for h in streams] for name, streams in heard.items()}


def paced_rows(plan: Plan, heard: Mapping[str, Sequence[Heard]]) -> list[Row]:
    """Whatever else the machine does only lengthens a gap, so each subject counts with its least disturbed round."""
    what = f"{plan.streams} streams, {plan.pace_ms} ms"
    gaps = {name: [h.p99_gap_ms for h in streams] for name, streams in heard.items()}
    added = {name: [min(values) - min(gaps[DIRECT])] for name, values in gaps.items() if name != DIRECT}
    ratio = of_medians(added, NGINX, resolution=RESOLUTION_MS)
    return [
        Row(f"{what}: p99 gap", "ms", gaps),
        Row(f"{what}: added p99 gap, best rounds", "ms", added, Budget("≤", 1.5), ratio),
        cost_row(what, heard),
    ]


def interleaved(subjects: Sequence[Subject], plan: Plan, *, rounds: int, core: int) -> dict[str, list[Heard]]:
    heard: dict[str, list[Heard]] = {s.name: [] for s in subjects}
    for number in range(rounds):
        for subject in subjects if number % 2 else reversed(subjects):
            own = Plan(plan.streams, SLOW_CHUNKS) if subject.name == LITELLM else plan
            heard[subject.name].append(hear(subject, own, core))
    return heard


def stream_rows(subjects: Sequence[Subject], *, rounds: int, seconds: int, core: int) -> Generator[Row]:
    """LiteLLM is far from the paces of the paced plans, and takes part in the unpaced one with fewer chunks."""
    chunks = UNPACED_CHUNKS * seconds
    yield from unpaced_rows(interleaved(subjects, Plan(64, chunks), rounds=rounds, core=core))
    fast = [s for s in subjects if s.name != LITELLM]
    bursts = Plan(64, chunks * BURST, burst=BURST)
    yield burst_row(interleaved(fast, bursts, rounds=rounds, core=core))
    brisk = Plan(64, seconds * 1000 // FAST_PACE_MS, FAST_PACE_MS)
    yield cost_row(f"64 streams, {FAST_PACE_MS} ms", interleaved(fast, brisk, rounds=rounds, core=core))
    for streams in (64, 512):
        plan = Plan(streams, seconds * 1000 // PACE_MS, PACE_MS)
        yield from paced_rows(plan, interleaved(fast, plan, rounds=rounds, core=core))


def glance_rows(subjects: Sequence[Subject], *, rounds: int, seconds: int, core: int) -> Generator[Row]:
    """The two plans that a regression shows in first."""
    brief = Plan(64, UNPACED_CHUNKS * seconds // 3)
    yield from unpaced_rows(interleaved(subjects, brief, rounds=rounds, core=core))
    plan = Plan(64, seconds * 1000 // PACE_MS, PACE_MS)
    yield from paced_rows(plan, interleaved(subjects, plan, rounds=rounds, core=core))
