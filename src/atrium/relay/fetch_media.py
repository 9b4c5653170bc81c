"""Fetching what a request names by an address: only from public machines, within bounds, each redirect checked anew.

The connection is made to the very address that was checked, so a name that resolves anew gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urljoin, urlsplit

import httpx2

from atrium.core.errors import InvalidValue
from atrium.decisions.judge_address import refused_address

MOST_REDIRECTS = 5
TIMEOUT = 20.0
"""Seconds for everything: names, redirects and the file itself."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PORTS = {"http": 80, "https": 443}
NO_HEADERS: Mapping[str, str] = {}
Judge = Callable[[str], str]
"""Why an address is not fetched from; empty where it is."""


class MediaFetch:
    """All files come through one client, made when the first is fetched.

    It keeps no connection and no cookie: what was checked or given for a name must not serve another at its address,
    and there is nothing to close.
    """

    def __init__(self, judge: Judge = refused_address) -> None:
        self._judge = judge
        self._client: httpx2.AsyncClient | None = None
        self._making = asyncio.Lock()

    async def __call__(self, url: str, *, most: int, place: str) -> bytes:
        """The file of at most so many bytes. Raises InvalidValue, which names the host and never what was fetched."""
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            raise InvalidValue("The address is none", param=place) from None
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._follow(url, most, place)
        except TimeoutError:
            raise InvalidValue(f"{host} took longer than {TIMEOUT:g} s to give the file", param=place) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            reason = str(error) or type(error).__name__
            raise InvalidValue(f"The file could not be fetched from {host}: {reason[:200]}", param=place) from None

    async def _follow(self, url: str, most: int, place: str) -> bytes:
        answer = await followed(await self._own(), url, lambda _led: self._judge, place)
        try:
            return await body_of(answer, most, place)
        finally:
            await answer.aclose()

    async def _own(self) -> httpx2.AsyncClient:
        async with self._making:
            if self._client is None:
                # A client reads the machine's list of authorities from a file.
                self._client = await asyncio.to_thread(new_client)
            return self._client


def new_client() -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT, limits=limits, cookies=jar)


async def followed(
    client: httpx2.AsyncClient,
    url: str,
    judge_of: Callable[[bool], Judge],
    place: str,
    headers: Mapping[str, str] = NO_HEADERS,
) -> httpx2.Response:
    """The answer at the end of all redirects, its body not read yet. `judge_of`: told whether a public machine led on.

    Raises InvalidValue, OSError, and what the client raises.
    """
    led = False
    for _ in range(MOST_REDIRECTS + 1):
        request = await checked_request(client, url, judge_of(led), place)
        led = led or not refused_address(request.url.host)
        request.headers.update(headers)
        answer = await client.send(request, stream=True)
        if answer.status_code not in REDIRECTS or "location" not in answer.headers:
            return answer
        try:
            url = urljoin(url, answer.headers["location"])
        except ValueError:
            raise InvalidValue("The address leads on to one that is none", param=place) from None
        finally:
            await answer.aclose()
    raise InvalidValue(f"The address leads on more than {MOST_REDIRECTS} times", param=place)


async def checked_request(client: httpx2.AsyncClient, url: str, judge: Judge, place: str) -> httpx2.Request:
    """To a checked address, under the name that the caller gave. Raises InvalidValue, OSError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise InvalidValue("The address is none", param=place) from None
    if parts.scheme not in PORTS or not host or parts.username is not None:
        raise InvalidValue("Only http and https addresses without credentials are fetched", param=place)
    address = await checked_address(host, port, judge, place)
    shown = f"[{address}]" if ":" in address else address
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = f"[{host}]" if ":" in host else host
    headers = {"host": name if parts.port is None else f"{name}:{port}", "accept": "*/*"}
    target = f"{parts.scheme}://{shown}:{port}{path}"
    return client.build_request("GET", target, headers=headers, extensions={"sni_hostname": host})


async def checked_address(host: str, port: int, judge: Judge, place: str) -> str:
    """The first of a host's addresses, if all of them may be fetched from. Raises InvalidValue, OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if why := judge(address):
            raise InvalidValue(f"Fetching from {host} is refused: {why}", param=place)
    return addresses[0]


async def body_of(answer: httpx2.Response, most: int, place: str) -> bytes:
    host = answer.request.headers["host"]
    if answer.status_code != 200:
        raise InvalidValue(f"{host} answers {answer.status_code} for the file", param=place)
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.aiter_bytes():
        size += len(piece)
        if size > most:
            raise InvalidValue(f"The file at {host} is larger than {most} bytes", param=place)
        pieces.append(piece)
    return b"".join(pieces)
