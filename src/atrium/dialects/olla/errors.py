"""Errors of the gateway's paths. Source: contract `olla.md`, section 2."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from atrium.core.errors import AtriumError

TYPES: Mapping[int, str] = {
    400: "bad_request",
    401: "authentication_error",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    408: "bad_request",
    409: "conflict",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    431: "request_too_large",
    501: "not_implemented",
    502: "bad_gateway",
    503: "service_unavailable",
    504: "upstream_timeout",
}
CODES: Mapping[str, str] = {
    "invalid_value": "INVALID_PARAMETER",
    "missing_api_key": "INVALID_API_KEY",
    "request_too_large": "BODY_TOO_LARGE",
    "rate_limit_exceeded": "RATE_LIMITED",
    "no_endpoint": "NO_ENDPOINTS",
    "upstream_error": "UPSTREAM_UNREACHABLE",
}


def error_body(error: AtriumError) -> bytes:
    """`message`, `type` and `code` are always there, and always texts."""
    code = error.code or "internal_error"
    type_ = TYPES.get(error.status, "internal_error" if error.status >= 500 else "bad_request")
    shown = {"message": error.sentence, "type": type_, "code": CODES.get(code, code.upper())}
    return orjson.dumps({"error": shown})
