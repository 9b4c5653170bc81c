"""Whether a prompt fits a model's window, and how much room is left for the answer. Nothing is cut in silence."""

from __future__ import annotations

from atrium.core.errors import ContextTooLong

LONGEST_TOKEN = 256
"""Characters. The longest tokens of the vocabularies we know are runs of 128 spaces."""
SHORTEN = "Shorten the prompt or use a model with a larger window"


def fit_context(prompt: int, window: int, wanted: int | None, *, param: str) -> int:
    """Tokens that may be generated: what was asked for, or as much as the window has room for.

    Raises ContextTooLong when not even one token fits behind the prompt.
    """
    room = window - prompt
    if room < 1:
        raise ContextTooLong(
            f"The prompt has {prompt} tokens, but the model's window holds {window}, of which one is for the answer",
            hint=SHORTEN,
            param=param,
        )
    return room if wanted is None else min(wanted, room)


def refuse_hopeless(characters: int, window: int, *, param: str) -> None:
    """Before a text is tokenised, which takes a second per megabyte.

    Raises ContextTooLong when it cannot fit, however it would be cut into tokens.
    """
    if characters > most_characters(window):
        raise ContextTooLong(
            f"The prompt has at least {characters // LONGEST_TOKEN} tokens, but the model's window holds {window}",
            hint=SHORTEN,
            param=param,
        )


def most_characters(window: int) -> int:
    """The longest text that might fit."""
    return window * LONGEST_TOKEN
