"""From a chat to the pieces of its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from atrium.core.models import Vocabulary
from atrium.core.requests import Chat, JsonValue
from atrium.dialects.llamacpp.template import ChatTemplate, Piece, Vault, split_prompt
from atrium.dialects.llamacpp.tools import offered, tell_tools, template_messages, tool_objects


def chat_pieces(
    chat: Chat, template: ChatTemplate, vocabulary: Vocabulary, *, nonce: str, now: datetime
) -> list[Piece]:
    """What `/tokenize` takes: ids for the template's control tokens, text for all else.

    `nonce` is an unguessable word. Raises InvalidValue when the template rejects the messages.
    """
    vault = Vault(nonce)
    tools = offered(chat.tool_use)
    messages = chat.messages if template.knows_tools else tell_tools(chat.messages, tools)
    shaped = [_hidden(message, vault) for message in template_messages(messages)]
    names = {token: text for text, token in vocabulary.control.items()}
    variables: dict[str, object] = {
        **{key: vault.hide(value) for key, value in chat.template.items()},
        "bos_token": names.get(vocabulary.bos, "") if vocabulary.bos is not None else "",
        "eos_token": names.get(vocabulary.eos, "") if vocabulary.eos is not None else "",
        "tools": vault.hide(tool_objects(tools)) if tools and template.knows_tools else None,
    }
    return split_prompt(template.render(shaped, vault, now=now, variables=variables), vault, vocabulary)


def _hidden(message: Mapping[str, JsonValue], vault: Vault) -> dict[str, JsonValue]:
    """Roles are ours, everything else is the caller's."""
    return {key: value if key == "role" else vault.hide(value) for key, value in message.items()}
