"""Whether a prompt fits a model's window, and how much room is left for the answer. Nothing is cut in silence."""

from __future__ import annotations

from atrium.core.errors import ContextTooLong


def fit_context(prompt: int, window: int, wanted: int | None, *, param: str) -> int:
    """Tokens that may be generated: what was asked for, or as much as the window has room for.

    Raises ContextTooLong when not even one token fits behind the prompt.
    """
    room = window - prompt
    if room < 1:
        raise ContextTooLong(
            f"The prompt has {prompt} tokens, but the model's window holds {window}, of which one is for the answer",
            hint="Shorten the prompt or use a model with a larger window",
            param=param,
        )
    return room if wanted is None else min(wanted, room)
