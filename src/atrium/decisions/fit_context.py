"""Whether a prompt fits a model's window, and how much room is left for the answer. Nothing is cut in silence.

Where the caller allows it, whole turns of the conversation go, and the answer says how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from atrium.core.errors import ContextTooLong
from atrium.core.requests import Message, Overflow, Role

LONGEST_TOKEN = 256
"""Characters. The longest tokens of the vocabularies we know are runs of 128 spaces."""
SHARE = 8
"""Where no length is asked for, an eighth of the window is kept free for the answer to a shortened conversation."""
SHORTEN = "Shorten the prompt or use a model with a larger window"


def fit_context(prompt: int, window: int, wanted: int | None, *, param: str) -> int:
    """Tokens that may be generated: what was asked for, or as much as the window has room for.

    Raises ContextTooLong when not even one token fits behind the prompt.
    """
    room = window - prompt
    if room < 1:
        raise too_long(prompt, window, param=param)
    return room if wanted is None else min(wanted, room)


def too_long(prompt: int, window: int, *, param: str) -> ContextTooLong:
    return ContextTooLong(
        f"The prompt has {prompt} tokens, but the model's window holds {window}, of which one is for the answer",
        hint=SHORTEN,
        param=param,
    )


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


def shortened_target(window: int, wanted: int | None) -> int:
    """Tokens that a shortened prompt may have, so that the answer has room: what it asks for, up to half the window."""
    room = window // SHARE if wanted is None else min(wanted, window // 2)
    return window - max(1, room)


Turn = tuple[int, ...]
"""Places of messages that belong together."""


def droppable(messages: Sequence[Message], how: Overflow) -> tuple[Turn, ...]:
    """What may go, in the order in which it goes.

    A turn is what one user message began; a call and its answers are never parted. The system's messages and the last
    turn stay, and of the last turn only its oldest rounds of calls may go, when all else is gone. With `middle` the
    first turn goes after the ones behind it.
    """
    spoken = [place for place, message in enumerate(messages) if message.role is not Role.SYSTEM]
    turns = grouped(messages, spoken, lambda message: message.role is Role.USER)
    if not turns:
        return ()
    *older, last = turns
    rounds = grouped(messages, last, lambda message: message.role in (Role.USER, Role.ASSISTANT))
    inner = [one for one in rounds[:-1] if messages[one[0]].role is not Role.USER]
    return (*older[1:], *older[:1], *inner) if how == "middle" else (*older, *inner)


def grouped(messages: Sequence[Message], places: Iterable[int], begins: Callable[[Message], bool]) -> list[Turn]:
    """Neighbours joined up to the next that begins anew; whoever answers an earlier call is joined with it."""
    groups: list[Turn] = []
    callers: dict[str, int] = {}
    for place in places:
        message = messages[place]
        if not groups or begins(message):
            groups.append(())
        at = callers.get(message.tool_call_id or "", len(groups) - 1) if message.role is Role.TOOL else len(groups) - 1
        if at < len(groups) - 1:
            groups[at:] = [tuple(one for group in groups[at:] for one in group)]
            callers = {name: min(group, at) for name, group in callers.items()}
        groups[-1] = (*groups[-1], place)
        callers |= {call.id: len(groups) - 1 for call in message.tool_calls}
    return groups


def without(messages: Sequence[Message], turns: Iterable[Turn]) -> tuple[Message, ...]:
    """The conversation with those turns left out."""
    gone = {place for turn in turns for place in turn}
    return tuple(message for place, message in enumerate(messages) if place not in gone)
