"""Reading YAML so that every value knows its line and no key counts twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import yaml

from atrium.core.errors import ConfigError

MOST_BYTES = 1024 * 1024
DEEPEST = 32

Plain = None | bool | int | float | str | list["Node"] | dict[str, "Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands: `atrium.yaml:12`, or the name of an environment variable."""

    value: Plain
    place: str


def parse_yaml(text: str, name: str) -> Node:
    """Raises ConfigError with file and line. Aliases are refused: bombs are made of them."""
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{name} is larger than {MOST_BYTES} bytes")
    try:
        for event in cast("Iterator[yaml.Event]", yaml.parse(text, Loader=yaml.SafeLoader)):  # pyright: ignore[reportUnknownMemberType] - untyped library
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{name}:{event.start_mark.line + 1}: aliases are not supported")
        root = cast("yaml.Node | None", yaml.compose(text, Loader=yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType] - as above
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    return Node({}, name) if root is None else _read(root, name, 0)


def _read(node: yaml.Node, name: str, depth: int) -> Node:
    place = f"{name}:{node.start_mark.line + 1}"
    if depth > DEEPEST:
        raise ConfigError(f"{place}: nested too deeply")
    if isinstance(node, yaml.MappingNode):
        return Node(_read_mapping(node, name, depth), place)
    if isinstance(node, yaml.SequenceNode):
        return Node([_read(item, name, depth + 1) for item in node.value], place)
    value = cast("object", yaml.SafeLoader("").construct_object(node))  # pyright: ignore[reportUnknownMemberType] - as above
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ConfigError(f"{place}: write this value in quotes")
    return Node(value, place)


def _read_mapping(node: yaml.MappingNode, name: str, depth: int) -> dict[str, Node]:
    read: dict[str, Node] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        place = f"{name}:{key_node.start_mark.line + 1}"
        if key in read:
            raise ConfigError(f"{place}: '{key}' is given twice")
        inner = _read(value_node, name, depth + 1)
        read[key] = Node(inner.value, place)
    return read
