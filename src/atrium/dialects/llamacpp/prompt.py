"""From a chat to the pieces of its prompt."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from atrium.core.models import Vocabulary
from atrium.core.requests import Chat, JsonValue, Message, Think
from atrium.dialects.llamacpp.grammar import Thoughts
from atrium.dialects.llamacpp.template import ChatTemplate, Piece, Vault, split_prompt
from atrium.dialects.llamacpp.tools import offered, tell_tools, template_messages, tool_objects
from atrium.dialects.thoughts import THINK

OURS = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "strftime_now"})
"""Variables that a request cannot set."""
SWITCHES = ("enable_thinking", "thinking")
EFFORTS = {Think.OFF: "none", Think.LOW: "low", Think.MEDIUM: "medium", Think.HIGH: "high"}
WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def chat_pieces(
    chat: Chat,
    template: ChatTemplate,
    vocabulary: Vocabulary,
    *,
    nonce: str,
    now: datetime,
    expired: Callable[[], bool],
) -> list[Piece]:
    """What `/tokenize` takes: ids for the template's control tokens, text for all else.

    `nonce` is an unguessable word. Raises InvalidValue when the template rejects the messages, TemplateTimeError when
    its time is `expired` before it has come to an end.
    """
    vault = Vault(nonce)
    tools = offered(chat.tool_use)
    messages = chat.messages if template.knows_tools else tell_tools(chat.messages, tools)
    pictures = itertools.count()
    shaped = [
        {**_hidden(shape, vault), **short_ids(shape, vault, template), **_pictured(message, vault, pictures)}
        for message, shape in zip(messages, template_messages(messages), strict=True)
    ]
    names = {token: text for text, token in vocabulary.control.items()}
    variables: dict[str, object] = {
        **{key: _shown(value, vault, vocabulary) for key, value in told_variables(chat, template)[0].items()},
        "bos_token": names.get(vocabulary.bos, "") if vocabulary.bos is not None else "",
        "eos_token": names.get(vocabulary.eos, "") if vocabulary.eos is not None else "",
        "tools": vault.hide(tool_objects(tools)) if tools and template.knows_tools else None,
    }
    rendered = template.render(shaped, vault, now=now, variables=variables, expired=expired)
    return split_prompt(rendered, vault, template, vocabulary)


def told_variables(chat: Chat, template: ChatTemplate) -> tuple[dict[str, JsonValue], tuple[str, ...]]:
    """What the request tells the template, and the fields that this template does not know."""
    known = template.variables - OURS
    told = {name: value for name, value in chat.template.items() if name in known}
    dropped = [f"chat_template_kwargs.{name}" for name in chat.template if name not in known]
    if chat.think is None:
        return told, tuple(dropped)
    switches = [name for name in SWITCHES if name in known]
    told |= dict.fromkeys(switches, chat.think is not Think.OFF)
    effort = EFFORTS.get(chat.think)
    if effort is not None and "reasoning_effort" in known:
        told["reasoning_effort"] = effort
    elif not switches and (effort is not None or "reasoning_effort" not in known):
        dropped.append("think")
    return told, tuple(dropped)


def _shown(value: JsonValue, vault: Vault, vocabulary: Vocabulary) -> JsonValue:
    """A plain word stays as it is, since templates compare words; whatever else a caller wrote is hidden."""
    if isinstance(value, str) and WORD.fullmatch(value) and value not in vocabulary.control:
        return value
    return vault.hide(value)


def thoughts_of(pieces: Sequence[Piece], template: ChatTemplate, vocabulary: Vocabulary) -> Thoughts:
    """Whether the answer begins with reasoning."""
    last = pieces[-1] if pieces else ""
    if last == vocabulary.control.get(THINK, THINK) or (isinstance(last, str) and last.rstrip().endswith(THINK)):
        return Thoughts.OPEN
    if isinstance(last, str) and not last.strip() and pieces[-2:-1] == [vocabulary.control.get(THINK)]:
        return Thoughts.OPEN
    return Thoughts.POSSIBLE if template.knows_reasoning else Thoughts.NONE


def _pictured(message: Message, vault: Vault, pictures: Iterator[int]) -> dict[str, JsonValue]:
    """The content of a message with pictures, each where it stood; they are numbered through the whole chat."""
    if not message.media:
        return {}
    content = ""
    done = 0
    for media in message.media:
        content += vault.hide_text(message.text[done : media.at]) + vault.hide_piece(-1 - next(pictures))
        done = media.at
    return {"content": content + vault.hide_text(message.text[done:])}


def short_ids(message: Mapping[str, JsonValue], vault: Vault, template: ChatTemplate) -> dict[str, JsonValue]:
    """Ids of calls for a template that takes only its model's own kind, and looks at them: the same for the same id."""
    if not template.markup.short_ids:
        return {}
    shown: dict[str, JsonValue] = {}
    if "tool_call_id" in message:
        shown["tool_call_id"] = nine(message["tool_call_id"])
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        shown["tool_calls"] = [
            {**{key: vault.hide(value) for key, value in call.items()}, "id": nine(call.get("id"))}
            for call in calls
            if isinstance(call, dict)
        ]
    return shown


def nine(call_id: JsonValue) -> str:
    """Nine letters and digits."""
    return hashlib.sha256(str(call_id).encode("utf-8", "replace")).hexdigest()[:9]


def _hidden(message: Mapping[str, JsonValue], vault: Vault) -> dict[str, JsonValue]:
    """Roles are ours, everything else is the caller's."""
    return {key: value if key == "role" else vault.hide(value) for key, value in message.items()}
