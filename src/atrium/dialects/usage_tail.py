"""Token counts from the end of an answer that was relayed, without parsing what passed.

OpenAI's, Anthropic's and Ollama's names; the last of each counts.
"""

from __future__ import annotations

import re

from atrium.core.answers import Usage

PROMPT = re.compile(rb'"(?:prompt_tokens|input_tokens|prompt_eval_count)"\s*:\s*(\d{1,12})')
COMPLETION = re.compile(rb'"(?:completion_tokens|output_tokens|eval_count)"\s*:\s*(\d{1,12})')


def usage_of(tail: bytes) -> Usage | None:
    """None where the end of the answer tells nothing."""
    if b"tokens" not in tail and b"eval_count" not in tail:
        return None
    prompt, completion = PROMPT.findall(tail), COMPLETION.findall(tail)
    if not prompt and not completion:
        return None
    return Usage(
        prompt_tokens=int(prompt[-1]) if prompt else 0, completion_tokens=int(completion[-1]) if completion else 0
    )
