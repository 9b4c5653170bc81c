"""What becomes of each field of a request. The parsers know their fields from here, and so does `docs/api/openai.md`.

Source: contract `openai.md`, sections 3.1 and 4; LocalAI's names from contract `localai.md`, section 7.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    HONOURED = "honoured"
    BY_TEMPLATE = "honoured where the model's template knows it, else dropped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class FieldRule:
    name: str
    rule: str
    verdict: Verdict = Verdict.HONOURED


def rows(verdict: Verdict, rule: str, *names: str) -> tuple[FieldRule, ...]:
    return tuple(FieldRule(name, rule, verdict) for name in names)


SHARED = (
    FieldRule("model", "a model's name or alias; absent or empty: the default model"),
    FieldRule("max_tokens", "0 or absent: until the window is full; 1 to 2³¹-1"),
    FieldRule("temperature", "0 to 2; 0 is greedy, whatever the seed"),
    FieldRule("top_p", "0 to 1"),
    FieldRule("top_k", "a whole number from -1"),
    FieldRule("min_p", "0 to 1"),
    FieldRule("typical_p", "0 to 1"),
    FieldRule("repeat_penalty", "0 to 10"),
    FieldRule("repetition_penalty", "another name of `repeat_penalty`, which wins"),
    FieldRule("repeat_last_n", "how many tokens back penalties look; -1: the window"),
    FieldRule("frequency_penalty", "-2 to 2"),
    FieldRule("presence_penalty", "-2 to 2"),
    FieldRule("seed", "a whole number; with several choices, choice i uses seed + i"),
    FieldRule("logit_bias", "token ids of the model's own tokenizer to -100…100"),
    FieldRule("min_tokens", "tokens before the answer may end; beside a schema, a grammar or tools it is dropped"),
    FieldRule("ignore_eos", "true: only length, window or a stop string ends the answer"),
    FieldRule("stop", "a string or up to 16; never in the output, not even in part"),
    FieldRule("n", "1 to 16, also beyond the model's slots; the prompt counts once"),
    FieldRule("stream", "true or false"),
    FieldRule("stream_options", "`include_usage`; only with `stream`; `include_obfuscation` is of no effect"),
    FieldRule("user", "noted in the closing event"),
    FieldRule("keep_alive", "seconds or a duration that the model stays loaded; negative: for ever"),
    FieldRule("response_format", "`text`, `json_object`, `json_schema`; see below"),
    FieldRule("grammar", "GBNF that the whole output matches"),
    FieldRule("grammar_json_functions", "`oneOf` or `anyOf` of object schemas"),
)
CHAT = (
    FieldRule("messages", "at least one; roles system, developer, user, assistant, tool, function; strings or parts"),
    *SHARED,
    FieldRule("max_completion_tokens", "before `max_tokens`, where both are there"),
    FieldRule("logprobs", "true or false"),
    FieldRule("top_logprobs", "0 to 20, with `logprobs`"),
    FieldRule("tools", "up to 128 functions; other types are refused; works on models without tools of their own"),
    FieldRule("tool_choice", "`auto`, `none`, `required`, a function, `allowed_tools`"),
    FieldRule("parallel_tool_calls", "false: one call at most"),
    FieldRule("functions", "the old form of `tools`"),
    FieldRule("function_call", "the old form of `tool_choice`"),
    *rows(
        Verdict.BY_TEMPLATE,
        "`none`, `minimal`, `low`, `medium`, `high`, `xhigh`",
        "reasoning_effort",
    ),
    *rows(Verdict.BY_TEMPLATE, 'true, false, or `{"type": "enabled"}` or `disabled`', "thinking"),
    *rows(Verdict.BY_TEMPLATE, "variables of the template; each unknown one is named", "chat_template_kwargs"),
    FieldRule("metadata", "up to 16 strings by name; noted in the closing event, kept with `store`"),
    FieldRule("store", "true keeps the answer for `/v1/chat/completions/{id}`"),
    FieldRule("truncation", "`disabled`, or `auto`: the oldest turns of a chat that does not fit are left out"),
    FieldRule("atrium", "`stores` and `top_k`: document stores that the answer stands on"),
    FieldRule(
        "personality", "id of one of the configured `personalities`: its prompt becomes the first system message"
    ),
    FieldRule("modalities", '`["text"]`; with `audio` refused'),
    *rows(Verdict.REFUSED, "no model here speaks in a chat", "audio"),
    *rows(Verdict.REFUSED, "there is no web search here", "web_search_options"),
)
COMPLETION = (
    FieldRule("prompt", "a string, a list of strings, token ids, or a list of lists of those"),
    *SHARED,
    FieldRule("logprobs", "0 to 5; with `echo` also of the prompt's tokens, the first of which has none"),
    FieldRule("best_of", "at least `n`, at most 16; not with `stream`"),
    FieldRule("echo", "true: the prompt stands before the text"),
    *rows(Verdict.REFUSED, "no model here fills in", "suffix"),
)
HINTS = (
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "verbosity",
    "prediction",
    "moderation",
)
"""Known and of no bearing here: dropped and named like any field that nobody knows."""


def known_names(table: Sequence[FieldRule]) -> frozenset[str]:
    return frozenset(row.name for row in table)
