"""A request on the lane as its head tells it, and where it is to go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atrium.core.kinds import ANY_OPENAI
from atrium.decisions.allow import Area
from atrium.decisions.doors import changes_models
from atrium.decisions.relayed_path import ROOT, split_prefix
from atrium.http.admission import Knock
from atrium.http.edge import Headers, surface_of

MANAGEMENT = frozenset({b"/api/pull", b"/api/push", b"/api/create", b"/api/copy", b"/api/delete"})
"""Ollama's routes that change what an endpoint has."""
NAMED = MANAGEMENT | {b"/api/show"}
"""Ollama's routes that may name the model by other fields."""
BLOBS = b"/api/blobs/"
TARGETED = frozenset({b"/api/pull", b"/api/create"})
READING = frozenset({b"GET", b"HEAD", b"OPTIONS"})
LISTS = frozenset({b"/v1/models", b"/v1/models/"})
OPENAI_PATHS = (b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/v1/responses", b"/v1/rerank")
OPENAI_FAMILIES = (b"/v1/audio/", b"/v1/images/", b"/v1/moderations")
OLLAMA_PATHS = frozenset({b"/api/chat", b"/api/generate", b"/api/embed", b"/api/embeddings", b"/api/show"})
LOCAL_PATHS = frozenset({b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings"})
"""What the built-in engine answers."""


@dataclass(slots=True)
class Asked:
    method: bytes
    path: bytes
    """As it came, with nothing decoded and no query."""
    query: bytes
    headers: Headers
    peer: str
    scheme: str
    http10: bool
    prefix: str
    """Kinds of endpoints that qualify: a canonical kind, `openai` or `proxy`."""
    rest: bytes
    """The path behind the prefix."""
    area: Area
    olla: bool = field(init=False)
    """It came by the gateway's own paths."""
    first: Mapping[bytes, bytes] = field(init=False)
    """The first value of each header."""

    def __post_init__(self) -> None:
        self.olla = self.path.startswith(ROOT)
        self.first = dict(self.headers[::-1])

    def header(self, name: bytes) -> bytes:
        return self.first.get(name, b"")

    def joined(self, name: bytes) -> bytes:
        """All values of a header that is a list and may stand more than once."""
        return b", ".join(value for own, value in self.headers if own == name)

    @property
    def surface(self) -> str:
        return surface_of(self.path.decode("latin-1"))

    @property
    def media_type(self) -> bytes:
        """Lower case, without parameters."""
        return self.header(b"content-type").partition(b";")[0].strip().lower()

    @property
    def knock(self) -> Knock:
        """What it shows at the door."""
        path = self.path.decode("latin-1")
        return Knock(self.method.decode("latin-1"), path, self.headers, self.query, self.area)

    @property
    def may_be_local(self) -> bool:
        return self.rest in LOCAL_PATHS and self.prefix in (ANY_OPENAI, "proxy")

    @property
    def has_own_default(self) -> bool:
        """Without a model's name it means the default one here, and no endpoint's."""
        return not self.olla and (self.rest in LOCAL_PATHS or self.rest.startswith(OPENAI_FAMILIES))


def canonical_spelling(path: bytes) -> bytes:
    """A page's path with the gateway's prefix in lower case, since prefixes are matched without regard to it."""
    name, slash, rest = path[len(ROOT) :].partition(b"/")
    return ROOT + name.lower() + slash + rest if split_prefix(path) else path


Place = tuple[str, bytes, Area]
PLACES: dict[tuple[bytes, bytes], Place | None] = {}
MOST_PLACES = 1024
LONGEST_PLACE = 200


def known_place(method: bytes, path: bytes) -> Place | None:
    """`place_of` by heart, and who may come, since a client asks for few paths again and again. Raises nothing."""
    key = (method, path)
    if key in PLACES:
        return PLACES[key]
    found = place_of(method, path)
    place = (*found, area_behind(method, found[1])) if found else None
    if len(path) <= LONGEST_PLACE:
        if len(PLACES) >= MOST_PLACES:
            PLACES.clear()
        PLACES[key] = place
    return place


def area_behind(method: bytes, rest: bytes) -> Area:
    return Area.ADMIN if changes_models(method.decode("latin-1"), rest.decode("latin-1")) else Area.USE


def place_of(method: bytes, path: bytes) -> tuple[str, bytes] | None:
    """Prefix and rest of a path that is relayed; None for one that Atrium answers itself."""
    if path.startswith(ROOT):
        found = split_prefix(path)
        return None if found is None or method == b"OPTIONS" or is_page(method, found[0], found[1]) else found
    if method != b"POST":
        return None
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
