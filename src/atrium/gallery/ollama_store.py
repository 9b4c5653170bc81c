"""Ollama's model folder: manifests that name blobs by their sha256. Read only, and all of it blocks.

The form is that of Ollama's `manifests/HOST/NAMESPACE/MODEL/TAG`, a JSON document like those of container registries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

MOST_MANIFESTS = 10_000
MOST_BYTES = 1024 * 1024
"""Of a manifest or of a layer that is text."""
HOST = "registry.ollama.ai"
NAMESPACE = "library"
LAYER = "application/vnd.ollama.image."
DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


class Layer(msgspec.Struct):
    digest: str
    media: str = msgspec.field(name="mediaType", default="")


class Manifest(msgspec.Struct):
    layers: list[Layer] = []


class Turn(msgspec.Struct):
    role: Literal["system", "user", "assistant"]
    content: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    name: str
    weights: Path
    digest: str
    projectors: tuple[Path, ...]
    system: str
    template: str
    parameters: tuple[tuple[str, object], ...]
    license: str
    messages: tuple[tuple[str, str], ...] = ()
    """Role and text of what stands before every chat."""


def is_store(folder: Path) -> bool:
    return (folder / "manifests").is_dir() and (folder / "blobs").is_dir()


def stored(store: Path) -> Iterator[Stored]:
    """Models whose manifest can be read; one without weights in GGUF is passed over."""
    for number, path in enumerate(sorted((store / "manifests").glob("*/*/*/*"))):
        if number >= MOST_MANIFESTS:
            return
        if path.is_file() and not path.name.startswith(".") and (one := read_manifest(store, path)):
            yield one


def read_manifest(store: Path, path: Path) -> Stored | None:
    try:
        manifest = msgspec.json.decode(small(path), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
        return None
    blobs: dict[str, list[Path]] = {}
    for layer in manifest.layers:
        if digest := DIGEST.fullmatch(layer.digest):
            blobs.setdefault(layer.media.removeprefix(LAYER), []).append(store / "blobs" / f"sha256-{digest[1]}")
    weights = blobs.get("model")
    if not weights:
        return None
    return Stored(
        name=name_of(path),
        weights=weights[0],
        digest=weights[0].name.removeprefix("sha256-"),
        projectors=tuple(blobs.get("projector", ())),
        system=text_of(blobs.get("system")),
        template=text_of(blobs.get("template")),
        parameters=parameters_of(text_of(blobs.get("params"))),
        license=text_of(blobs.get("license")),
        messages=messages_of(text_of(blobs.get("messages"))),
    )


def name_of(manifest: Path) -> str:
    """As Ollama shows it: host and namespace only where they are not the usual ones."""
    host, namespace, model, tag = manifest.parts[-4:]
    name = f"{model}:{tag}"
    if host != HOST:
        return f"{host}/{namespace}/{name}"
    return name if namespace == NAMESPACE else f"{namespace}/{name}"


def small(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES)


def text_of(blobs: list[Path] | None) -> str:
    try:
        return small(blobs[0]).decode("utf-8", "replace") if blobs else ""
    except OSError:
        return ""


def parameters_of(text: str) -> tuple[tuple[str, object], ...]:
    if not text:
        return ()
    try:
        found = msgspec.json.decode(text, type=dict[str, str | int | float | bool | list[str] | None])
    except msgspec.MsgspecError:
        return ()
    return tuple(sorted(found.items()))


def messages_of(text: str) -> tuple[tuple[str, str], ...]:
    if not text:
        return ()
    try:
        return tuple((turn.role, turn.content) for turn in msgspec.json.decode(text, type=list[Turn]))
    except msgspec.MsgspecError:
        return ()
