"""Where settings come from: a YAML file, then the environment on top. Read once, at the start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from atrium.core.errors import ConfigError
from atrium.settings.read import Reader
from atrium.settings.tree import Loaded, Settings
from atrium.settings.yaml_text import Node, parse_yaml

PREFIX = "ATRIUM_"
NOT_SETTINGS = {
    "ATRIUM_CONFIG",
    "ATRIUM_DATA_DIR",
    "ATRIUM_ADMIN_PASSWORD",
    "ATRIUM_PEPPER",
    "ATRIUM_ENDPOINT_KEY",
    "ATRIUM_URL",
}
"""The last one is the clients': the server must not stumble over it."""
SHORT_NAMES = {"ATRIUM_DATABASE_URL": ("database", "url")}
FILE_NAME = "atrium.yaml"


def load(config: Path | None, data_dir: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Raises ConfigError that names the place of what is wrong."""
    folder = find_data_dir(data_dir, environ)
    path = find_config(config, folder, environ)
    root = parse_yaml(read_file(path), path.name) if path else Node({}, "defaults")
    merged = merge(root, environment_nodes(environ))
    settings = Reader(environ).tree(Settings, merged, "")
    return Loaded(settings, folder, path)


def find_data_dir(given: Path | None, environ: Mapping[str, str]) -> Path:
    if given:
        return given.expanduser().absolute()
    if own := environ.get("ATRIUM_DATA_DIR"):
        return Path(own).expanduser().absolute()
    if shared := environ.get("XDG_DATA_HOME"):
        return Path(shared).expanduser().absolute() / "atrium"
    home = environ.get("HOME") or str(Path.home())
    return Path(home).absolute() / ".local" / "share" / "atrium"


def find_config(given: Path | None, folder: Path, environ: Mapping[str, str]) -> Path | None:
    """A named file must exist; the one in the data folder may."""
    named = given or (Path(environ["ATRIUM_CONFIG"]) if environ.get("ATRIUM_CONFIG") else None)
    if named:
        return named.expanduser().absolute()
    own = folder / FILE_NAME
    return own if own.is_file() else None


def read_file(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def environment_nodes(environ: Mapping[str, str]) -> dict[tuple[str, ...], Node]:
    """Settings of the environment by their path. Raises ConfigError for a name that nothing has."""
    paths = setting_paths(Settings)
    known = {PREFIX + "__".join(path).upper(): path for path in paths} | SHORT_NAMES
    found: dict[tuple[str, ...], Node] = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        if name not in known:
            near = get_close_matches(name, [*known, *NOT_SETTINGS], n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]}?" if near else "docs/configuration.md lists the names"
            raise ConfigError(f"unknown environment variable {name}", hint=hint)
        found[known[name]] = environment_value(environ[name], name, paths.get(known[name]))
    return found


def setting_paths(kind: type[Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every key of the tree with its type."""
    found: dict[tuple[str, ...], Any] = {}
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        bare = bare_type(hints[field.name])
        own = (*path, field.name)
        if isinstance(bare, type) and is_dataclass(bare):
            found |= setting_paths(bare, own)
        else:
            found[own] = bare
    return found


def bare_type(hint: Any) -> Any:
    """Without its marks, and without the null that may stand for it."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    arms = [arm for arm in get_args(hint) if arm is not type(None)]
    return arms[0] if type(None) in get_args(hint) and len(arms) == 1 else hint


def environment_value(text: str, name: str, kind: Any) -> Node:
    """Lists and mappings as JSON, lists also with commas; what is text stays text."""
    if kind is str or kind is Path:
        return Node(text or None, name)
    if get_origin(kind) is tuple and not text.lstrip().startswith("["):
        return Node([Node(item.strip(), name) for item in text.split(",") if item.strip()], name)
    try:
        return as_node(json.loads(text), name)
    except ValueError:
        return Node(text, name)


def as_node(value: Any, place: str) -> Node:
    if isinstance(value, dict):
        return Node({k: as_node(inner, place) for k, inner in cast("dict[str, Any]", value).items()}, place)
    if isinstance(value, list):
        return Node([as_node(inner, place) for inner in cast("list[Any]", value)], place)
    return Node(value, place)


def merge(root: Node, found: Mapping[tuple[str, ...], Node]) -> Node:
    """The file's tree with the environment's values put over it."""
    for path, node in found.items():
        root = put(root, path, node)
    return root


def put(root: Node, path: tuple[str, ...], node: Node) -> Node:
    if not path:
        return node
    inner = dict(root.value) if isinstance(root.value, dict) else {}
    inner[path[0]] = put(inner.get(path[0], Node({}, node.place)), path[1:], node)
    return Node(inner, root.place)
