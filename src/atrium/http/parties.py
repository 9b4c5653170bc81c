"""What the pieces of the lane know of one another: a request on its client's side, and its way to an endpoint."""

from __future__ import annotations

from typing import Protocol

from atrium.core.answers import Usage
from atrium.core.errors import AtriumError
from atrium.core.people import Caller
from atrium.decisions.choose_endpoint import Choice
from atrium.http.asked import Asked
from atrium.http.edge import Exchange
from atrium.http.framing import AnswerWriter
from atrium.http.metering import Claim
from atrium.http.route import Routing
from atrium.http.uploading import Upload
from atrium.relay.directory import Endpoint
from atrium.relay.upstream import Upstream


class Way(Protocol):
    """Where a request went, as the record tells it."""

    model: str
    ran: str
    listed: str
    routing: Routing | None
    source: bytes
    """Lines that tell which endpoint and model answered."""
    sticky: bytes
    choice: Choice[Endpoint] | None
    tries: list[tuple[str, str, float]]
    waited: float
    usage: Usage
    asked_bytes: int
    pieces: int
    """Of the answer's body."""

    def read_usage(self) -> None: ...


class Client(Protocol):
    """A request as its way to an endpoint sees it."""

    asked: Asked
    request_id: str
    address: str
    limits: bytes
    caller: Caller | None
    claim: Claim
    started: float
    status: int
    sent: int
    """Bytes of the body, once it has ended."""
    broken: str
    writer: AnswerWriter | None
    upload: Upload | None

    @property
    def body(self) -> bytes: ...
    @property
    def way(self) -> Way | None: ...

    def record(self) -> Exchange: ...
    def pour(self, upstream: Upstream) -> None: ...
    def release_body(self) -> None: ...
    def open(self, status: int, lines: bytes, length: int | None) -> None: ...
    def answer(self, status: int, lines: bytes, body: bytes) -> None: ...
    def finish(self) -> None: ...
    def break_off(self, why: str) -> None: ...
    def give_up(self, why: str) -> None: ...
    def refuse(self, error: AtriumError) -> None: ...
    def failed(self, fault: Exception) -> None: ...
    def hand_over(self) -> None: ...
    def look(self, now: float) -> None: ...


class NobodyWaits:
    """Stands where uvicorn wakes an application that waits for its request's body."""

    def set(self) -> None:
        """Nothing to wake."""


NOBODY_WAITS = NobodyWaits()
