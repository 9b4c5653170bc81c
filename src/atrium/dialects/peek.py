"""Looking into a request's body just far enough to route it: which model, and whether a stream is wanted.

What a partial decoder would let pass is refused here, since an endpoint might read it differently: a field that stands
twice, nesting that has no end, bytes that are not UTF-8.
"""

from __future__ import annotations

import re

import msgspec
import orjson

from atrium.core.errors import InvalidJson, InvalidValue

DEEPEST = 200
PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How gzip and Zstandard begin."""
STRING = rb'"(?:[^"\\]++|\\.)*+"'
"""Possessive, and runs at once: letter by letter a picture's text would take seconds in which nobody else is served."""
TOKEN = re.compile(STRING + rb"|[{}\[\],:]", re.DOTALL)
INNER = re.compile(STRING + rb"|[{}\[\]]", re.DOTALL)
"""Within a field's value only nesting counts."""
MOST_FIELDS = 10_000
MOST_BRACKETS = 1_000_000
FILE = re.compile(rb'"type"\s*:\s*"(?:input_)?file"')
"""Of a part, in a chat or a response: within a text its quotes would be escaped, and in a schema there is no such
type."""
KEYS = ("model", "stream", "name", "source")
BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
FORM_MODEL = re.compile(rb'\r\ncontent-disposition:[^\r\n]*[; ]name="?model"?(?:;[^\r\n]*)?\r\n', re.IGNORECASE)
LONGEST_MODEL = 500
UNSAID = frozenset({b"", b"null"})
AS_USUAL = UNSAID | {b'"disabled"'}


class Body(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw()
    stream: msgspec.Raw = msgspec.Raw()
    name: msgspec.Raw = msgspec.Raw()
    source: msgspec.Raw = msgspec.Raw()
    atrium: msgspec.Raw = msgspec.Raw()
    truncation: msgspec.Raw = msgspec.Raw()
    personality: msgspec.Raw = msgspec.Raw()


class Usual(msgspec.Struct):
    """A body as nearly all are; whatever is odd about the others is told by a second look."""

    model: str = ""
    stream: bool | None = None
    atrium: msgspec.Raw = msgspec.Raw()
    truncation: msgspec.Raw = msgspec.Raw()
    personality: msgspec.Raw = msgspec.Raw()


DECODER = msgspec.json.Decoder(Body)
USUAL = msgspec.json.Decoder(Usual)


class Call(msgspec.Struct, frozen=True, gc=False):
    model: str = ""
    """Empty when the body names none."""
    stream: bool | None = None
    field: str = "model"
    """The field that named the model."""
    form: tuple[int, int] | None = None
    """Where the value begins and ends in a form; None for a body that is JSON."""
    extended: bool = False
    """Atrium's own extensions are in it: there is more to do than to relay it."""
    files: bool = False
    """Documents are in it, which not every endpoint takes."""


def peek_json(body: bytes, *, management: bool = False) -> Call:
    """`management`: Ollama's routes also name a model as `name` or `source`. Raises InvalidJson, InvalidValue."""
    if not management and body.isascii() and body.count(b'"model"') == 1 and is_plain(body):
        try:
            usual = USUAL.decode(body)
        except (msgspec.DecodeError, RecursionError):
            # Told in full below.
            usual = None
        if usual is not None and usual.model and len(usual.model) <= LONGEST_MODEL:
            return Call(usual.model, usual.stream, extended=is_extended(usual), files=has_files(body))
    try:
        call = DECODER.decode(body)
        if not body.isascii():
            body.decode()
    except msgspec.ValidationError:
        return Call() if is_json(body) else invalid(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as bad:
        raise not_json(body, str(bad)) from None
    if not is_plain(body) or body.count(b'"model"') > 1:
        check_whole(body)
    extended = is_extended(call)
    for field in ("model", "name", "source") if management else ("model",):
        raw = bytes(getattr(call, field))
        if raw and raw != b"null":
            name, stream = read_name(raw, field), read_flag(bytes(call.stream))
            return Call(name, stream, field, extended=extended, files=has_files(body))
    return Call("", read_flag(bytes(call.stream)), extended=extended)


def is_extended(body: Body | Usual) -> bool:
    return not (
        bytes(body.atrium) in UNSAID and bytes(body.truncation) in AS_USUAL and bytes(body.personality) in UNSAID
    )


def has_files(body: bytes) -> bool:
    return b'file"' in body and FILE.search(body) is not None


def is_plain(body: bytes) -> bool:
    """Too few brackets to be nested too deeply, no letter of a field's name in disguise, one `stream` at the most."""
    return b"\\u00" not in body and body.count(b"{") + body.count(b"[") <= DEEPEST and body.count(b'"stream"') <= 1


def is_json(body: bytes) -> bool:
    """Whether a body that is no object is JSON at all; what is in it is the endpoint's to judge."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def not_json(body: bytes, why: str) -> InvalidJson:
    if body.startswith(PACKED):
        return InvalidJson("The body is packed", hint="Send plain JSON, without Content-Encoding")
    return InvalidJson(f"The body is not a JSON object: {why[:200]}")


def invalid(body: bytes) -> Call:
    raise InvalidJson(f"The body of {len(body)} bytes is not JSON")


def read_name(raw: bytes, field: str) -> str:
    name = orjson.loads(raw) if raw[:1] == b'"' else None
    if not isinstance(name, str) or len(name) > LONGEST_MODEL:
        raise InvalidValue(f"'{field}' must be a text of at most {LONGEST_MODEL} characters", param=field)
    return name


def read_flag(raw: bytes) -> bool | None:
    return True if raw == b"true" else False if raw == b"false" else None


def check_whole(body: bytes) -> None:
    """Raises InvalidJson for a routing field that stands twice, and for nesting that is too deep."""
    seen: set[str] = set()
    for key, _, _ in top_level(body):
        if key in KEYS and key in seen:
            raise InvalidJson(f"'{key}' stands twice in the body", param=key)
        seen.add(key)


def top_level(body: bytes) -> list[tuple[str, int, int]]:
    """Keys of the outermost object, with where the value of each begins and ends. Raises InvalidJson when too deep, and
    for more fields or brackets than can be looked through while others wait."""
    if body.count(b"{") + body.count(b"[") > MOST_BRACKETS:
        raise InvalidJson(
            f"The body holds more than {MOST_BRACKETS} lists and objects", hint="Send less in one request"
        )
    found: list[tuple[str, int, int]] = []
    depth, key, start, place = 0, "", -1, 0
    last = b""
    while match := (TOKEN if depth < 2 else INNER).search(body, place):
        token, place = match[0], match.end()
        if depth == 1 and token in (b",", b"}") and start >= 0:
            found.append((key, *trimmed(body, start, match.start())))
            start = -1
            if len(found) > MOST_FIELDS:
                raise InvalidJson(f"The body has more than {MOST_FIELDS} fields")
        if token in (b"{", b"["):
            depth += 1
            if depth > DEEPEST:
                raise InvalidJson(f"The body is nested deeper than {DEEPEST} levels")
        elif token in (b"}", b"]"):
            depth -= 1
        elif token == b":" and depth == 1 and start < 0:
            key, start = str(orjson.loads(last)), match.end()
        last = token
    return found


def trimmed(body: bytes, start: int, end: int) -> tuple[int, int]:
    value = body[start:end]
    return start + len(value) - len(value.lstrip()), end - (len(value) - len(value.rstrip()))


def with_model(body: bytes, field: str, model: str) -> bytes:
    """The same bytes with another name for the model."""
    for key, start, end in top_level(body):
        if key == field:
            return body[:start] + orjson.dumps(model) + body[end:]
    return body


def renamed(body: bytes, call: Call, model: str) -> bytes:
    """The same bytes with another name for the model that `call` found in them."""
    if call.form is None:
        return with_model(body, call.field, model)
    start, end = call.form
    return body[:start] + model.encode() + body[end:]


def peek_form(body: bytes, content_type: bytes) -> Call:
    """The form field `model`. Raises InvalidValue when there are two of them."""
    boundary = BOUNDARY.search(content_type)
    if boundary is None:
        return Call()
    border = b"\r\n--" + (boundary[1] or boundary[2])
    whole = b"\r\n" + body
    names: list[bytes] = []
    place = start = -2
    for part in whole.split(border):
        head, _, value = part.partition(b"\r\n\r\n")
        if place >= 0 and FORM_MODEL.search(head + b"\r\n"):
            names.append(value)
            start = place + len(head) + 4
        place += len(part) + len(border)
    if len(names) > 1:
        raise InvalidValue("'model' stands twice in the form", param="model")
    if not names or len(names[0]) > LONGEST_MODEL:
        return Call()
    return Call(names[0].decode("utf-8", "replace").strip(), form=(start, start + len(names[0])))
