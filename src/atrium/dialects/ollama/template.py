"""Prompt templates in Ollama's notation, which is Go's, as the Jinja that models' own templates are written in.

What is understood: `.System`, `.Prompt`, `.Response`, `.Messages` with `.Role` and `.Content`, `if`, `else`, `range`,
`and`, `or`, `not`, `eq`, `ne`, comments and trimming. Anything else is refused rather than rendered wrongly.
"""

from __future__ import annotations

import json
import re

from atrium.core.errors import Unsupported

ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\(|\)|[^\s()]+')
NAMES = {".System": "t.system", ".Prompt": "t.prompt", ".Response": "t.response"}
OWN = {".Role": "message.role", ".Content": "message.content"}
TESTS = {"and": " and ", "or": " or ", "eq": " == ", "ne": " != "}
HEAD = "{%+ set t = namespace(system='', prompt='', response='') %}"
TURNS = (
    "{{%+ for one in messages %}}{{%+ if one.role == 'system' %}}{{%+ set t.system = one.content %}}"
    "{{%+ elif one.role == 'assistant' %}}{{%+ set t.response = one.content %}}{turn}"
    "{{%+ set t.system = '' %}}{{%+ set t.prompt = '' %}}{{%+ set t.response = '' %}}"
    "{{%+ else %}}{{%+ set t.prompt = one.content %}}{{%+ endif %}}{{%+ endfor %}}"
    "{{%+ if t.prompt or t.system %}}{last}{{%+ endif %}}"
)


def to_jinja(source: str) -> str:
    """Raises Unsupported for what is not understood."""
    if ".Messages" in source:
        return HEAD + systems() + converted(source)
    whole = source if ".Response" in source else source + "{{ .Response }}"
    before = whole[: whole.index("{{ .Response")] if "{{ .Response" in whole else whole
    try:
        last = converted(before)
    except Unsupported:
        # The answer stands within a condition: what is around it is rendered with an empty one.
        last = converted(whole)
    return HEAD + TURNS.format(turn=converted(whole), last=last)


def systems() -> str:
    """`.System` beside `.Messages` is what the system's messages say."""
    return (
        "{%+ for one in messages %}{%+ if one.role == 'system' %}{%+ set t.system = one.content %}{%+ endif %}"
        "{%+ endfor %}"
    )


def converted(source: str) -> str:
    pieces: list[str] = []
    opened: list[str] = []
    at = 0
    for action in ACTION.finditer(source):
        pieces.append(literal(source[at : action.start()]))
        pieces.append(statement(action[2], opened, action[1] or "+", action[3] or "+"))
        at = action.end()
    if opened:
        raise Unsupported(f"The template has no 'end' for its '{opened[-1]}'", param="template")
    return "".join([*pieces, literal(source[at:])])


def literal(text: str) -> str:
    return f"{{% raw %}}{text}{{% endraw %}}" if re.search(r"\{[{%#]", text) else text


def statement(text: str, opened: list[str], left: str, right: str) -> str:
    words = WORD.findall(text)
    first = words[0] if words else ""
    if text.startswith("/*") or not words:
        return f"{{#{left.strip('+')} {right.strip('+')}#}}"
    if first == "end":
        if not opened:
            raise Unsupported("The template has an 'end' too many", param="template")
        return f"{{%{left} {'endfor' if opened.pop() == 'range' else 'endif'} {right}%}}"
    if first == "else":
        test = f"elif {expression(words[2:])}" if words[1:2] == ["if"] else "else"
        return f"{{%{left} {test} {right}%}}"
    if first == "if":
        opened.append("if")
        return f"{{%{left} if {expression(words[1:])} {right}%}}"
    if first == "range" and words[-1] in (".Messages", "$.Messages"):
        opened.append("range")
        return f"{{%{left} for message in messages {right}%}}"
    dash = "-" if left == "-" else ""
    return f"{{{{{dash} {expression(words)} {'-' if right == '-' else ''}}}}}"


def expression(words: list[str]) -> str:
    """Go's prefix notation. Raises Unsupported."""
    value, rest = term(words)
    if rest:
        raise Unsupported(f"The template has '{' '.join(words)[:60]}', which is not understood", param="template")
    return value


def term(words: list[str]) -> tuple[str, list[str]]:
    if not words:
        raise Unsupported("The template has a test without anything to test", param="template")
    first, rest = words[0], words[1:]
    if first == "(":
        value, rest = term(rest)
        if rest[:1] != [")"]:
            raise Unsupported("The template has a bracket that is not closed", param="template")
        return value, rest[1:]
    if first == "not":
        value, rest = term(rest)
        return f"(not {value})", rest
    if first in TESTS:
        left, rest = term(rest)
        right, rest = term(rest)
        return f"({left}{TESTS[first]}{right})", rest
    return atom(first), rest


def atom(word: str) -> str:
    name = word.removeprefix("$") if word.startswith("$.") else re.sub(r"^\$\w+(?=\.)", "", word)
    if name in NAMES:
        return NAMES[name]
    if name in OWN:
        return OWN[name]
    if word.startswith('"'):
        return json.dumps(json.loads(word))
    raise Unsupported(f"The template has '{word[:60]}', which is not understood", param="template")
