"""`metadata`: what a caller notes beside a request or an object, held to OpenAI's bounds."""

from __future__ import annotations

from collections.abc import Mapping

from atrium.core.errors import InvalidValue
from atrium.dialects.fields import Fields, wrong

MOST_METADATA = 16
LONGEST_KEY = 64
LONGEST_VALUE = 512


def read_metadata(fields: Fields) -> Mapping[str, str]:
    """A flat map of strings. Raises InvalidValue, also for one that is larger than OpenAI's."""
    inner = fields.inner("metadata")
    if inner is None:
        return {}
    if len(inner.values) > MOST_METADATA:
        raise InvalidValue(f"'metadata' has more than {MOST_METADATA} entries", param="metadata")
    told: dict[str, str] = {}
    for key, value in inner.values.items():
        if not isinstance(value, str):
            raise wrong(inner.place(key[:LONGEST_KEY]), "a string", value)
        if len(key) > LONGEST_KEY or len(value) > LONGEST_VALUE:
            message = f"'metadata' takes keys of {LONGEST_KEY} and values of {LONGEST_VALUE} characters at most"
            raise InvalidValue(message, param="metadata")
        told[key] = value
    return told
