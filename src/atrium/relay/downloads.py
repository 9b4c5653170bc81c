"""Model files from http and https addresses. The address rules are those of what an administrator installs: the own
network is allowed, but no public machine leads into it. Source: contract `localai.md`, section 9.

The connection is made to the very address that was checked. Implements `core.model_ports.Downloads`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import httpx2

from atrium.core.errors import InvalidValue, NotFound, UpstreamFailed
from atrium.core.model_ports import Download
from atrium.decisions.judge_address import refused_for_install
from atrium.relay.fetch_media import Judge, followed

CONNECT, SILENCE = 20.0, 60.0
"""Seconds for a connection, and between two pieces."""
GONE = frozenset({404, 410})
NO_SUCH_PART = 416
RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})")
PLACE = "sources"
WHOLE = {"accept-encoding": "identity"}
"""Not packed on the way: parts are counted in the file's own bytes."""


class HttpDownloads:
    @asynccontextmanager
    async def open(self, url: str, start: int, mark: str) -> AsyncGenerator[Download]:
        timeout = httpx2.Timeout(SILENCE, connect=CONNECT)
        # A client reads the machine's list of authorities from a file.
        async with await asyncio.to_thread(partial(httpx2.AsyncClient, trust_env=False, timeout=timeout)) as client:
            try:
                answer = await answered(client, url, start, mark)
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
                raise broken(host_of(url), error) from None
            try:
                yield download_of(answer, host_of(url), start)
            finally:
                await answer.aclose()


async def answered(client: httpx2.AsyncClient, url: str, start: int, mark: str) -> httpx2.Response:
    """The answer for what is still missing, or for the whole file where that is no part of it."""
    rest = {"range": f"bytes={start}-", "if-range": mark} if start and mark else {}
    answer = await followed(client, url, judge_of, PLACE, WHOLE | rest)
    if answer.status_code != NO_SUCH_PART:
        return answer
    await answer.aclose()
    return await followed(client, url, judge_of, PLACE, WHOLE)


def judge_of(led: bool) -> Judge:  # noqa: FBT001 - called by `followed` alone
    return partial(refused_for_install, led=led)


def download_of(answer: httpx2.Response, host: str, start: int) -> Download:
    """`start`: where what was asked for begins; a gap is none of it. Raises NotFound, UpstreamFailed, InvalidValue."""
    status = answer.status_code
    if status in GONE:
        raise NotFound(f"{host} has no such file", param=PLACE)
    mark = answer.headers.get("etag", "")
    # A weak mark tells of contents that are only alike.
    mark = "" if mark.startswith("W/") else mark
    length = answer.headers.get("content-length", "")
    if status == 200:
        return Download(0, int(length) if length.isdecimal() else 0, mark, pieces_of(answer, host))
    found = RANGE.fullmatch(answer.headers.get("content-range", ""))
    if status == 206 and found and int(found[1]) <= start:
        return Download(int(found[1]), int(found[2]), mark, pieces_of(answer, host))
    if status >= 500 or status == 429:
        raise UpstreamFailed(f"{host} answers {status} for the file")
    raise InvalidValue(f"{host} answers {status} for the file", param=PLACE)


async def pieces_of(answer: httpx2.Response, host: str) -> AsyncGenerator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except (httpx2.HTTPError, OSError) as error:
        raise broken(host, error) from None


def host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def broken(host: str, error: Exception) -> UpstreamFailed:
    reason = str(error) or type(error).__name__
    return UpstreamFailed(f"The file could not be fetched from {host}: {reason[:200]}")
