"""The fake's side of the runner's wire: one HTTP/1.1 request per connection, JSON in, JSON or an event stream out."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence

from atrium.core.requests import JsonValue
from atrium.engines.workers.fake_speech import Piece, Wish, bytes_of, tokens_of

Json = dict[str, JsonValue]
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}
NONSENSE = b'data: {"content": \xff\xfe nonsense\n\n'


class RequestError(Exception):
    """A request that llama.cpp would refuse; `body` is its answer."""

    def __init__(self, message: str, *, status: int = 400, kind: str = "invalid_request_error", **more: int) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"error": {"code": status, "message": message, "type": kind, **more}}


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
    """Method, path and body. Raises ValueError, IncompleteReadError, LimitOverrunError."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = dict(line.lower().split(":", 1) for line in lines if ":" in line)
    return method, path, await reader.readexactly(int(headers.get("content-length", "0")))


async def write_json(writer: asyncio.StreamWriter, value: JsonValue, *, status: int = 200) -> None:
    body = json.dumps(value).encode()
    writer.write(_head(status, "application/json; charset=utf-8", f"Content-Length: {len(body)}") + body)
    await writer.drain()


def begin_events(writer: asyncio.StreamWriter) -> None:
    writer.write(_head(200, "text/event-stream", "Transfer-Encoding: chunked"))


async def write_event(writer: asyncio.StreamWriter, event: Json) -> None:
    write_chunk(writer, b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
    await writer.drain()


def write_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    """With no data: the last one."""
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _head(status: int, kind: str, framing: str) -> bytes:
    line = f"HTTP/1.1 {status} {REASONS[status]}"
    return f"{line}\r\nServer: fake\r\nContent-Type: {kind}\r\n{framing}\r\nConnection: close\r\n\r\n".encode()


def read_object(raw: bytes) -> Json:
    try:
        value: JsonValue = json.loads(raw)
    except (ValueError, RecursionError) as bad:
        raise RequestError(f"parse error: {bad}") from bad
    if not isinstance(value, dict):
        raise RequestError("not an object")
    return value


def read_inputs(value: JsonValue) -> list[list[int]]:
    """Of an embedding: a text, token ids, or a list of those."""
    many = value if isinstance(value, list) and value and not isinstance(value[0], int) else [value]
    return [tokens_of(each, special=True) for each in many]


def read_wish(asked: Json, *, window: int, words: int, forced: tuple[int, ...] | None) -> Wish:
    prompt = tokens_of(asked.get("prompt"), special=True)
    if not prompt:
        raise RequestError('"prompt" must not be empty')
    if len(prompt) + 1 > window:
        said = f"request ({len(prompt)} tokens) exceeds the available context size ({window} tokens)"
        raise RequestError(said, kind="exceed_context_size_error", n_prompt_tokens=len(prompt), n_ctx=window)
    return Wish(
        prompt=tuple(prompt),
        most=_whole(asked, "n_predict", -1),
        words=words,
        window=window,
        seed=max(0, _whole(asked, "seed", 0)),
        greedy=asked.get("temperature") == 0,
        stop=tuple(text for text in _items(asked, "stop") if isinstance(text, str) and text),
        banned=_banned(_items(asked, "logit_bias")),
        forced=forced,
    )


def token_event(asked: Json, wish: Wish, piece: Piece, count: int) -> Json:
    event: Json = {
        "index": 0,
        "content": piece.text,
        "tokens": [piece.token],
        "stop": False,
        "id_slot": -1,
        "tokens_predicted": count,
        "tokens_evaluated": len(wish.prompt),
    }
    if (wanted := _whole(asked, "n_probs", 0)) > 0:
        best: list[JsonValue] = [_score(piece.token + i, i) for i in range(wanted) if bytes_of(piece.token + i)]
        event["completion_probabilities"] = [{**_score(piece.token, 0), "top_logprobs": best}]
    return event


def last_event(wish: Wish, last: Piece, count: int, *, model: str, slot: int, seconds: float) -> Json:
    prompt = len(wish.prompt)
    return {
        "index": 0,
        "content": "",
        "tokens": [],
        "id_slot": slot,
        "stop": True,
        "model": model,
        "tokens_predicted": count,
        "tokens_evaluated": prompt,
        "truncated": last.ending == "limit" and prompt + count >= wish.window,
        "stop_type": last.ending,
        "stopping_word": last.stop,
        "tokens_cached": prompt + count - 1,
        "timings": {
            "cache_n": 0,
            "prompt_n": prompt,
            "prompt_ms": 0.0,
            "predicted_n": count,
            "predicted_ms": seconds * 1000,
        },
    }


def trimmed(asked: Json, event: Json) -> Json:
    """The last event with the fields that were asked for."""
    wanted = _items(asked, "response_fields")
    return {name: value for name, value in event.items() if name in wanted} if wanted else event


def _score(token: int, place: int) -> Json:
    """Halves from one place to the next."""
    raw = bytes_of(token)
    shown = raw.decode("utf-8", "ignore")
    return {"id": token, "token": shown, "bytes": list[JsonValue](raw), "logprob": math.log(0.5 ** (place + 1))}


def _banned(biases: Sequence[JsonValue]) -> frozenset[int]:
    """Tokens whose bias forbids them: `[id, false]` or `[id, -100]`."""
    found: set[int] = set()
    for pair in biases:
        match pair:
            case [int(token), False]:
                found.add(token)
            case [int(token), int(bias) | float(bias)] if bias <= -100:
                found.add(token)
            case _:
                pass
    return frozenset(found)


def _items(asked: Json, name: str) -> list[JsonValue]:
    value = asked.get(name)
    return value if isinstance(value, list) else []


def _whole(asked: Json, name: str, default: int) -> int:
    value = asked.get(name)
    return value if isinstance(value, int) else default
