"""Token counts from the end of an answer that was relayed, without parsing what passed.

OpenAI's, Anthropic's and Ollama's names; the last of each counts.
"""

from __future__ import annotations

import re

from atrium.core.answers import Usage

PROMPT = re.compile(rb'"(?:prompt_tokens|input_tokens|prompt_eval_count)"\s*:\s*(\d{1,12})')
COMPLETION = re.compile(rb'"(?:completion_tokens|output_tokens|eval_count)"\s*:\s*(\d{1,12})')
BOTH = re.compile(rb'"usage"\s*:\s*\{"prompt_tokens"\s*:\s*(\d{1,12}),\s*"completion_tokens"\s*:\s*(\d{1,12})')
"""As nearly everybody writes it."""


def usage_of(tail: bytes) -> Usage | None:
    """None where the end of the answer tells nothing."""
    # The last object of that name has both figures; without one they may stand anywhere.
    start = tail.rfind(b'"usage"')
    if start >= 0 and (both := BOTH.match(tail, start)):
        return Usage(prompt_tokens=int(both[1]), completion_tokens=int(both[2]))
    if start < 0 and b"tokens" not in tail and b"eval_count" not in tail:
        return None
    prompt, completion = last_of(PROMPT, tail, max(0, start)), last_of(COMPLETION, tail, max(0, start))
    if prompt is None and completion is None:
        return last_usage(tail) if start > 0 else None
    return Usage(prompt_tokens=prompt or 0, completion_tokens=completion or 0)


def last_usage(tail: bytes) -> Usage | None:
    """Where the last `usage` is null: what stands before it."""
    return usage_of(tail[: tail.rfind(b'"usage"')])


def last_of(pattern: re.Pattern[bytes], tail: bytes, start: int) -> int | None:
    found = pattern.findall(tail, start)
    return int(found[-1]) if found else None
