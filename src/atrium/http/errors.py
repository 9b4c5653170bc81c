"""From whatever a route raised to an error of our tree."""

from __future__ import annotations

import errno
from http import HTTPStatus

from starlette.exceptions import HTTPException

from atrium.core.errors import AtriumError, DiskFull, Forbidden, Internal, InvalidValue, NotFound, TooLarge

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
STATUSES: dict[int, type[AtriumError]] = {
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge,
    HTTPStatus.BAD_REQUEST: InvalidValue,
}


def as_atrium_error(error: Exception, path: str) -> AtriumError:
    """Anything that is not of the tree or the router's own is a bug: Internal, and its text stays here."""
    if isinstance(error, AtriumError):
        return error
    if isinstance(error, HTTPException):
        if error.status_code == HTTPStatus.NOT_FOUND:
            return NotFound(f"There is nothing at {path[:200]}")
        return STATUSES.get(error.status_code, Internal)(str(error.detail))
    if isinstance(error, OSError) and error.errno in FULL:
        return DiskFull("The disk that the data folder lies on is full", hint="Make room, then try again")
    return Internal("Something went wrong inside the server", hint="The log has more under this answer's x-request-id")
