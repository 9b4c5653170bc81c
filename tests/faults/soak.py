"""Random load on twelve models in a house for half of them, with crashes, and what came of each request."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psutil

from tests.running import RunningServer

Act = Callable[[httpx2.AsyncClient], Awaitable[None]]
MIB = 1024 * 1024
CALLERS = 14
PATIENCE = 120.0
KILL_EVERY = 1.5
LOOK_EVERY = 0.1
MAY_FAIL = {502, 503, 504}
"""Statuses of a runner that broke, a queue or memory that is full, a runner that hangs."""
PROMPTS = ("hello", "count to ten", "what is a door?")
REAL_CHAT, REAL_EMBEDDING = "smollm2-135m-instruct", "all-minilm-l6-v2"
FAKES = (
    "steady?size=60MB&takes=8MB",
    "quick?size=60MB&takes=8MB&slots=2",
    "slow?size=60MB&pace=15ms",
    "lazy?size=60MB&load=600ms",
    "wide?size=90MB&slots=8&takes=5MB",
    "narrow?size=60MB&slots=1&pace=2ms",
    "crash?size=60MB&fault=crash@12",
    "drop?size=60MB&fault=drop@12",
    "nonsense?size=60MB&fault=nonsense@12",
    "hang?size=60MB&fault=hang@12",
)
"""All keep their word on memory: a process of Python's and what it takes are less than what it claims."""


@dataclass
class Seen:
    """What the soak found; `wrong` must stay empty."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    texts: dict[tuple[str, str, int], str] = field(default_factory=dict[tuple[str, str, int], str])
    most_memory: int = 0
    most_kept: int = 0
    kills: int = 0

    def whole(self, asked: tuple[str, str, int], text: str) -> None:
        """The same question has the same answer whenever it is whole."""
        self.outcomes["whole"] += 1
        known = self.texts.setdefault(asked, text)
        if known != text and asked[0] != REAL_CHAT:
            self.wrong.append(f"{asked} was answered {text[:80]!r} and {known[:80]!r}")


def runners_of(server: RunningServer) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for child in psutil.Process(server.process.pid).children():
        try:
            if any(part.startswith("atrium.engines.workers.") for part in child.cmdline()) and "--socket" in " ".join(
                child.cmdline()
            ):
                found.append(child)
        except psutil.Error:
            continue
    return found


def memory_of(runners: list[psutil.Process]) -> int:
    total = 0
    for runner in runners:
        try:
            total += runner.memory_info().rss
        except psutil.Error:
            continue
    return total


class Soak:
    def __init__(self, server: RunningServer, budget: int, seed: int) -> None:
        self.server = server
        self.budget = budget
        self.chance = random.Random(seed)  # noqa: S311 - what is drawn is no secret
        self.seen = Seen()
        self.models = [fake.partition("?")[0] for fake in FAKES] + [REAL_CHAT, REAL_EMBEDDING]

    async def run(self, seconds: float) -> Seen:
        ends = asyncio.get_running_loop().time() + seconds
        async with httpx2.AsyncClient(
            base_url=self.server.url,
            headers={"Authorization": f"Bearer {self.server.key}"},
            timeout=PATIENCE,
            trust_env=False,
        ) as client:
            acts: list[Act] = [*(self.ask for _ in range(CALLERS)), self.kill, self.look]
            await asyncio.gather(*(self.again(act, client, ends) for act in acts))
        return self.seen

    async def again(self, act: Act, client: httpx2.AsyncClient, ends: float) -> None:
        while asyncio.get_running_loop().time() < ends:
            await act(client)

    async def ask(self, client: httpx2.AsyncClient) -> None:
        model = self.chance.choice(self.models)
        if model == REAL_EMBEDDING:
            await self.embed(client, model)
            return
        prompt = self.chance.choice(PROMPTS)
        most = self.chance.choice((3, 8, 8, 20, 40))
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": most,
            "temperature": 0,
            "keep_alive": self.chance.choice((None, None, 0, 5)),
        }
        kind = self.chance.choice(("stream", "stream", "leave", "once"))
        if kind == "once":
            await self.once(client, body, (model, prompt, most))
        else:
            await self.stream(client, {**body, "stream": True}, (model, prompt, most), leaves=kind == "leave")

    async def once(self, client: httpx2.AsyncClient, body: dict[str, Any], asked: tuple[str, str, int]) -> None:
        answer = await client.post("/v1/chat/completions", json=body)
        if answer.status_code != 200:
            self.refused(answer.status_code, answer.text)
            return
        choice = answer.json()["choices"][0]
        if choice["finish_reason"] not in ("stop", "length"):
            self.seen.wrong.append(f"{asked}: no end: {choice}")
        self.seen.whole(asked, choice["message"]["content"])

    async def embed(self, client: httpx2.AsyncClient, model: str) -> None:
        count = self.chance.choice((1, 3))
        answer = await client.post("/v1/embeddings", json={"model": model, "input": list(PROMPTS[:count])})
        if answer.status_code != 200:
            self.refused(answer.status_code, answer.text)
            return
        self.seen.outcomes["embedded"] += 1
        if len(answer.json()["data"]) != count:
            self.seen.wrong.append("vectors are missing")

    def refused(self, status: int, text: str) -> None:
        self.seen.outcomes[f"refused {status}"] += 1
        if status not in MAY_FAIL or "message" not in text:
            self.seen.wrong.append(f"{status}: {text[:300]}")

    async def stream(
        self, client: httpx2.AsyncClient, body: dict[str, Any], asked: tuple[str, str, int], *, leaves: bool
    ) -> None:
        texts: list[str] = []
        done = finished = failed = False
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    self.refused(answer.status_code, (await answer.aread()).decode())
                    return
                async for line in answer.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    if line == "data: [DONE]":
                        done = True
                        continue
                    event = json.loads(line[6:])
                    failed = failed or "error" in event
                    for choice in event.get("choices", ()):
                        texts.append(choice["delta"].get("content") or "")
                        finished = finished or choice["finish_reason"] is not None
                    if leaves and len(texts) >= 3:
                        self.seen.outcomes["left"] += 1
                        return
        except httpx2.RemoteProtocolError:
            self.seen.outcomes["broken"] += 1
            if done or finished:
                self.seen.wrong.append(f"{asked}: broken after its end")
            return
        if failed or not (done and finished):
            self.seen.wrong.append(f"{asked}: neither whole nor visibly broken: {failed=} {done=} {finished=}")
        else:
            self.seen.whole(asked, "".join(texts))

    async def kill(self, client: httpx2.AsyncClient) -> None:  # noqa: ARG002 - one of the acts
        """A runner dies, or freezes."""
        await asyncio.sleep(KILL_EVERY)
        runners = runners_of(self.server)
        if runners:
            os.kill(
                self.chance.choice(runners).pid, self.chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
            )
            self.seen.kills += 1

    async def look(self, client: httpx2.AsyncClient) -> None:
        """Memory as the kernel counts it and as the server keeps it; slots."""
        await asyncio.sleep(LOOK_EVERY)
        memory = memory_of(runners_of(self.server))
        self.seen.most_memory = max(self.seen.most_memory, memory)
        statuses = (await client.get("/api/admin/runners")).json()
        kept = sum(one["memory_estimate"] for one in statuses if one["state"] in ("starting", "ready", "stopping"))
        self.seen.most_kept = max(self.seen.most_kept, kept)
        if memory > self.budget or kept > self.budget:
            self.seen.wrong.append(f"{memory // MIB} MiB were taken and {kept // MIB} kept of {self.budget // MIB}")
        self.seen.wrong += [f"too many answers: {one}" for one in statuses if one["busy"] > one["slots"]]
