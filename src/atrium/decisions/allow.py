"""Who may use what, as a table of areas and callers. Source: contracts `olla.md` §1, `lollms.md` §1.4."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from fnmatch import fnmatchcase

from atrium.core.errors import Forbidden, MissingKey
from atrium.core.people import ANONYMOUS, Caller, Scopes
from atrium.decisions.doors import Door, changes_models, is_at

KEY_FORM = "lollms_"
SESSION_FORM = "ats_"
OPEN_PATHS = frozenset(
    {
        "/",
        "/ollama",
        "/ollama/",
        "/version",
        "/healthz",
        "/readyz",
        "/internal/health",
        "/openapi.json",
        "/api/auth/token",
        "/api/auth/register",
    }
)
OWN_PATHS = ("/api/auth", "/api/api-keys", "/api/usage")
GOVERNING = ("/api/admin", *OWN_PATHS)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
WILD = frozenset("*?[")


class Area(Enum):
    OPEN = "open"
    USE = "use"
    """Inference and listings."""
    OWN = "own"
    """A user's own account: never anonymous."""
    SIGHT = "sight"
    """Status, metrics."""
    ADMIN = "admin"


def area_of(method: str, path: str) -> Area:
    if path in OPEN_PATHS:
        return Area.OPEN
    if is_at(path, "/api/admin") or changes_models(method, path):
        return Area.ADMIN
    if any(is_at(path, own) for own in OWN_PATHS):
        return Area.OWN
    if path == "/metrics" or path.startswith("/internal/"):
        return Area.SIGHT
    return Area.USE


def must_check(presented: str, area: Area, door: Door) -> bool:
    """Whether what was presented is looked up. Behind an open door only what looks like one of ours counts as a key.

    Raises Forbidden for a closed door, MissingKey.
    """
    if not door.enabled:
        raise Forbidden("This service is switched off", hint="An administrator can switch it on: auth.services")
    needed = door.needs_key or area is Area.ADMIN or area is Area.OWN
    if not presented and needed:
        raise MissingKey("This needs an API key", hint="Send it as 'Authorization: Bearer …'")
    return needed or presented.startswith((KEY_FORM, SESSION_FORM))


def allow(caller: Caller | None, area: Area, path: str, door: Door) -> Caller:
    """The caller, if they may enter the area; nobody known is the anonymous user. Raises Forbidden."""
    known = caller or ANONYMOUS
    needs_admin = area is Area.ADMIN or (area is Area.SIGHT and door.needs_key)
    if needs_admin and not known.is_admin:
        raise Forbidden("This needs an administrator's key")
    if known.scopes.narrow:
        check_path(known, area, path)
    return known


def check_path(caller: Caller, area: Area, path: str) -> None:
    """A key that is bound to models governs nothing unless a path says so: it could make itself a wider one. `/api/*`
    does not say so, by which Ollama's paths are meant.

    Raises Forbidden.
    """
    paths = caller.scopes.paths
    root = next((root for root in GOVERNING if is_at(path, root)), "")
    if paths and not any(fnmatchcase(path, glob) and glob.startswith(root) for glob in paths):
        raise Forbidden(f"This key is not for {path[:100]}", hint="Use a key without these bounds")
    if not paths and area in (Area.ADMIN, Area.OWN):
        raise Forbidden("This key is for models only", hint="Use a key without bounds, or log in")


def check_narrower(maker: Scopes, made: Scopes) -> None:
    """A key makes none that is good for more than itself. Raises Forbidden."""
    for kind, bounds, globs in (("models", maker.models, made.models), ("paths", maker.paths, made.paths)):
        if bounds and not (globs and all(any(is_within(glob, bound) for bound in bounds) for glob in globs)):
            wider = f"This key makes only keys for {kind} of its own: {', '.join(bounds)[:200]}"
            raise Forbidden(wider, hint="Log in, or use a key without bounds")


def is_within(glob: str, bound: str) -> bool:
    """Whether the bound surely matches all that the glob matches: a `*` of its takes in whatever stands there.

    Letters in brackets are no text that a bound could match, so they count only behind all that it spells.
    """
    if "[" in glob:
        start = bound.removesuffix("*")
        return glob == bound or (start != bound and not WILD & set(start) and glob.startswith(start))
    return glob == bound or (fnmatchcase(glob, bound) and not (WILD & set(glob) and WILD - {"*"} & set(bound)))


def check_model(caller: Caller, names: Sequence[str]) -> None:
    """`names`: as the caller wrote the model, and what it means. Raises Forbidden."""
    if may_use(caller, names):
        return
    if not any(names):
        raise Forbidden("This key is not for the model of a request that names none", hint="Name the model")
    raise Forbidden(f"This key is not for the model '{names[0][:100]}'", hint="Its owner can make another key")


def may_use(caller: Caller, names: Sequence[str]) -> bool:
    """Whether the caller's key is good for the name as it was written, or for all that it may mean: any may answer."""
    globs = caller.scopes.models
    if not globs:
        return True
    good = [any(fnmatchcase(name, glob) for glob in globs) for name in names if name]
    return bool(good) and (good[0] or (len(good) > 1 and all(good[1:])))


def same_origin(origin: str, fetch_site: str, host: str) -> bool:
    """Whether a browser sent a request from a page of ours, so that its cookie may count for a change.

    A client that is no browser sends neither header.
    """
    if fetch_site:
        return fetch_site in ("same-origin", "none")
    if not origin:
        return True
    _, _, place = origin.partition("://")
    return place.lower() == host.lower()
