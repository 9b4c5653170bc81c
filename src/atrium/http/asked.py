"""A request on the lane as its head tells it, and where it is to go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from atrium.core.kinds import ANY_OPENAI
from atrium.core.requests import Dialect
from atrium.decisions.allow import Area
from atrium.decisions.doors import changes_models, door_of
from atrium.decisions.relayed_path import ROOT, is_suspicious, split_prefix
from atrium.http.admission import Knock
from atrium.http.edge import Headers, surface_of

MANAGEMENT = frozenset({b"/api/pull", b"/api/push", b"/api/create", b"/api/copy", b"/api/delete"})
"""Ollama's routes that change what an endpoint has."""
EXTENSIBLE = frozenset({b"/v1/chat/completions", b"/ollama/v1/chat/completions", b"/v1/responses"})
"""Paths on which a chat may stand on document stores, or be shortened: there is more to do than to relay it."""
SHORTENED = EXTENSIBLE | {b"/api/chat", b"/api/generate"}
NAMED = MANAGEMENT | {b"/api/show"}
"""Ollama's routes that may name the model by other fields."""
BLOBS = b"/api/blobs/"
TARGETED = frozenset({b"/api/pull", b"/api/create"})
READING = frozenset({b"GET", b"HEAD", b"OPTIONS"})
NEVER_RELAYED = frozenset({b"OPTIONS", b"TRACE"})
"""An endpoint that answers TRACE would show the caller its own credentials."""
LISTS = frozenset({b"/v1/models", b"/v1/models/"})
OPENAI_PATHS = (b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/v1/responses", b"/v1/rerank")
OPENAI_FAMILIES = (b"/v1/audio/", b"/v1/images/", b"/v1/moderations")
OLLAMA_PATHS = frozenset({b"/api/chat", b"/api/generate", b"/api/embed", b"/api/embeddings", b"/api/show"})
NATIVE = {
    **dict.fromkeys((b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/v1/responses"), Dialect.OPENAI),
    **dict.fromkeys((b"/api/chat", b"/api/generate", b"/api/embed", b"/api/embeddings"), Dialect.OLLAMA),
}
"""Paths that only an endpoint of that dialect can be relayed."""
TRANSLATED = NATIVE.keys()
"""The same, for an endpoint of another dialect, are asked in its own words."""
LOCAL_PATHS = frozenset({b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/v1/responses"})
"""What the built-in engine answers."""
UNSAID = frozenset({b"", b"text/plain", b"application/x-www-form-urlencoded"})
"""What clients such as curl call a JSON body when nobody told them its type."""
FORM = b"multipart/form-data"
GATEWAY = "gateway"


class Reading(Enum):
    """How a body is to be read for the model's name."""

    JSON = "json"
    NAMED = "named"
    """JSON of Ollama's, where other fields may name the model, too."""
    UNSAID = "unsaid"
    """JSON if it looks like that."""
    FORM = "form"
    NOT = "not"


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """What method and path alone tell, so that it can be known by heart. One is equal to itself alone."""

    prefix: str
    """Kinds of endpoints that qualify: a canonical kind, `openai` or `proxy`."""
    rest: bytes
    """The path behind the prefix."""
    olla: bool
    """By the gateway's own paths."""
    surface: str
    area: Area
    method: str
    path: str
    may_be_local: bool
    has_own_default: bool
    """Without a model's name it means the default one here, and no endpoint's."""
    suspicious: bool
    """The path has what no honest path has; `check_path` tells what."""
    door: str | None
    """Under which its use is noted."""


class Asked:
    """What a head tells. Nothing of one request alone is in it, since a connection's next request may be the same but
    for its length (`by_heart.py`). Plain attributes: they are read all the way."""

    __slots__ = (
        "_knock",
        "_reading",
        "first",
        "headers",
        "http10",
        "is_checked",
        "length",
        "method",
        "olla",
        "onward",
        "path",
        "peer",
        "place",
        "prefix",
        "query",
        "request_id",
        "rest",
        "scheme",
        "target",
        "upgrades",
    )

    def __init__(self, place: Place, line: tuple[bytes, bytes, bytes], headers: Headers, origin: Origin) -> None:
        """`line`: method, path with nothing decoded, query."""
        self.method, self.path, self.query = line
        self.headers = headers
        self.peer, self.scheme, self.http10 = origin
        self.place = place
        self.prefix = place.prefix
        self.rest = place.rest
        self.olla = place.olla
        self.first = first = dict(headers[::-1])
        """The first value of each header."""
        self.length = first.get(b"content-length", b"")
        self.request_id = first.get(b"x-request-id", b"")
        self.target = first.get(b"x-olla-target", b"")
        self.upgrades = b"upgrade" in first
        self.is_checked = False
        """Nothing is wrong with the head itself."""
        self.onward: dict[object, bytes] = {}
        """By heart, for each endpoint: the head that it gets, up to what differs from request to request."""
        self._knock: Knock | None = None
        self._reading: Reading | None = None

    def header(self, name: bytes) -> bytes:
        return self.first.get(name, b"")

    def joined(self, name: bytes) -> bytes:
        """All values of a header that is a list and may stand more than once."""
        return b", ".join(value for own, value in self.headers if own == name)

    @property
    def media_type(self) -> bytes:
        """Lower case, without parameters."""
        return self.header(b"content-type").partition(b";")[0].strip().lower()

    @property
    def knock(self) -> Knock:
        """What it shows at the door."""
        knock = self._knock
        if knock is None:
            place = self.place
            knock = self._knock = Knock(place.method, place.path, self.first, self.query, place.area)
        return knock

    @property
    def reading(self) -> Reading:
        reading = self._reading
        if reading is None:
            reading = self._reading = reading_of(self.rest, self.media_type)
        return reading

    def resized(self, length: bytes) -> Asked:
        """The same head before a body of another length."""
        headers = [(name, length if name == b"content-length" else value) for name, value in self.headers]
        line, origin = (self.method, self.path, self.query), (self.peer, self.scheme, self.http10)
        other = Asked(self.place, line, headers, origin)
        other.onward, other._knock, other._reading = self.onward, self._knock, self._reading
        other.is_checked = self.is_checked
        return other


def is_json_type(kind: bytes) -> bool:
    return kind in (b"application/json", b"text/json") or kind.endswith(b"+json")


def reading_of(rest: bytes, kind: bytes) -> Reading:
    """`kind`: the body's media type."""
    if rest.startswith(BLOBS):
        return Reading.NOT
    if rest in NAMED:
        return Reading.NAMED
    if is_json_type(kind):
        return Reading.JSON
    return Reading.UNSAID if kind in UNSAID else Reading.FORM if kind == FORM else Reading.NOT


def doubt(headers: Headers, *, http10: bool) -> str:
    """What the parser lets pass and an endpoint might read otherwise. Source: RFC 9112, sections 3.2 and 6.1."""
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts != 1 and not (hosts == 0 and http10):
        return "The request names two hosts" if hosts else "The request names no host"
    if b"transfer-encoding" not in names:
        return ""
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    return "" if codings == [b"chunked"] else "The only transfer coding that is taken is 'chunked'"


def has_body(headers: Headers) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 \t")) for name, value in headers
    )


def native_dialect(rest: bytes) -> Dialect | None:
    return NATIVE.get(rest)


Origin = tuple[str, str, bool]
"""Peer's address, scheme, and whether it is HTTP/1.0."""
PLACES: dict[tuple[bytes, bytes], Place | None] = {}
MOST_PLACES = 1024
LONGEST_PLACE = 200


def known_place(method: bytes, path: bytes) -> Place | None:
    """`place_of` by heart, since a client asks for few paths again and again. Raises nothing."""
    key = (method, path)
    if key in PLACES:
        return PLACES[key]
    found = place_of(method, path)
    place = None if found is None else as_place(method, path, *found)
    if len(path) <= LONGEST_PLACE:
        if len(PLACES) >= MOST_PLACES:
            PLACES.clear()
        PLACES[key] = place
    return place


def as_place(method: bytes, path: bytes, prefix: str, rest: bytes) -> Place:
    words = (method.decode("latin-1"), path.decode("latin-1"))
    olla = path.startswith(ROOT)
    return Place(
        prefix=prefix,
        rest=rest,
        olla=olla,
        surface="olla" if olla else surface_of(words[1]),
        area=Area.ADMIN if changes_models(words[0], rest.decode("latin-1")) else Area.USE,
        method=words[0],
        path=words[1],
        may_be_local=prefix in (ANY_OPENAI, "proxy") if rest in LOCAL_PATHS else rest in OLLAMA_PATHS and not olla,
        has_own_default=not olla and (rest in LOCAL_PATHS or rest.startswith(OPENAI_FAMILIES)),
        suspicious=is_suspicious(path),
        door=GATEWAY if olla else door_of(words[1]),
    )


def place_of(method: bytes, path: bytes) -> tuple[str, bytes] | None:
    """Prefix and rest of a path that is relayed; None for one that Atrium answers itself."""
    if path.startswith(ROOT):
        found = split_prefix(path)
        return None if found is None or method in NEVER_RELAYED or is_page(method, found[0], found[1]) else found
    if method != b"POST":
        return None
    if path.startswith((b"/ollama/api/", b"/ollama/v1/")):
        path = path.removeprefix(b"/ollama")
    if path.startswith(OPENAI_FAMILIES) or path in OPENAI_PATHS:
        return ANY_OPENAI, path
    return ("ollama", path) if path in OLLAMA_PATHS else None


def is_page(method: bytes, prefix: str, rest: bytes) -> bool:
    """Pages that one endpoint alone cannot answer, with every method, so that a wrong one is told so."""
    if rest in LISTS or (rest.startswith(b"/v1/models/") and method in (b"GET", b"HEAD")):
        return True
    if prefix == "ollama":
        return rest in (b"/api/tags", b"/api/ps")
    return prefix == "lmstudio" and rest in (b"/api/v1/models", b"/api/v0/models")
