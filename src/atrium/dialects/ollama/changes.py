"""Requests that change which models there are, and how far they are. Source: contract `ollama.md`, section 6."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from atrium.core.errors import InvalidValue, Unsupported
from atrium.core.models import Installing, ModelCard, ModelConfig
from atrium.core.requests import JsonValue
from atrium.dialects.fields import Fields, shown
from atrium.dialects.ollama.listings import plain
from atrium.dialects.ollama.messages import read_messages
from atrium.dialects.ollama.options import OPTIONS, read_options
from atrium.dialects.ollama.request import parse_model
from atrium.dialects.ollama.template import to_jinja

MOST_MESSAGES = 1000
FILE = "file://"
GGUF = ".gguf"
DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
FIELDS = "Send what it says as 'from', 'system', 'template', 'parameters', 'messages' and 'license'"
QUANTIZED = "Quantise the file with llama-quantize and send the result"
NOT_TAKEN = {
    "quantize": QUANTIZED,
    "quantization": QUANTIZED,
    "adapters": "Merge the adapter into the model with llama-export-lora and send the result",
    "modelfile": FIELDS,
    "path": FIELDS,
}
"""Fields of a request to create, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Created:
    name: str
    base: str
    """The model that it is made of; empty where it is made of a file."""
    file: str
    """sha256 of that file in hex; empty where it is made of a model."""
    config: ModelConfig
    dropped: tuple[str, ...] = ()
    """Parameters that no engine here has a use for."""


def parse_source(fields: Fields) -> str:
    """What to install: a name without the tag that may be left out, or a path. Raises InvalidValue."""
    return plain(parse_model(fields)).removeprefix(FILE)


def parse_copy(fields: Fields) -> tuple[str, str]:
    """Raises InvalidValue."""
    return fields.needed_text("source"), fields.needed_text("destination")


def parse_create(fields: Fields) -> Created:
    """Raises InvalidValue, Unsupported."""
    name = parse_model(fields)
    for field, hint in NOT_TAKEN.items():
        if fields.raw(field):
            raise Unsupported(f"'{field}' is not taken when a model is made", hint=hint, param=field)
    base, file = fields.text("from") or "", read_file(fields)
    if not base and not file:
        raise InvalidValue("neither 'from' or 'files' was specified", param="from")
    if base and file:
        raise InvalidValue("A model is made either 'from' another one or of 'files'", param="files")
    inner = fields.inner("parameters")
    parameters: dict[str, JsonValue] = dict(inner.values) if inner else {}
    options = read_options(Fields({"options": parameters}))
    template = fields.text("template")
    messages = read_messages(fields.items("messages", MOST_MESSAGES) or ())
    return Created(
        name,
        base,
        file,
        ModelConfig(
            system=fields.text("system") or None,
            messages=tuple((message.role.value, message.text) for message in messages),
            template=to_jinja(template) if template else None,
            sampling=options.sampling,
            context=options.tuning.context,
            license=licence_of(fields.raw("license")),
        ),
        tuple(name.replace(OPTIONS, "parameters.") for name in options.tuning.unmet),
    )


def read_file(fields: Fields) -> str:
    """The one GGUF file that a model may be made of. Raises InvalidValue, Unsupported."""
    files = fields.texts("files")
    for name in files:
        if not name.lower().endswith(GGUF):
            hint = "Convert the model to GGUF with llama.cpp's convert_hf_to_gguf.py, and send that file"
            raise Unsupported(f"'files' names '{name[:100]}'; only GGUF files are taken", hint=hint, param="files")
    if len(files) > 1:
        hint = "Join the parts with llama-gguf-split --merge; put a projector beside the model and adopt its folder"
        raise Unsupported(f"'files' names {len(files)} files; a model is made of one", hint=hint, param="files")
    return next((parse_digest(digest) for digest in files.values()), "")


def parse_digest(given: str) -> str:
    """Hex of a sha256 as Ollama writes it. Raises InvalidValue."""
    found = DIGEST.fullmatch(given.strip())
    if found is None:
        raise InvalidValue(f"invalid digest: {shown(given)}; it must be sha256: and 64 hex digits", param="digest")
    return found[1].lower()


def licence_of(value: JsonValue) -> str:
    """One text or several."""
    texts = value if isinstance(value, list) else [value]
    return "\n".join(text for text in texts if isinstance(text, str))


class Progress:
    """Lines that tell how far a change is; what is done never becomes less."""

    def __init__(self) -> None:
        self._done = 0
        self._total = 0

    def said(self, status: str) -> bytes:
        return orjson.dumps({"status": status}) + b"\n"

    def step(self, state: Installing) -> bytes:
        if state.stage == "downloading" and state.total:
            self._total = max(self._total, state.total)
            self._done = max(self._done, min(state.done, self._total))
            counts = {"total": self._total, "completed": self._done}
            counts = {"digest": f"sha256:{state.digest}", **counts} if state.digest else counts
            return orjson.dumps({"status": f"pulling {state.digest[:12] or state.name}", **counts}) + b"\n"
        return self.said("verifying sha256 digest" if state.stage == "verifying" else f"{state.stage} {state.name}")

    def whole(self, card: ModelCard) -> bytes:
        digest = f"sha256:{card.digest}"
        size = max(self._total, card.size)
        status = f"pulling {card.digest[:12]}"
        return orjson.dumps({"status": status, "digest": digest, "total": size, "completed": size}) + b"\n"
