"""From plain values to the frozen tree: every type checked, every unknown key refused with the nearest known one."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from atrium.core.errors import ConfigError
from atrium.settings.marks import AtLeast, AtMost, Unit
from atrium.settings.units import read_duration, read_size, read_stay
from atrium.settings.yaml_text import Node

UNITS = {"duration": read_duration, "stay": read_stay, "size": read_size}
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Reader:
    """Reads nodes as types. Raises ConfigError, which names the place and the key.

    `environ` is what `${NAME}` in a text stands for; with None a text is taken as it is written.
    """

    def __init__(self, environ: Mapping[str, str] | None) -> None:
        self._environ = environ

    def tree(self, kind: type[Any], node: Node, path: str) -> Any:
        """An instance of the dataclass `kind`."""
        if not isinstance(node.value, dict):
            raise wrong(node, path, "a mapping of keys")
        hints = get_type_hints(kind, include_extras=True)
        known = {field.name: field for field in fields(kind)}
        for key, inner in node.value.items():
            if key not in known:
                raise unknown(key, tuple(known), inner.place, path)
        values: dict[str, Any] = {}
        for name, field in known.items():
            own = f"{path}.{name}" if path else name
            if name in node.value:
                values[name] = self.value(hints[name], node.value[name], own)
            elif field.default is MISSING and field.default_factory is MISSING:
                raise ConfigError(f"{node.place}: '{own}' is missing")
        return kind(**values)

    def value(self, hint: Any, node: Node, path: str) -> Any:
        marks: tuple[Any, ...] = ()
        if get_origin(hint) is Annotated:
            hint, *rest = get_args(hint)
            marks = tuple(rest)
            if get_origin(hint) is Annotated:
                hint, *deeper = get_args(hint)
                marks += tuple(deeper)
        if get_origin(hint) in (Union, types.UnionType):
            if node.value is None:
                return None
            (hint,) = (arm for arm in get_args(hint) if arm is not type(None))
            if get_origin(hint) is Annotated:
                hint, *inner = get_args(hint)
                marks += tuple(inner)
        if is_dataclass(hint):
            return self.tree(cast("type[Any]", hint), node, path)
        read = self._plain(hint, node, path, marks)
        # A unit brings a bound of its own; the key's may be narrower.
        least = max((mark.value for mark in marks if isinstance(mark, AtLeast)), default=None)
        if least is not None and read < least:
            raise ConfigError(f"{node.place}: '{path}' must be at least {least:g}")
        most = next((mark.value for mark in marks if isinstance(mark, AtMost)), None)
        if most is not None and read > most:
            raise ConfigError(f"{node.place}: '{path}' must be at most {most:.10g}")
        return read

    def _plain(self, hint: Any, node: Node, path: str, marks: tuple[Any, ...]) -> Any:
        origin = get_origin(hint)
        if origin is Literal:
            members = get_args(hint)
            if node.value not in members:
                raise wrong(node, path, " or ".join(map(str, members)))
            return node.value
        if origin is tuple:
            items = node.value if isinstance(node.value, list) else [node]
            return tuple(self.value(get_args(hint)[0], item, path) for item in items)
        if origin is dict:
            if not isinstance(node.value, dict):
                raise wrong(node, path, "a mapping")
            return {key: self.value(get_args(hint)[1], inner, f"{path}.{key}") for key, inner in node.value.items()}
        unit = next((mark.name for mark in marks if isinstance(mark, Unit)), None)
        if unit and isinstance(node.value, str):
            try:
                return UNITS[unit](self._text(node, path))
            except ValueError as error:
                raise ConfigError(f"{node.place}: '{path}': {error}") from None
        return self._scalar(hint, node, path)

    def _scalar(self, hint: Any, node: Node, path: str) -> Any:
        value = node.value
        if hint is Path and isinstance(value, str):
            return Path(self._text(node, path)).expanduser()
        if hint is str:
            if isinstance(value, str):
                return self._text(node, path)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return str(value)
            raise wrong(node, path, "text")
        if hint is bool and isinstance(value, bool):
            return value
        if hint is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        names = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}
        raise wrong(node, path, names.get(hint, "another kind of value"))

    def _text(self, node: Node, path: str) -> str:
        """With `${NAME}` replaced from the environment."""
        environ = self._environ
        if environ is None:
            return str(node.value)

        def found(match: re.Match[str]) -> str:
            if match[1] not in environ:
                raise ConfigError(f"{node.place}: '{path}' needs the environment variable {match[1]}, which is not set")
            return environ[match[1]]

        return VARIABLE.sub(found, str(node.value))


def wrong(node: Node, path: str, expected: str) -> ConfigError:
    shown = (
        "a mapping" if isinstance(node.value, dict) else "a list" if isinstance(node.value, list) else repr(node.value)
    )
    return ConfigError(f"{node.place}: '{path}' must be {expected}, not {shown[:80]}")


def unknown(key: str, known: tuple[str, ...], place: str, path: str) -> ConfigError:
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known here: {', '.join(known)}"
    own = f"{path}.{key}" if path else key
    return ConfigError(f"{place}: unknown key '{own}'", hint=hint)
