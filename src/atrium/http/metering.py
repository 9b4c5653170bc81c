"""Quotas of relayed requests, and the records of all of them: what is counted where a request begins and ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, Protocol

from atrium.core.answers import Usage
from atrium.core.people import Caller
from atrium.core.quotas import Measure, Worst
from atrium.core.usage import UsageRecord
from atrium.decisions.allow import Area, check_model
from atrium.dialects.openai.usage_chunk import UsageTaker, answer_bound, ask_for_usage
from atrium.http.asked import READING, Asked
from atrium.http.edge import Exchange
from atrium.http.reading import ClientGone
from atrium.services.meter import NOTHING, Hold, Meter
from atrium.services.metered import CHARACTERS, PLANNED

COUNTED = frozenset({b"/v1/chat/completions", b"/v1/completions"})
"""Whose streams can count their tokens."""


@dataclass(slots=True, eq=False)
class Claim:
    """What a relayed request holds of its caller's quotas until it has ended."""

    entry: Hold = NOTHING
    use: Hold = NOTHING
    counts_tokens: bool = False
    lines: bytes = b""
    """What is left."""

    def settle(self, status: int, tokens: int) -> None:
        """`tokens`: that were used, as far as is known."""
        counts = has_counted(status)
        self.entry.settle(0, counts=counts)
        self.use.settle(tokens if counts else 0, counts=counts)


UNCLAIMED = Claim()


class Claimant(Protocol):
    """A relayed request, as far as it matters here."""

    asked: Asked
    caller: Caller | None

    @property
    def body(self) -> bytes: ...


def claim(meter: Meter, request: Claimant, names: tuple[str, ...]) -> Claim:
    """`names`: as the model was asked for, and what it may mean; all empty where none was named.

    Raises Forbidden where the key is not for the model, RateLimited.
    """
    caller, asked = request.caller, request.asked
    if caller is None:
        return UNCLAIMED
    if caller.scopes.models and (any(names) or asked.method not in READING):
        check_model(caller, names)
    if meter.idle or asked.method != b"POST" or asked.place.area is Area.ADMIN:
        return UNCLAIMED
    entry = meter.enter(caller)
    try:
        counts = meter.counts_tokens(caller, names)
        use = meter.use(caller, names, worst_of(request.body) if counts else Worst(0, 0))
    except BaseException:
        entry.settle(0, counts=False)
        raise
    return Claim(entry, use, counts, quota_lines(meter, caller, names))


def counted(claim: Claim, asked: Asked, body: bytes, *, stream: bool) -> tuple[bytes, UsageTaker | None]:
    """With a quota of tokens a stream is asked to count them, which an endpoint does in a chunk of its own; what takes
    that chunk out again comes along."""
    if not (claim.counts_tokens and stream and asked.rest in COUNTED):
        return body, None
    asking = ask_for_usage(body)
    return (body, None) if asking is None else (asking, UsageTaker())


def worst_of(body: bytes) -> Worst:
    prompt = len(body) // CHARACTERS + 1
    limit = answer_bound(body)
    return Worst(prompt, prompt + PLANNED) if limit is None else Worst(prompt + limit, prompt + limit)


def quota_lines(meter: Meter, caller: Caller, names: tuple[str, ...]) -> bytes:
    """What is left of the tightest quotas, in the headers that OpenAI's clients read; nothing where there are none."""
    lines = b""
    for measure in Measure:
        line = meter.tightest(caller, names, measure)
        if line is not None:
            name = measure.value.encode()
            left = max(0.0, line.window.ends - time.time())
            lines += b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\n" % (
                name,
                line.quota.amount,
                name,
                line.left,
            )
            lines += b"x-ratelimit-reset-%b: %.3fs\r\n" % (name, left)
    return lines


def is_metered(exchange: Exchange, area: Area) -> bool:
    """Whether it counts as a request: a listing does not."""
    return exchange.method == "POST" and area is Area.USE


def has_counted(status: int) -> bool:
    """Whether a request used anything up: not what was refused or failed, but what its client did not wait for."""
    return 0 < status < HTTPStatus.BAD_REQUEST or status == ClientGone.status


class Ran(NamedTuple):
    """Where it was answered, and what that took."""

    endpoint: str = ""
    """Empty for the built-in engine."""
    model: str = ""
    usage: Usage = Usage()
    exact: bool = True


NOWHERE = Ran()


def record_of(caller: Caller, door: str, ended: tuple[str, int], took: tuple[float, float], ran: Ran) -> UsageRecord:
    """`ended`: method and status; `took`: when it ended on the wall clock, and the seconds it took."""
    method, status = ended
    at, seconds = took
    metered = method == "POST"
    usage = ran.usage
    return UsageRecord(
        at,
        door,
        caller.user_id or 0,
        caller.key_id or 0,
        ran.model,
        ran.endpoint,
        int(metered),
        int(metered and not has_counted(status)),
        usage.prompt_tokens,
        usage.completion_tokens,
        seconds,
        ran.exact,
    )
