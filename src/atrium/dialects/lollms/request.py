"""What `/lollms/v1` takes. Fields that are not known are passed over."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.errors import InvalidValue
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.fields import Fields, wrong
from atrium.dialects.json_text import parse_object


@dataclass(frozen=True, slots=True)
class TextCall:
    model: str
    """Empty: the default chat model."""
    text: str


@dataclass(frozen=True, slots=True)
class TokensCall:
    model: str
    ids: tuple[int, ...]


def parse_text(raw: bytes, bounds: RequestBounds) -> TextCall:
    """Raises InvalidJson, InvalidValue."""
    fields = read(raw, bounds)
    text = fields.text("text")
    if text is None:
        raise InvalidValue("'text' is required", param="text")
    return TextCall(fields.text("model") or "", text)


def parse_tokens(raw: bytes, bounds: RequestBounds) -> TokensCall:
    """Raises InvalidJson, InvalidValue."""
    fields = read(raw, bounds)
    items = fields.raw("tokens")
    if items is None:
        raise InvalidValue("'tokens' is required", param="tokens")
    if not isinstance(items, list):
        raise wrong("tokens", "a list of token ids", items)
    ids: list[int] = []
    for item in items:
        if type(item) is not int or not 0 <= item < 2**31:
            raise wrong("tokens", "a list of token ids, which are whole numbers from 0", item)
        ids.append(item)
    return TokensCall(fields.text("model") or "", tuple(ids))


def parse_model(raw: bytes, bounds: RequestBounds) -> str:
    """An absent body means the default chat model, too. Raises InvalidJson, InvalidValue."""
    return (read(raw, bounds).text("model") or "") if raw.strip() else ""


def read(raw: bytes, bounds: RequestBounds) -> Fields:
    """Raises InvalidJson."""
    return Fields(parse_object(raw, depth=bounds.depth, items=bounds.items, prose=True))
