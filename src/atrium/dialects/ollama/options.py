"""How Ollama's callers say how to generate: `options`, `format`, `think`, `keep_alive`. Contract `ollama.md`, 2 to 4.

Types are checked as the original checks them; what is unknown is passed over, since clients put odd keys there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from atrium.core.errors import InvalidValue
from atrium.core.requests import (
    Constraint,
    FreeText,
    JsonObject,
    JsonSchema,
    JsonValue,
    Sampling,
    Think,
    Tuning,
)
from atrium.dialects.fields import Fields, shown

DEFAULTS = Sampling(temperature=0.8, top_k=40, top_p=0.9, min_p=0.0, repeat_penalty=1.0, repeat_last_n=64)
FLOATS = frozenset(
    [
        "temperature",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "tfs_z",
        "mirostat_tau",
        "mirostat_eta",
    ]
)
INTEGERS = frozenset(
    [
        "num_predict",
        "num_ctx",
        "num_keep",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "top_k",
        "repeat_last_n",
        "seed",
        "mirostat",
    ]
)
FLAGS = frozenset(
    ["numa", "low_vram", "use_mmap", "use_mlock", "f16_kv", "vocab_only", "logits_all", "penalize_newline"]
)
HINTS = frozenset(["num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread"]) | FLAGS
OFF = {"mirostat": 0, "tfs_z": 1}
"""Samplers, and the values at which they do nothing."""
OF_MIROSTAT = frozenset(["mirostat_tau", "mirostat_eta"])
OPTIONS = "options."
INT64 = 2**63
MOST_STOPS = 64
DURATION = re.compile(r"[+-]?(?:(?:\d{1,15}(?:\.\d{0,9})?|\.\d{1,9})(?:ns|us|µs|ms|s|m|h))+")
PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 10.0 * 365 * 24 * 3600
THOUGHTS = {"low": Think.LOW, "medium": Think.MEDIUM, "high": Think.HIGH, "max": Think.HIGH}


@dataclass(frozen=True, slots=True)
class Options:
    sampling: Sampling
    tuning: Tuning


def read_options(fields: Fields) -> Options:
    """Raises InvalidValue."""
    inner = fields.inner("options")
    given: Mapping[str, JsonValue] = inner.values if inner else {}
    options = {name: value for name, value in given.items() if value is not None}
    numbers = {name: read_number(name, options[name]) for name in FLOATS | INTEGERS if name in options}
    for name in FLAGS & options.keys():
        if not isinstance(options[name], bool):
            raise mistyped(name, "boolean")
    seed = whole(numbers, "seed")
    most = whole(numbers, "num_predict")
    sampling = Sampling(
        temperature=numbers.get("temperature"),
        top_p=numbers.get("top_p"),
        top_k=whole(numbers, "top_k"),
        min_p=numbers.get("min_p"),
        typical_p=numbers.get("typical_p"),
        repeat_penalty=numbers.get("repeat_penalty"),
        repeat_last_n=whole(numbers, "repeat_last_n"),
        frequency_penalty=numbers.get("frequency_penalty"),
        presence_penalty=numbers.get("presence_penalty"),
        seed=None if seed is None or seed < 0 else seed,
        max_tokens=most if most is not None and most > 0 else None,
        stop=read_stop(options.get("stop")),
    )
    return Options(sampling, read_tuning(fields, options, numbers))


def read_tuning(fields: Fields, options: Mapping[str, JsonValue], numbers: Mapping[str, float]) -> Tuning:
    context = whole(numbers, "num_ctx")
    if context is not None and context < 1:
        raise InvalidValue('option "num_ctx" must be at least 1', param="options.num_ctx")
    # 0 turns mirostat off and 1.0 the tail-free sampler, which is how they are anyway.
    given = [name for name, off in OFF.items() if numbers.get(name, off) != off]
    samplers = [name for name in options if name in given or (name in OF_MIROSTAT and "mirostat" in given)]
    return Tuning(
        context,
        hints={f"{OPTIONS}{name}": value for name, value in options.items() if name in HINTS},
        samplers={f"{OPTIONS}{name}": options[name] for name in samplers},
        shift=fields.flag("shift", default=True),
    )


def read_number(name: str, value: JsonValue) -> float:
    kind = "float32" if name in FLOATS else "integer"
    if isinstance(value, bool) or not isinstance(value, int | float) or not -INT64 <= value < INT64:
        raise mistyped(name, kind)
    return value


def whole(numbers: Mapping[str, float], name: str) -> int | None:
    """The original reads every number as a float and cuts off what stands behind the point."""
    return int(numbers[name]) if name in numbers else None


def mistyped(name: str, kind: str) -> InvalidValue:
    return InvalidValue(f'option "{name}" must be of type {kind}', param=f"options.{name}")


def read_stop(value: JsonValue) -> tuple[str, ...]:
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    stops = [item for item in items if isinstance(item, str)]
    if len(stops) < len(items):
        raise mistyped("stop", "string, or a list of them")
    if len(stops) > MOST_STOPS:
        raise InvalidValue(
            f'option "stop" has {len(stops)} items; at most {MOST_STOPS} are taken', param="options.stop"
        )
    return tuple(stop for stop in stops if stop)


def read_format(fields: Fields) -> Constraint:
    """Raises InvalidValue."""
    value = fields.raw("format")
    if value is None or value == "":
        return FreeText()
    if value == "json":
        return JsonObject()
    if isinstance(value, dict):
        return JsonSchema(value, place="format")
    raise InvalidValue(f'invalid format: {shown(value)}; expected "json" or a JSON schema', param="format")


def read_think(fields: Fields) -> Think | None:
    """Raises InvalidValue."""
    value = fields.raw("think")
    if value is None:
        return None
    if isinstance(value, bool):
        return Think.ON if value else Think.OFF
    if isinstance(value, str) and value in THOUGHTS:
        return THOUGHTS[value]
    words = ", ".join(f'"{word}"' for word in THOUGHTS)
    raise InvalidValue(f"invalid think value: {shown(value)} (must be {words}, true, or false)", param="think")


def read_keep_alive(fields: Fields) -> float | None:
    """Seconds, or a duration in Go's notation; negative means for ever. Raises InvalidValue."""
    value = fields.raw("keep_alive")
    if value is None:
        return None
    seconds = read_duration(value)
    if seconds is None:
        raise InvalidValue(f"invalid keep_alive duration: {shown(value)}", param="keep_alive")
    return -1.0 if seconds < 0 else min(seconds, LONGEST)


def read_duration(value: JsonValue) -> float | None:
    """None for what is no duration."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if re.fullmatch(r"[+-]?\d{1,15}(?:\.\d{1,9})?", text):
        return float(text)
    if not DURATION.fullmatch(text):
        return None
    seconds = sum(float(part[1]) * SECONDS[part[2]] for part in PART.finditer(text))
    return -seconds if text.startswith("-") else seconds
