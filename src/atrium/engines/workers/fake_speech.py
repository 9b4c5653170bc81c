"""What the fake says: tokens, deterministic from prompt and seed, cut into pieces as llama.cpp's server does it."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atrium.core.requests import JsonValue
from atrium.decisions.fake_address import CONTROL, EMBEDDING_LENGTH, END_OF_TURN, FIRST_WORD, TEXT_TOKENS, WORDS

MULTIPLIER, STEP, WIDTH = 6364136223846793005, 1442695040888963407, 1 << 64
CONTROL_TEXT = re.compile("|".join(re.escape(text) for text in CONTROL))


@dataclass(frozen=True, slots=True)
class Wish:
    """A `/completion` request. Counts in tokens."""

    prompt: tuple[int, ...]
    most: int
    """Tokens to generate at most; negative: until the window is full."""
    words: int
    """Tokens after which the answer ends by itself."""
    window: int
    seed: int = 0
    greedy: bool = False
    stop: tuple[str, ...] = ()
    banned: frozenset[int] = frozenset()
    forced: tuple[int, ...] | None = None
    """What a grammar leaves no choice about."""


@dataclass(frozen=True, slots=True)
class Piece:
    token: int
    text: str
    """Empty while it may begin a stop string or is no whole character."""
    ending: str = ""
    """`eos`, `limit` or `word` with the last one."""
    stop: str = ""
    """The stop string that was met."""


def tokens_of(content: JsonValue, *, special: bool) -> list[int]:
    """Text, or a list of ids and texts. Bytes become ids, and with `special` control texts their one id."""
    parts = content if isinstance(content, list) else [content]
    ids: list[int] = []
    for part in parts:
        if isinstance(part, int):
            ids.append(part)
        elif isinstance(part, str):
            ids.extend(_text_tokens(part, special=special))
    return ids


def _text_tokens(text: str, *, special: bool) -> Iterator[int]:
    end = 0
    for found in CONTROL_TEXT.finditer(text) if special else ():
        yield from text[end : found.start()].encode("utf-8", "replace")
        yield CONTROL[found[0]]
        end = found.end()
    yield from text[end:].encode("utf-8", "replace")


def bytes_of(token: int, *, special: bool = True) -> bytes:
    if 0 <= token < TEXT_TOKENS:
        return bytes([token])
    if FIRST_WORD <= token < FIRST_WORD + len(WORDS):
        return WORDS[token - FIRST_WORD].encode()
    names = (text for text, known in CONTROL.items() if known == token)
    return next(names, "").encode() if special else b""


def vector_of(ids: Sequence[int]) -> tuple[float, ...]:
    """Unit length; equal ids give equal vectors."""
    numbers = _chance(ids, 0)
    raw = [next(numbers) / WIDTH - 0.5 for _ in range(EMBEDDING_LENGTH)]
    length = math.sqrt(sum(x * x for x in raw)) or 1.0
    return tuple(struct.unpack(f"<{len(raw)}f", struct.pack(f"<{len(raw)}f", *(x / length for x in raw))))


def speak(wish: Wish) -> Iterator[Piece]:
    said = b""
    sent = 0
    room = wish.window - len(wish.prompt)
    most = room if wish.most < 0 else min(room, max(1, wish.most))
    for count, token in enumerate(_tokens(wish), 1):
        if token == END_OF_TURN:
            yield Piece(token, "", ending="eos")
            return
        said += bytes_of(token)
        text = said.decode("utf-8", "ignore")
        whole = len(text.encode()) == len(said)
        met = _first_stop(text, wish.stop)
        if met:
            yield Piece(token, text[sent : met[0]], ending="word", stop=met[1])
            return
        ending = "limit" if count >= most else ""
        if whole and not _may_stop(text, wish.stop):
            yield Piece(token, text[sent:], ending=ending)
            sent = len(text)
        else:
            # As in llama.cpp, what is held back when the limit comes is lost.
            yield Piece(token, "", ending=ending)
        if ending:
            return


def _tokens(wish: Wish) -> Iterator[int]:
    if wish.forced is not None:
        yield from wish.forced
        yield END_OF_TURN
        return
    choice = [FIRST_WORD + i for i in range(len(WORDS)) if FIRST_WORD + i not in wish.banned] or [FIRST_WORD]
    for count, number in enumerate(_chance(wish.prompt, 0 if wish.greedy else wish.seed)):
        if count >= wish.words and END_OF_TURN not in wish.banned:
            yield END_OF_TURN
        yield choice[(number >> 33) % len(choice)]


def _chance(ids: Sequence[int], seed: int) -> Iterator[int]:
    digest = hashlib.sha256(repr((tuple(ids), seed)).encode()).digest()
    state = int.from_bytes(digest[:8], "big")
    while True:
        state = (state * MULTIPLIER + STEP) % WIDTH
        yield state


def _first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    met = [(text.find(stop), stop) for stop in stops if stop in text]
    return min(met, default=None)


def _may_stop(text: str, stops: Sequence[str]) -> bool:
    return any(text.endswith(stop[:length]) for stop in stops for length in range(1, len(stop)))
