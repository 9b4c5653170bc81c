"""Rendering chat templates of anybody's making without anybody else having to wait for it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from atrium.core.errors import InvalidValue
from atrium.core.models import Vocabulary
from atrium.core.requests import Chat
from atrium.dialects.llamacpp.bounded_jinja import TemplateTimeError
from atrium.dialects.llamacpp.prompt import chat_pieces
from atrium.dialects.llamacpp.template import ChatTemplate, Piece
from atrium.relay.tokens import known

QUICK = 0.03
"""Seconds of computing that a rendering may take on the event loop; a usual one takes 0.0003."""
PATIENT = 2.0
"""Seconds of computing that it may take in a thread."""
SHORTENED = 1.0
"""Seconds that each rendering of a shortened chat may take."""
MOST_PATIENT = 2
"""Threads that render at the same time."""


class Renderer:
    """Renders at once; what turns out to take longer is begun again in a thread, and its template knows the way."""

    def __init__(self) -> None:
        self._patiently = asyncio.Semaphore(MOST_PATIENT)

    async def __call__(self, chat: Chat, template: ChatTemplate, vocabulary: Vocabulary) -> list[Piece]:
        """Raises InvalidValue."""
        if not template.slow:
            try:
                return pieces_of(chat, template, vocabulary, most=QUICK)
            except TemplateTimeError:
                template.slow = True
        async with self._patiently:
            try:
                return await asyncio.to_thread(pieces_of, chat, template, vocabulary, most=PATIENT)
            except TemplateTimeError as error:
                raise too_slow(error) from None


def rendered_now(chat: Chat, template: ChatTemplate, vocabulary: Vocabulary) -> list[Piece]:
    """Of a chat whose longer form was rendered before. Raises InvalidValue."""
    try:
        return pieces_of(chat, template, vocabulary, most=SHORTENED)
    except TemplateTimeError as error:
        raise too_slow(error) from None


def too_slow(error: TemplateTimeError) -> InvalidValue:
    return InvalidValue(f"The model's chat template cannot render these messages: {error}", param="messages")


def pieces_of(chat: Chat, template: ChatTemplate, vocabulary: Vocabulary, *, most: float) -> list[Piece]:
    """Raises InvalidValue, TemplateTimeError."""
    nonce, now = secrets.token_hex(8), datetime.now(UTC)
    pieces = chat_pieces(chat, template, vocabulary, nonce=nonce, now=now, expired=after(most))
    if not chat.context:
        return pieces
    before = known(chat.context, vocabulary, "context")
    return [*before, *(pieces[1:] if pieces[:1] == [vocabulary.bos] else pieces)]


def after(seconds: float) -> Callable[[], bool]:
    """Whether this thread has computed for so long since now; what others compute meanwhile does not count."""
    ends = time.thread_time() + seconds
    return lambda: time.thread_time() > ends
