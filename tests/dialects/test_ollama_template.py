"""Templates in Ollama's notation, rendered by the Jinja that they become."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from atrium.core.errors import Unsupported
from atrium.dialects.llamacpp.template import ChatTemplate, Vault
from atrium.dialects.ollama.template import to_jinja

SYSTEM, HI, HELLO, BYE = ("system", "be kind"), ("user", "hi"), ("assistant", "hello"), ("user", "bye")
CHATML = (
    "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
    "{{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n{{ .Response }}<|im_end|>\n"
)
RANGED = (
    '{{- range $i, $m := .Messages }}{{ if eq .Role "user" }}U: {{ .Content }}\n'
    '{{ else if (eq .Role "assistant") }}A: {{ .Content }}\n{{- else }}S: {{ .Content }} {{ end }}{{ end }}A:'
)


def rendered(source: str, *messages: tuple[str, str]) -> str:
    template = ChatTemplate(to_jinja(source))
    told = [{"role": role, "content": content} for role, content in messages]
    return template.render(told, Vault("n"), now=datetime.now(UTC), variables={}, expired=lambda: False)


def test_a_template_of_one_turn_is_repeated_and_ends_where_the_answer_begins() -> None:
    assert rendered(CHATML, HI) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert rendered(CHATML, SYSTEM, HI, HELLO, BYE) == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\nhello<|im_end|>\n"
        "<|im_start|>user\nbye<|im_end|>\n<|im_start|>assistant\n"
    )


def test_without_a_place_for_the_answer_it_stands_at_the_end() -> None:
    assert rendered("Q: {{ .Prompt }}\nA: ", HI, HELLO, BYE) == "Q: hi\nA: helloQ: bye\nA: "


def test_a_template_may_go_through_the_messages_itself() -> None:
    assert rendered(RANGED, SYSTEM, HI, HELLO) == "S: be kind U: hi\nA: helloA:"


def test_text_that_looks_like_jinja_stays_text() -> None:
    assert rendered("{% if x %}{{/* no */}} {{ .Prompt }}", HI) == "{% if x %} hi"


@pytest.mark.parametrize(
    "source",
    [
        "{{ .Tools }}",
        "{{ range .Tools }}{{ end }}",
        "{{ if .Prompt }}x",
        "{{ end }}",
        "{{ if }}{{ end }}",
        "{{ len .Prompt }}",
    ],
)
def test_what_is_not_understood_is_refused(source: str) -> None:
    with pytest.raises(Unsupported) as refused:
        to_jinja(source)
    assert refused.value.param == "template"
