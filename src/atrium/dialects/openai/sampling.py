"""The sampling fields that chats and completions share."""

from __future__ import annotations

import re

from atrium.core.errors import InvalidValue
from atrium.core.requests import Sampling
from atrium.dialects.fields import Fields, wrong

INT32 = 2**31 - 1
INT64 = 2**63 - 1
MOST_STOPS = 16


def read_sampling(fields: Fields) -> Sampling:
    """Raises InvalidValue for a wrong type or a number out of the contract's range."""
    repeat = fields.number("repeat_penalty", 0, 10)
    return Sampling(
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1),
        top_k=fields.integer("top_k", -1, INT32),
        min_p=fields.number("min_p", 0, 1),
        typical_p=fields.number("typical_p", 0, 1),
        repeat_penalty=repeat if repeat is not None else fields.number("repetition_penalty", 0, 10),
        repeat_last_n=fields.integer("repeat_last_n", -1, INT32),
        frequency_penalty=fields.number("frequency_penalty", -2, 2),
        presence_penalty=fields.number("presence_penalty", -2, 2),
        seed=fields.integer("seed", -INT64 - 1, INT64),
        logit_bias=read_bias(fields),
        min_tokens=fields.integer("min_tokens", 0, INT32) or 0,
        ignore_eos=fields.flag("ignore_eos"),
        max_tokens=read_most(fields),
        stop=read_stop(fields),
    )


def read_most(fields: Fields) -> int | None:
    """`max_completion_tokens` before `max_tokens`; 0 and absent mean until the window is full."""
    newer = fields.integer("max_completion_tokens", 0, INT32)
    older = fields.integer("max_tokens", 0, INT32)
    return (older if newer is None else newer) or None


def read_stop(fields: Fields) -> tuple[str, ...]:
    value = fields.raw("stop")
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else fields.items("stop", MOST_STOPS) or []
    stops: list[str] = []
    for item in items:
        if not isinstance(item, str) or not item:
            raise wrong(fields.place("stop"), "a string or a list of strings, none of them empty", item)
        stops.append(item)
    return tuple(stops)


def read_bias(fields: Fields) -> dict[int, float]:
    inner = fields.inner("logit_bias")
    if inner is None:
        return {}
    bias: dict[int, float] = {}
    for key in inner.values:
        if not re.fullmatch(r"[0-9]{1,9}", key):
            raise InvalidValue(
                f"'logit_bias' has the key '{key[:40]}'; keys are token ids of the model", param="logit_bias"
            )
        bias[int(key)] = inner.number(key, -100, 100) or 0.0
    return bias
