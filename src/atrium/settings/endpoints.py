"""From an endpoint as it is configured to an endpoint as it is used: address taken apart, credentials made headers."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from atrium.core.endpoints import EndpointSpec, Header
from atrium.core.errors import ConfigError, InvalidValue
from atrium.core.kinds import SPELLINGS, Kind
from atrium.settings.gateway import EndpointAuth, EndpointSettings
from atrium.settings.load import as_node
from atrium.settings.read import Reader

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\[\]-]{0,99}")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
PRINTABLE = re.compile(r"[\x20-\x7e]*")
LEAST_INTERVAL = 0.1
MOST_ENDPOINTS = 1000
LOCAL = "local"


def read_endpoints(given: Sequence[EndpointSettings]) -> tuple[EndpointSpec, ...]:
    """Raises ConfigError that names the endpoint."""
    if len(given) > MOST_ENDPOINTS:
        raise ConfigError(f"There are {len(given)} endpoints; at most {MOST_ENDPOINTS} are taken")
    specs = tuple(read_endpoint(one) for one in given)
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            raise ConfigError(f"Two endpoints are named '{spec.name}'", hint="Give each a name of its own")
        seen.add(spec.name)
    return specs


def read_given(given: Mapping[str, Any]) -> EndpointSpec:
    """An endpoint that came over the API, with the keys that the configuration has. Raises InvalidValue."""
    try:
        settings = Reader({}).tree(EndpointSettings, as_node(dict(given), "endpoint"), "")
        return read_endpoint(settings)
    except ConfigError as error:
        raise InvalidValue(error.message, hint=error.hint, param="endpoint") from None


def read_endpoint(given: EndpointSettings) -> EndpointSpec:
    """Raises ConfigError."""
    address, port = read_address(given.url)
    host = address.hostname or ""
    name = given.name or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    if not NAME.fullmatch(name) or name == LOCAL:
        raise ConfigError(f"'{name[:100]}' is no name for an endpoint: letters, digits, dots and dashes make one")
    if 0 < given.check_interval < LEAST_INTERVAL:
        raise ConfigError(f"endpoint '{name}': check_interval must be 0 or at least {LEAST_INTERVAL:g} s")
    spec = EndpointSpec(
        name=name,
        kind=read_kind(given.type, name),
        host=host,
        port=port,
        tls=address.scheme == "https",
        base=address.path.rstrip("/"),
        priority=given.priority,
        weight=given.weight,
        headers=read_headers(given, address, name),
        check_interval=given.check_interval,
        check_timeout=given.check_timeout,
        model_path=read_path("model_url", given.model_url, address, name),
        max_concurrent=given.max_concurrent,
        context=given.context,
        include=given.model_filter.include,
        exclude=given.model_filter.exclude,
    )
    return with_check(spec, given.health_check_url, address)


def read_address(url: str) -> tuple[SplitResult, int]:
    try:
        address = urlsplit(url)
        port = address.port or (443 if address.scheme == "https" else 80)
    except ValueError:
        raise ConfigError(f"'{shown(url)}' is no address of an endpoint") from None
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigError(f"'{shown(url)}' is no address of an endpoint", hint="Write it as http://host:port")
    if address.query or address.fragment or not PRINTABLE.fullmatch(url) or " " in url:
        raise ConfigError(f"'{shown(url)}' is no address of an endpoint", hint="It takes no query and no spaces")
    return address, port


def shown(url: str) -> str:
    """Without credentials."""
    return re.sub(r"//[^/@]*@", "//…@", url)[:200]


def read_kind(spelled: str, name: str) -> Kind:
    kind = SPELLINGS.get(spelled.lower())
    if kind is None:
        near = get_close_matches(spelled.lower(), SPELLINGS, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(sorted(SPELLINGS))}"
        raise ConfigError(f"endpoint '{name}' has the unknown type '{spelled[:50]}'", hint=hint)
    return kind


def read_headers(given: EndpointSettings, address: SplitResult, name: str) -> tuple[Header, ...]:
    """Lower-case names; the key wins over a header of the same name."""
    headers = {key.lower(): value for key, value in given.headers.items()}
    if address.username or address.password:
        headers["authorization"] = basic(unquote(address.username or ""), unquote(address.password or ""))
    if given.auth:
        header, value = credentials(given.auth, name)
        headers[header] = value
    if given.api_key:
        bare = given.auth_header
        headers[bare.lower() if bare else "authorization"] = given.api_key if bare else f"Bearer {given.api_key}"
    for header, value in headers.items():
        if not TOKEN.fullmatch(header) or not PRINTABLE.fullmatch(value):
            raise ConfigError(f"endpoint '{name}': the header '{header[:50]}' cannot be sent as it is")
    return tuple((header.encode(), value.encode()) for header, value in headers.items())


def credentials(auth: EndpointAuth, name: str) -> tuple[str, str]:
    if auth.type == "basic":
        return "authorization", basic(auth.username or "", auth.password or "")
    if auth.type == "api_key":
        return (auth.header or "x-api-key").lower(), auth.key or auth.token or missing(name, "key")
    token = auth.token or (read_token(auth.token_file, name) if auth.token_file else missing(name, "token"))
    return "authorization", f"Bearer {token}"


def read_token(path: Path, name: str) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"endpoint '{name}': the token file {path} cannot be read") from None


def missing(name: str, field: str) -> str:
    raise ConfigError(f"endpoint '{name}': auth.{field} is missing")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def with_check(spec: EndpointSpec, url: str | None, address: SplitResult) -> EndpointSpec:
    """Checked at its own path, or at an address elsewhere; another server is shown none of its credentials."""
    if not url or "://" not in url or is_below(url, address):
        return replace(spec, health_path=read_path("health_check_url", url, address, spec.name))
    other, port = read_address(url.partition("?")[0])
    own = origin(other) == origin(address)
    at = replace(
        spec,
        host=other.hostname or "",
        port=port,
        tls=other.scheme == "https",
        base="",
        headers=spec.headers if own else (),
        model_path="",
    )
    return replace(
        spec, health_at=at, health_path=checked_path("health_check_url", target_of(urlsplit(url)), spec.name)
    )


def read_path(field: str, url: str | None, address: SplitResult, name: str) -> str:
    """A path on the endpoint itself, with its query; a whole address must be below the endpoint's own."""
    if not url:
        return ""
    if "://" not in url:
        return checked_path(field, url if url.startswith("/") else f"/{url}", name)
    if not is_below(url, address):
        hint = "Write it as a path, below the endpoint's own address"
        raise ConfigError(f"endpoint '{name}': {field} leads elsewhere: '{shown(url)}'", hint=hint)
    return checked_path(field, target_of(urlsplit(url)).removeprefix(address.path.rstrip("/")), name)


def checked_path(field: str, path: str, name: str) -> str:
    if not PRINTABLE.fullmatch(path) or " " in path or "#" in path:
        raise ConfigError(f"endpoint '{name}': {field} has what no path has: '{shown(path)}'")
    return path


def is_below(url: str, address: SplitResult) -> bool:
    """Whether it is on the endpoint itself. Raises ConfigError for what is no address."""
    other, _ = read_address(url.partition("?")[0])
    base = address.path.rstrip("/")
    return origin(other) == origin(address) and (other.path == base or other.path.startswith(f"{base}/"))


def origin(address: SplitResult) -> tuple[str, str | None, int]:
    return address.scheme, address.hostname, address.port or (443 if address.scheme == "https" else 80)


def target_of(address: SplitResult) -> str:
    return (address.path or "/") + (f"?{address.query}" if address.query else "")
