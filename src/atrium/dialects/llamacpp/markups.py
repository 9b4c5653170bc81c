"""How models write tool calls, told by their chat templates. Source: the templates that models are published with."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace

from atrium.dialects.llamacpp.marks import CLOSE, OPEN

PYTHON = "<|python_tag|>"
QUOTED = r'("(?:[^"\\]|\\.)*")'
NEVER = re.compile(r"(?!)")
NAME = r"([A-Za-z0-9_-]{1,64})"


@dataclass(frozen=True, slots=True)
class Markup:
    """One row of calls: `first`, then each call as head, arguments and tail, with `between` in between, then `last`."""

    mark: str
    """What no text before the calls may hold, since it begins them; empty: nothing stands before them."""
    first: str
    head: str
    """`%s` is the name."""
    tail: str
    between: str
    last: str = ""
    quoted: bool = True
    """The name is a JSON string."""
    parallel: bool = True
    """Several calls may stand in a row."""
    optional: str = ""
    """A control token that may stand before `first`."""
    short_ids: bool = False
    """The template takes only ids of nine letters and digits."""
    elements: bool = False
    """Arguments are no JSON object but elements (`elements.py`)."""
    pattern: re.Pattern[str] = field(init=False, compare=False, repr=False)
    """A head as it is read behind the mark, up to the arguments' brace."""

    def __post_init__(self) -> None:
        if self.elements:
            # Such a call is read when it is whole.
            object.__setattr__(self, "pattern", NEVER)
            return
        before = re.escape(self.first.removeprefix(self.mark))
        name = QUOTED if self.quoted else NAME
        written = re.escape(self.head.strip()).replace(r"\ ", r"\s*").replace(":", r"\s*:").replace("%s", name)
        either = written.replace('"arguments"', '"(?:arguments|parameters)"')
        object.__setattr__(self, "pattern", re.compile(rf"\s*(?:{before})?\s*{either}\s*(?=[{{])"))

    def named(self, name: str) -> str:
        return self.head % (json.dumps(name, ensure_ascii=False) if self.quoted else name)

    def name_in(self, found: re.Match[str]) -> str:
        return json.loads(found[1]) if self.quoted else found[1]

    @property
    def marked_each(self) -> bool:
        """The mark stands before every call of a row."""
        return bool(self.mark) and self.mark in self.between

    @property
    def texts(self) -> tuple[str, ...]:
        """All that may hold control tokens."""
        return (self.optional, self.first, self.head, self.tail, self.between, self.last)


HERMES = Markup(OPEN, OPEN, '\n{"name": %s, "arguments": ', "}\n", f"{CLOSE}\n{OPEN}", CLOSE)
ELEMENTS = Markup(
    OPEN,
    OPEN,
    "\n<function=%s>\n",
    "</function>\n",
    f"{CLOSE}\n{OPEN}",
    CLOSE,
    quoted=False,
    elements=True,
)
MISTRAL = Markup("[TOOL_CALLS]", "[TOOL_CALLS][", '{"name": %s, "arguments": ', "}", ", ", "]")
MISTRAL_ARGS = Markup("[TOOL_CALLS]", "[TOOL_CALLS]", "%s[ARGS]", "", "[TOOL_CALLS]", quoted=False)
LLAMA = Markup("", "", '{"name": %s, "parameters": ', "}", "; ", optional=PYTHON)
PHI = Markup("<|tool_call|>", "<|tool_call|>[", '{"name": %s, "arguments": ', "}", ", ", "]<|/tool_call|>")
GRANITE = Markup("<|tool_call|>", "<|tool_call|>[", '{"name": %s, "arguments": ', "}", ", ", "]")
DEEPSEEK = Markup(
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    "function<｜tool▁sep｜>%s\n```json\n",
    "\n```<｜tool▁call▁end｜>",
    "\n<｜tool▁call▁begin｜>",
    "<｜tool▁calls▁end｜>",
    quoted=False,
)
LLAMA_TELLS = (PYTHON, '{"name": function name, "parameters"')
NINE = re.compile(r"length\s*(?:!=|==)\s*9|length 9")
SINGLE = "single tool-calls"


def markup_of(source: str) -> Markup:
    """By a template's source; where it tells nothing, the form that our own instructions ask for."""
    if OPEN in source:
        return ELEMENTS if "<function=" in source else HERMES
    if MISTRAL.mark in source:
        made = MISTRAL_ARGS if "[ARGS]" in source else MISTRAL
        return replace(made, short_ids=bool(NINE.search(source)))
    if DEEPSEEK.mark in source:
        return DEEPSEEK
    if PHI.mark in source:
        return PHI if "<|/tool_call|>" in source else GRANITE
    if any(tell in source for tell in LLAMA_TELLS):
        return replace(LLAMA, parallel=SINGLE not in source)
    return HERMES
