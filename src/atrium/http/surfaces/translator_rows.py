"""How translations are told. Source: contract `olla.md`, section 12.7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrium.dialects.olla import words
from atrium.relay.tally import Translations, Translator

Json = dict[str, Any]


def translator_pages(translations: Translations) -> Json:
    rows = [translator_row(f"{caller}-to-{target}", one) for (caller, target), one in translations.pairs.items()]
    return {"translators": rows, "summary": summary_of(list(translations.pairs.values()))}


def translator_row(name: str, one: Translator) -> Json:
    return {
        "translator_name": name,
        "total_requests": one.requests,
        "successful_requests": one.ended - one.failures,
        "failed_requests": one.failures,
        "success_rate": words.share(one.ended - one.failures, one.ended),
        "passthrough_rate": words.share(0, one.requests),
        "passthrough_requests": 0,
        "translation_requests": one.requests,
        "streaming_requests": one.streams,
        "non_streaming_requests": one.requests - one.streams,
        "fallback_no_compatible_endpoints": 0,
        "fallback_translator_does_not_support_passthrough": one.requests,
        "fallback_cannot_passthrough": 0,
        "average_latency": f"{one.seconds / one.ended * 1000:.0f}ms" if one.ended else "0ms",
    }


def summary_of(all_: Sequence[Translator]) -> Json:
    requests = sum(one.requests for one in all_)
    ended = sum(one.ended for one in all_)
    streams = sum(one.streams for one in all_)
    return {
        "total_translators": len(all_),
        "active_translators": sum(1 for one in all_ if one.requests),
        "total_requests": requests,
        "overall_success_rate": words.share(ended - sum(one.failures for one in all_), ended),
        "total_passthrough": 0,
        "total_translations": requests,
        "overall_passthrough_rate": words.share(0, requests),
        "total_streaming": streams,
        "total_non_streaming": requests - streams,
    }
