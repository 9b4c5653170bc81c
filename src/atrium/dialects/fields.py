"""Reading fields: types are checked, never coerced, and every refusal names its field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atrium.core.errors import InvalidValue
from atrium.core.requests import JsonValue

SHOWN = 60


def shown(value: JsonValue) -> str:
    """A value as it may stand in a message: short, and of a container only its kind."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def wrong(place: str, expected: str, value: JsonValue) -> InvalidValue:
    return InvalidValue(f"'{place}' must be {expected}, not {shown(value)}", param=place)


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of the request with the path where it stands (empty at the top). A null is as good as absent."""

    values: Mapping[str, JsonValue]
    path: str = ""

    def place(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def raw(self, name: str) -> JsonValue:
        return self.values.get(name)

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise wrong(self.place(name), "a string", value)

    def needed_text(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise InvalidValue(f"'{self.place(name)}' is required and must not be empty", param=self.place(name))
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise wrong(self.place(name), "true or false", value)

    def number(self, name: str, least: float, most: float) -> float | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(self.place(name), "a number", value)
        if not least <= value <= most:
            raise wrong(self.place(name), f"between {least:g} and {most:g}", value)
        return float(value)

    def integer(self, name: str, least: int, most: int) -> int | None:
        """A whole number; `1.0` is one."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise wrong(self.place(name), "a whole number", value)
        if not least <= value <= most:
            raise wrong(self.place(name), f"between {least} and {most}", value)
        return int(value)

    def items(self, name: str, most: int) -> list[JsonValue] | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise wrong(self.place(name), "a list", value)
        if len(value) > most:
            raise InvalidValue(
                f"'{self.place(name)}' has {len(value)} items; at most {most} are taken", param=self.place(name)
            )
        return value

    def inner(self, name: str) -> Fields | None:
        value = self.values.get(name)
        return None if value is None else as_fields(value, self.place(name))

    def one_of(self, name: str, members: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in members:
            raise wrong(self.place(name), " or ".join(f"'{m}'" for m in members), value)
        return value

    def texts(self, name: str) -> Mapping[str, str]:
        """A flat map of strings."""
        inner = self.inner(name)
        if inner is None:
            return {}
        return {key: inner.text(key) or "" for key in inner.values}


def as_fields(value: JsonValue, place: str) -> Fields:
    if not isinstance(value, dict):
        raise wrong(place, "an object", value)
    return Fields(value, place)
