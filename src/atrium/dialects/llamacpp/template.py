"""A model's own chat template, rendered so that only the template can make control tokens.

Whatever came from a caller (contents, names, arguments, tool descriptions) is hidden behind placeholders while the
template runs, and put back afterwards as text. The template is sandboxed Jinja, as model files carry it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from jinja2 import TemplateError, meta, pass_context
from jinja2.runtime import Context

from atrium.core.errors import InvalidValue, Unsupported
from atrium.core.models import Vocabulary
from atrium.core.requests import JsonValue
from atrium.dialects.llamacpp.bounded_jinja import (
    METER,
    BoundedEnvironment,
    Meter,
    TemplateTimeError,
    bounded_strftime,
    check_numbers,
)
from atrium.dialects.llamacpp.known_templates import PLAIN
from atrium.dialects.llamacpp.marks import any_of
from atrium.dialects.llamacpp.markups import HERMES, markup_of
from atrium.dialects.thoughts import THOUGHT

Piece = int | str
"""A token id, or text that is tokenised without special-token parsing; a negative number is a picture."""

VAULT = "_atrium_vault"
BEFORE, AFTER = "\u2997", "\u2998"
"""Brackets around a placeholder, such as Python prints as they are: templates print lists of types."""
LONGEST_SOURCE = 256 * 1024
"""Characters; the longest templates that models come with have about 30,000."""
DEEP = (RecursionError, MemoryError)
COMPILING = (TemplateError, SyntaxError, ValueError, ArithmeticError, *DEEP)
RENDERING = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, *DEEP)
"""What a template of anybody's may raise."""


class TemplateRefusalError(TemplateError):
    """The template itself rejected the messages."""


@dataclass(slots=True)
class Vault:
    """Keeps a caller's texts out of the template's hands. `nonce` must be unguessable, so that no text can name one."""

    nonce: str
    texts: list[Piece] = field(default_factory=list[Piece])
    """And what stands for pictures."""

    def hide(self, value: JsonValue) -> JsonValue:
        """The same value with every text in it replaced by a placeholder; an empty text stays empty."""
        if isinstance(value, str):
            return self.hide_text(value)
        if isinstance(value, list):
            return [self.hide(item) for item in value]
        if isinstance(value, dict):
            return {key: self.hide(item) for key, item in value.items()}
        return value

    def hide_text(self, text: str) -> str:
        if not text:
            return text
        return self.hide_piece(text)

    def hide_piece(self, piece: Piece) -> str:
        self.texts.append(piece)
        return f"{BEFORE}{self.nonce}.{len(self.texts) - 1}{AFTER}"

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(f"{BEFORE}{re.escape(self.nonce)}\\.([0-9]+){AFTER}")

    def reveal(self, text: str) -> str:
        return self.pattern.sub(lambda found: str(self.texts[int(found[1])]), text)

    def reveal_all(self, value: object) -> object:
        if isinstance(value, str):
            return self.reveal(value)
        if isinstance(value, list | tuple):
            return [self.reveal_all(item) for item in cast("Sequence[object]", value)]
        if isinstance(value, Mapping):
            return {key: self.reveal_all(item) for key, item in cast("Mapping[object, object]", value).items()}
        return value

    def to_json(self, value: object, indent: int | None = None) -> str:
        """The template's `tojson`: its output is a caller's text too, so it stays hidden."""
        METER.get().weigh(value)
        check_numbers([indent])
        return self.hide_text(json.dumps(self.reveal_all(value), ensure_ascii=False, indent=indent))


def refuse(message: str) -> None:
    raise TemplateRefusalError(message)


class ChatTemplate:
    """One compiled template. Raises Unsupported when the source itself cannot be compiled."""

    def __init__(self, source: str) -> None:
        self.knows_tools = bool(re.search(r"\btools\b", source))
        self.knows_reasoning = THOUGHT in source
        self.markup = markup_of(source) if self.knows_tools else HERMES
        """How calls look; what knows no tools is told of them, and of this form, by us."""
        self._control: tuple[Vocabulary, re.Pattern[str] | None] | None = None
        self.slow = False
        """It once took longer than the event loop has patience for."""
        if len(source) > LONGEST_SOURCE:
            raise Unsupported(f"The model's chat template is longer than {LONGEST_SOURCE} characters", param="messages")
        environment = BoundedEnvironment()
        # Filters are bound when a template runs, and each rendering has a vault of its own to hide JSON in.
        cast("dict[str, object]", environment.filters)["tojson"] = pass_context(_to_json)
        try:
            self.variables = meta.find_undeclared_variables(environment.parse(source or PLAIN))
            self._template = environment.from_string(source or PLAIN)
        except COMPILING as error:
            raise Unsupported(f"The model's chat template cannot be compiled: {error}", param="messages") from None

    def control_in(self, vocabulary: Vocabulary) -> re.Pattern[str] | None:
        """Finds its control tokens; made once, as long as the template is not shared with another vocabulary."""
        if self._control is None or self._control[0] is not vocabulary:
            self._control = vocabulary, any_of(vocabulary.control)
        return self._control[1]

    def render(
        self,
        messages: Sequence[Mapping[str, JsonValue]],
        vault: Vault,
        *,
        now: datetime,
        variables: Mapping[str, object],
        expired: Callable[[], bool],
    ) -> str:
        """The prompt with placeholders in it.

        Raises InvalidValue where the template rejects or cannot take it, TemplateTimeError once its time is `expired`.
        """
        meter = METER.set(Meter(expired))
        try:
            return self._template.render(
                variables,
                **{VAULT: vault},
                messages=list(messages),
                add_generation_prompt=True,
                raise_exception=refuse,
                strftime_now=bounded_strftime(now.strftime),
            )
        except TemplateTimeError:
            raise
        except TemplateRefusalError as error:
            raise InvalidValue(f"The model's chat template says: {error}", param="messages") from None
        except RENDERING as error:
            reason = f"it nests too deeply ({type(error).__name__})" if isinstance(error, DEEP) else str(error)
            raise InvalidValue(
                f"The model's chat template cannot render these messages: {reason}", param="messages"
            ) from None
        finally:
            METER.reset(meter)


def _to_json(context: Context, value: object, **options: int | None) -> str:
    vault = cast("Vault", context[VAULT])
    return vault.to_json(value, options.get("indent"))


def split_prompt(rendered: str, vault: Vault, template: ChatTemplate, vocabulary: Vocabulary) -> list[Piece]:
    """Control tokens that the template wrote become ids; everything else stays text, neighbours joined."""
    pieces: list[Piece] = []
    control = template.control_in(vocabulary)
    parts = vault.pattern.split(rendered)
    for index, part in enumerate(parts):
        if index % 2:
            hidden = vault.texts[int(part)]
            if isinstance(hidden, str):
                _append(pieces, hidden)
            else:
                pieces.append(hidden)
        elif control is None:
            _append(pieces, part)
        else:
            _split_control(pieces, part, control, vocabulary)
    bos = vocabulary.bos
    if bos is not None and vocabulary.add_bos and pieces[:1] != [bos]:
        pieces.insert(0, bos)
    return pieces


def _split_control(pieces: list[Piece], text: str, control: re.Pattern[str], vocabulary: Vocabulary) -> None:
    at = 0
    for found in control.finditer(text):
        _append(pieces, text[at : found.start()])
        pieces.append(vocabulary.control[found.group()])
        at = found.end()
    _append(pieces, text[at:])


def _append(pieces: list[Piece], text: str) -> None:
    last = pieces[-1] if pieces else None
    if isinstance(last, str):
        pieces[-1] = last + text
    elif text:
        pieces.append(text)
