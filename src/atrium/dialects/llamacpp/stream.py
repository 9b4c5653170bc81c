"""A runner's event stream: fed bytes at any boundary, gives its chunks."""

from __future__ import annotations

from array import array

import msgspec

from atrium.core.answers import Embedded
from atrium.core.errors import EngineFailed, EngineNonsense

MOST_LINE = 4 * 1024 * 1024


class Prob(msgspec.Struct):
    id: int = -1
    token: str = ""
    bytes: list[int] = []
    logprob: float = 0.0


class TokenProb(Prob):
    top_logprobs: list[Prob] = []


class Timings(msgspec.Struct):
    """Milliseconds, and how many tokens of the prompt were in the cache."""

    cache_n: int = 0
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class Failure(msgspec.Struct):
    message: str = "no reason given"
    code: int = 500
    type: str = ""


class Chunk(msgspec.Struct):
    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    stop_type: str = ""
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    id_slot: int = -1
    completion_probabilities: list[TokenProb] = []
    timings: Timings | None = None
    error: Failure | None = None


class ErrorAnswer(msgspec.Struct):
    error: Failure


class ChunkReader:
    """Raises EngineFailed for what is no chunk, and for the engine's own error events."""

    def __init__(self, longest: int = MOST_LINE) -> None:
        """`longest`: bytes that one event may have."""
        self._longest = longest
        self._rest = b""
        self._decoder = msgspec.json.Decoder(Chunk)

    def feed(self, data: bytes) -> list[Chunk]:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > self._longest:
            raise EngineNonsense("The engine sent a line without end")
        chunks: list[Chunk] = []
        for line in lines:
            if line.startswith((b"data: ", b"error: ")):
                chunks.append(self._decode(line.split(b": ", 1)[1]))
            elif line.strip() and not line.startswith(b":"):
                raise EngineNonsense("The engine answered what is no event")
        return chunks

    def _decode(self, text: bytes) -> Chunk:
        try:
            chunk = self._decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise EngineNonsense("The engine sent an event that cannot be read") from None
        if chunk.error is not None:
            raise EngineFailed(f"The engine says: {chunk.error.message[:500]}")
        return chunk


def failure_of(body: bytes) -> str:
    """The reason in the engine's error answer."""
    try:
        return msgspec.json.decode(body, type=ErrorAnswer).error.message[:500]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "an answer that cannot be read"


class Tokens(msgspec.Struct):
    tokens: list[int]


class Content(msgspec.Struct):
    content: str


class Embedding(msgspec.Struct):
    index: int
    embedding: bytes
    """Base64 of little-endian float32; msgspec decodes it."""


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int = 0


class Embeddings(msgspec.Struct):
    data: list[Embedding]
    usage: EmbeddingUsage


def tokens_of(body: bytes) -> list[int]:
    """Raises EngineFailed."""
    try:
        return msgspec.json.decode(body, type=Tokens).tokens
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise EngineFailed("The engine's tokenizer answered what cannot be read") from None


def content_of(body: bytes) -> str:
    """Raises EngineFailed."""
    try:
        return msgspec.json.decode(body, type=Content).content
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise EngineFailed("The engine's text of the tokens cannot be read") from None


def embeddings_of(body: bytes) -> Embedded:
    """Raises EngineFailed."""
    try:
        answer = msgspec.json.decode(body, type=Embeddings)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise EngineFailed("The engine's embeddings cannot be read") from None
    in_order = sorted(answer.data, key=lambda one: one.index)
    if any(len(one.embedding) % 4 for one in in_order):
        raise EngineFailed("The engine's embeddings are cut off")
    return Embedded([array("f", one.embedding) for one in in_order], answer.usage.prompt_tokens)
