"""Local chat and embeddings through Atrium against the very same runner asked directly, in interleaved rounds."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.served import Served
from bench.wire import Door, Timed, ask, stream_chat, stream_completion

CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"
WORDS = Path(__file__).read_text().split()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: ours against theirs, and the ratio that the budget speaks of."""

    what: str
    ours: float
    theirs: float
    unit: str
    budget: str

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


def prose(words: int, seed: int) -> str:
    """Text that no earlier round has sent, so that no prompt cache helps."""
    chance = random.Random(seed)  # noqa: S311
    return " ".join(chance.choice(WORDS) for _ in range(words))


def chat_body(seed: int, tokens: int) -> dict[str, Any]:
    return {
        "model": CHAT,
        "messages": [{"role": "system", "content": "You answer."}, {"role": "user", "content": prose(40, seed)}],
        "max_tokens": tokens,
        "temperature": 0,
        "logit_bias": {"2": -100, "0": -100},
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def direct_body(runner: Door, seed: int, tokens: int) -> dict[str, Any]:
    text = f"user\n{prose(40, seed)}"
    pieces = [1, "system\nYou answer.", 2, "\n", 1, text, 2, "\n", 1, "assistant\n"]
    ids = (await ask(runner, "/tokenize", {"content": pieces, "parse_special": False}))["tokens"]
    return {
        "prompt": ids,
        "n_predict": tokens,
        "temperature": 0,
        "logit_bias": [[2, False], [0, False]],
        "stream": True,
        "cache_prompt": True,
    }


async def together(count: int, one: Callable[[int], Awaitable[Timed]]) -> tuple[float, list[Timed]]:
    """Tokens per second of `count` streams at once, and each of them."""
    start = time.perf_counter()
    answers = await asyncio.gather(*(one(i) for i in range(count)))
    return sum(a.tokens for a in answers) / (time.perf_counter() - start), answers


async def find_runners(served: Served) -> tuple[Door, Door]:
    """The chat and the embedding runner's own sockets, both loaded."""
    await stream_chat(served.door, chat_body(0, 4))
    doors = [Door(socket=s) for s in served.sockets()]
    chat = doors[0]
    await ask(served.door, "/v1/embeddings", {"model": EMBEDDING, "input": "warm"})
    (embedding,) = (Door(socket=s) for s in served.sockets() if Door(socket=s) != chat)
    return chat, embedding


async def chat_rows(door: Door, runner: Door, *, rounds: int, tokens: int) -> list[Row]:
    rows: list[Row] = []
    for count in (1, 8):
        speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
        firsts: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(rounds):
            base = 1 + number * 1000 + count * 100_000
            bodies = [await direct_body(runner, base + 500 + i, tokens) for i in range(count)]
            turns: list[tuple[str, Callable[[int], Awaitable[Timed]]]] = [
                ("ours", lambda i, base=base: stream_chat(door, chat_body(base + i, tokens))),
                ("theirs", lambda i, bodies=bodies: stream_completion(runner, bodies[i])),
            ]
            for name, one in turns if number % 2 else reversed(turns):
                speed, answers = await together(count, one)
                speeds[name].append(speed)
                firsts[name] += [a.first for a in answers]
        what = f"chat, {count} at once"
        median = statistics.median
        rows.append(Row(f"{what}: tokens/s", median(speeds["ours"]), median(speeds["theirs"]), "tokens/s", "≥ 0.97"))
        if count == 1:
            ours, theirs = median(firsts["ours"]) * 1000, median(firsts["theirs"]) * 1000
            rows.append(Row(f"{what}: first token", ours, theirs, "ms", "≤ 10 ms later"))
    return rows


SHAPES: dict[str, Any] = {
    "a list of strings": {"type": "array", "items": {"type": "string"}, "minItems": 1000},
    "objects with a pattern": {
        "type": "array",
        "minItems": 1000,
        "items": {
            "type": "object",
            "properties": {"id": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}, "n": {"type": "integer"}},
            "required": ["id", "n"],
        },
    },
}
"""None of them can end within the tokens that an answer has here."""


async def shape_rows(door: Door, *, rounds: int, tokens: int) -> list[Row]:
    """Answers of one length, held to a schema and free, by turns. Both come through Atrium."""
    rows: list[Row] = []
    for name, schema in SHAPES.items():
        speeds: dict[str, list[float]] = {"shaped": [], "free": []}
        for number in range(rounds):
            body = chat_body(700_000 + number, tokens)
            told = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
            turns = {"shaped": {**body, "response_format": told}, "free": body}
            for kind in turns if number % 2 else reversed(turns):
                answer = await stream_chat(door, turns[kind])
                speeds[kind].append(answer.tokens / answer.total)
        shaped, free = (statistics.median(speeds[kind]) for kind in ("shaped", "free"))
        rows.append(Row(f"{name}, beside free text", shaped, free, "tokens/s", "≥ 0.77"))
    return rows


async def embedding_rows(door: Door, runner: Door, *, rounds: int) -> list[Row]:
    rows: list[Row] = []
    for batch in (1, 64):
        repeat = 40 if batch == 1 else 2
        speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(rounds):
            texts = [prose(20, number * 7919 + i) for i in range(batch)]
            answers = [await ask(runner, "/tokenize", {"content": t, "add_special": True}) for t in texts]
            ids = [a["tokens"] for a in answers]
            given = texts if batch > 1 else texts[0]
            turns: list[tuple[str, Door, str, Any]] = [
                ("ours", door, "/v1/embeddings", {"model": EMBEDDING, "input": given, "encoding_format": "base64"}),
                ("theirs", runner, "/embedding", {"content": ids if batch > 1 else ids[0]}),
            ]
            for name, to, path, body in turns if number % 2 else reversed(turns):
                start = time.perf_counter()
                for _ in range(repeat):
                    await ask(to, path, body)
                speeds[name].append(batch * repeat / (time.perf_counter() - start))
        median = statistics.median
        what = f"embeddings, batch of {batch}"
        rows.append(Row(f"{what}: texts/s", median(speeds["ours"]), median(speeds["theirs"]), "texts/s", "≥ 0.95"))
    return rows


async def rows_of(served: Served, *, rounds: int, tokens: int) -> list[Row]:
    chat, embedding = await find_runners(served)
    rows = await chat_rows(served.door, chat, rounds=rounds, tokens=tokens)
    rows += await shape_rows(served.door, rounds=rounds, tokens=tokens)
    return rows + await embedding_rows(served.door, embedding, rounds=rounds)


def as_json(rows: list[Row]) -> str:
    return json.dumps([{"what": r.what, "ours": r.ours, "theirs": r.theirs, "ratio": r.ratio} for r in rows])
