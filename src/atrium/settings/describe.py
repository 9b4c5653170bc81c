"""The settings tree told to others: as plain values, as a JSON Schema, as a page of documentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from atrium.settings.marks import AtLeast, Doc, Secret, Unit
from atrium.settings.tree import Settings

SIZES = (("GB", 1024**3), ("MB", 1024**2), ("KB", 1024))
SPANS = (("h", 3600.0), ("m", 60.0), ("s", 1.0))


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the tree: its path, its bare type, what it may be, and the value that holds without it."""

    path: str
    kind: Any
    nullable: bool
    text: str
    unit: str | None
    least: float | None
    default: Any


def plain(value: Any) -> Any:
    """Settings as what JSON can say."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in cast("list[Any]", value)]
    return str(value) if isinstance(value, Path) else value


def without_secrets(value: Any) -> Any:
    """As `plain`, with every field that is marked as a secret blotted out."""
    if is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value), include_extras=True)
        told: dict[str, Any] = {}
        for field in fields(value):
            own = getattr(value, field.name)
            secret = any(isinstance(mark, Secret) for mark in taken_apart(hints[field.name])[2])
            told[field.name] = "…" if secret and own else without_secrets(own)
        return told
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in cast("list[Any]", value)]
    return plain(value)


def keys(kind: type[Any], path: str = "") -> Iterator[Key]:
    """Every key, sections before what is in them and behind the plain keys beside them."""
    hints = get_type_hints(kind, include_extras=True)
    for field in sorted(fields(kind), key=lambda field: section_of(taken_apart(hints[field.name])[0]) is not None):
        bare, nullable, marks = taken_apart(hints[field.name])
        own = f"{path}.{field.name}" if path else field.name
        text = next((mark.text for mark in marks if isinstance(mark, Doc)), "")
        unit = next((mark.name for mark in marks if isinstance(mark, Unit)), None)
        least = max((mark.value for mark in marks if isinstance(mark, AtLeast)), default=None)
        yield Key(own, bare, nullable, text, unit, least, default_of(field))
        inner = section_of(bare)
        if inner is not None:
            yield from keys(inner, own)


def section_of(kind: Any) -> type[Any] | None:
    """The dataclass whose keys stand below: of the key itself, or of each item of its list."""
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return cast("type[Any]", kind) if isinstance(kind, type) and is_dataclass(kind) else None


def taken_apart(hint: Any) -> tuple[Any, bool, list[Any]]:
    """The bare type, whether null may stand for it, and its marks."""
    marks: list[Any] = []
    nullable = False
    while True:
        if get_origin(hint) is Annotated:
            hint, *rest = get_args(hint)
            marks += rest
        elif type(None) in get_args(hint):
            nullable = True
            (hint,) = (arm for arm in get_args(hint) if arm is not type(None))
        else:
            return hint, nullable, marks


def default_of(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None


def shown(key: Key) -> str:
    """A default as it would be written in YAML."""
    value = key.default
    if value is None:
        return "null"
    if key.unit == "size":
        return next((f"{value // factor}{unit}" for unit, factor in SIZES if value and value % factor == 0), str(value))
    if key.unit == "stay" and value < 0:
        return "never"
    if key.unit in ("duration", "stay"):
        return next(
            (f"{value / factor:g}{unit}" for unit, factor in SPANS if value and value % factor == 0), f"{value:g}s"
        )
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | dict):
        return str(plain(value)).replace("'", '"')
    return str(value)


def meant(key: Key) -> str:
    """What a key does, with the values it may have where those are few."""
    kind = get_args(key.kind)[0] if get_origin(key.kind) is tuple else key.kind
    if get_origin(kind) is not Literal:
        return key.text
    return f"{key.text}; one of {', '.join(f'`{value}`' for value in cast('tuple[str, ...]', get_args(kind)))}"


def describe(kind: type[Settings]) -> str:
    """`docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        "Made from the settings tree by `atrium config docs`; a test compares. Values come from `--config`, else",
        "`ATRIUM_CONFIG`, else `atrium.yaml` in the data folder; `ATRIUM_<SECTION>__<KEY>` in the environment",
        "overrides them. Unknown keys stop the start. Durations take `ms s m h` or bare seconds, sizes `KB MB GB`",
        "(powers of 1024), and `${NAME}` in any text is taken from the environment.",
        "",
        "Six names of the environment are no settings: `ATRIUM_CONFIG`, `ATRIUM_DATA_DIR`, `ATRIUM_ADMIN_PASSWORD`",
        "(sets the password of `admin` while there is none), `ATRIUM_PEPPER` (64 hex digits, shared by several",
        "gateways), `ATRIUM_ENDPOINT_KEY` (for `atrium endpoints add`) and `ATRIUM_URL` (left to your own programs).",
        "`ATRIUM_DATABASE_URL` is short for `ATRIUM_DATABASE__URL`.",
    ]
    for key in keys(kind):
        if section_of(key.kind) is not None:
            optional = ", null by default" if key.nullable else ""
            optional = ", a list" if get_origin(key.kind) is tuple else optional
            lines += ["", f"## {key.path}", "", f"{key.text[:1].upper()}{key.text[1:]}{optional}.", ""]
            lines += ["| key | default | what it does |", "|---|---|---|"]
        elif "." in key.path:
            lines.append(f"| `{key.path.rsplit('.', 1)[1]}` | `{shown(key)}` | {meant(key)} |")
        else:
            lines += ["", f"## {key.path}", "", f"{key.text[:1].upper()}{meant(key)[1:]}. Default: `{shown(key)}`."]
    return "\n".join(lines) + "\n"


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """For editors: the same tree that the loader reads."""
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Atrium"}
    return schema | object_schema(kind)


def object_schema(kind: type[Any]) -> dict[str, Any]:
    own = [key for key in keys(kind) if "." not in key.path]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.path: key_schema(key) | {"description": key.text} for key in own},
    }


def key_schema(key: Key) -> dict[str, Any]:
    schema = type_schema(key.kind)
    if key.unit:
        schema = {"anyOf": [schema, {"type": "string"}]}
    if key.least is not None:
        schema |= {"minimum": key.least}
    return {"anyOf": [schema, {"type": "null"}]} if key.nullable else schema


def type_schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and is_dataclass(kind):
        return object_schema(kind)
    if get_origin(kind) is Literal:
        return {"enum": [*cast("tuple[str, ...]", get_args(kind))]}
    if get_origin(kind) is tuple:
        (member, _) = get_args(kind)
        return {"type": "array", "items": type_schema(member)}
    if get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": True}
    names = {bool: "boolean", int: "integer", float: "number"}
    return {"type": names.get(cast("type[Any]", kind), "string")}
