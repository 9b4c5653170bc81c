"""The one error tree. Each leaf says what happened; its hint says what to do next.

AtriumError
├── BadRequest               400
│   ├── InvalidJson               not UTF-8, not JSON, not an object, too deep
│   ├── InvalidValue              a field is missing, of a wrong type or out of range
│   ├── ContextTooLong            the prompt does not fit the model's window
│   ├── RequestTimeout       408  the request came too slowly
│   ├── Unprocessable        422  as InvalidValue, on the routes whose clients expect that status
│   ├── InvalidPath               dot segments or NUL in a path
│   ├── InvalidFormat             a listing in a format that is not known
│   ├── Unsupported               the field is known, but this model cannot honour it
│   ├── UnreadableDocument        a file that no text can be read from; says why
│   └── InvalidSchema             a JSON schema or grammar that cannot be compiled
├── Unauthenticated          401
│   ├── MissingKey
│   ├── WrongPassword
│   └── InvalidKey
├── Forbidden                403
├── NotFound                 404
│   ├── ModelNotFound
│   └── UnknownProvider
├── MethodNotAllowed         405
├── Conflict                 409
├── TooLarge                 413
├── UnsupportedMedia         415
├── RateLimited              429
├── HeadersTooLarge          431
├── Internal                 500
├── EngineMissing            501
├── NotOffered               501
├── UpstreamFailed           502
│   ├── NotSent                   nothing was written: another endpoint may be tried
│   ├── Unreachable               every endpoint that could answer refused the connection
│   ├── Disconnected              it closed before a whole response head
│   ├── BadResponse               what it sent is not HTTP
│   └── EngineFailed              a local runner broke; its log says why
│       └── EngineNonsense            it lives, and what it says cannot be read
├── Unavailable              503
│   ├── ModelLoading              installing or loading: come back
│   ├── NoEndpoint                nobody who could answer is configured and up
│   ├── ModelUnavailable          the model is known, but only on endpoints that are down
│   ├── QueueFull
│   ├── NotEnoughMemory           the model cannot fit; carries the numbers
│   └── ShuttingDown
├── UpstreamTimeout          504
│   └── EngineSilent              a local runner says nothing any more: it counts as hung
└── Refusal                  the server or a command will not start or go on (exit code 1)
    ├── ConfigError               a setting is wrong; names its place
    ├── FolderInUse               another server owns the data folder
    ├── PortInUse
    ├── SchemaTooNew              the database was written by a newer Atrium
    └── InstallFailed             a model could not be installed
        └── DiskFull
"""

from __future__ import annotations

from typing import ClassVar


class AtriumError(Exception):
    """Something that a caller must be told.

    `kind` is the family that every dialect maps to its own word, `code` the exact case, `status` the HTTP status.
    `param` names the offending field of the request, as a path (`messages[2].content`).
    `retry_after` is in seconds.
    """

    kind: ClassVar[str] = "server"
    code: ClassVar[str | None] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        self.retry_after = retry_after

    @property
    def sentence(self) -> str:
        """What happened and what to do next, as one text."""
        return f"{self.message}. {self.hint}" if self.hint else self.message


class BadRequest(AtriumError):
    kind = "invalid_request"
    code = "invalid_value"
    status = 400


class RequestTimeout(BadRequest):
    code = "request_timeout"
    status = 408


class InvalidJson(BadRequest):
    code = "invalid_json"


class InvalidValue(BadRequest):
    pass


class Unprocessable(BadRequest):
    """A field is missing, of a wrong type or out of range: on `/lollms/v1` and the account routes."""

    code = "unprocessable"
    status = 422


class ContextTooLong(BadRequest):
    code = "context_length_exceeded"


class InvalidPath(BadRequest):
    code = "invalid_path"


class InvalidFormat(BadRequest):
    code = "invalid_format"


class Unsupported(BadRequest):
    code = "unsupported_parameter"


class UnreadableDocument(BadRequest):
    code = "unreadable_document"


class InvalidSchema(BadRequest):
    code = "invalid_schema"


class Unauthenticated(AtriumError):
    kind = "authentication"
    code = "invalid_api_key"
    status = 401


class MissingKey(Unauthenticated):
    code = "missing_api_key"


class WrongPassword(Unauthenticated):
    code = "wrong_password"


class InvalidKey(Unauthenticated):
    pass


class Forbidden(AtriumError):
    kind = "permission"
    code = "forbidden"
    status = 403


class NotFound(AtriumError):
    kind = "not_found"
    code = "not_found"
    status = 404


class ModelNotFound(NotFound):
    code = "model_not_found"


class UnknownProvider(NotFound):
    code = "unknown_provider"


class MethodNotAllowed(AtriumError):
    kind = "invalid_request"
    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(message, hint=f"Allowed here: {', '.join(allow)}")
        self.allow = allow


class Conflict(AtriumError):
    kind = "conflict"
    code = "conflict"
    status = 409


class TooLarge(AtriumError):
    kind = "invalid_request"
    code = "request_too_large"
    status = 413


class UnsupportedMedia(AtriumError):
    kind = "invalid_request"
    code = "unsupported_media_type"
    status = 415


class RateLimited(AtriumError):
    kind = "rate_limit"
    code = "rate_limit_exceeded"
    status = 429

    def __init__(self, message: str, *, hint: str, retry_after: float, lines: bytes = b"") -> None:
        super().__init__(message, hint=hint, retry_after=retry_after)
        self.lines = lines
        """Header lines that tell of the bucket which is empty."""


class HeadersTooLarge(AtriumError):
    kind = "invalid_request"
    code = "headers_too_large"
    status = 431


class Internal(AtriumError):
    pass


class EngineMissing(AtriumError):
    kind = "not_implemented"
    code = "engine_missing"
    status = 501


class NotOffered(AtriumError):
    kind = "not_implemented"
    code = "not_implemented"
    status = 501


class UpstreamFailed(AtriumError):
    kind = "upstream"
    code = "upstream_error"
    status = 502


class NotSent(UpstreamFailed):
    """Nothing was written to the endpoint, so the request may go to another one."""


class Unreachable(UpstreamFailed):
    code = "upstream_unreachable"


class Disconnected(UpstreamFailed):
    code = "upstream_disconnected"


class BadResponse(UpstreamFailed):
    code = "upstream_bad_response"


class EngineFailed(UpstreamFailed):
    """A local runner died or answered nonsense."""


class EngineNonsense(EngineFailed):
    """A local runner lives, but what it says cannot be read: whatever it says next is no better."""


class Unavailable(AtriumError):
    kind = "unavailable"
    code = "unavailable"
    status = 503


class ModelLoading(Unavailable):
    code = "model_loading"


class NoEndpoint(Unavailable):
    code = "no_endpoint"


class ModelUnavailable(Unavailable):
    code = "model_unavailable"


class QueueFull(Unavailable):
    code = "queue_full"


class NotEnoughMemory(Unavailable):
    code = "insufficient_memory"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class UpstreamTimeout(AtriumError):
    kind = "upstream"
    code = "upstream_timeout"
    status = 504


class EngineSilent(UpstreamTimeout):
    """A local runner was silent for so long that it counts as hung."""


class Refusal(AtriumError):
    """The server or a command cannot start or go on; printed as one sentence, exit code 1."""

    code = "refused"


class ConfigError(Refusal):
    code = "config_error"


class FolderInUse(Refusal):
    code = "folder_in_use"


class PortInUse(Refusal):
    code = "port_in_use"


class SchemaTooNew(Refusal):
    code = "schema_too_new"


class InstallFailed(Refusal):
    code = "install_failed"
    status = 502


class DiskFull(InstallFailed):
    code = "disk_full"
    status = 507
