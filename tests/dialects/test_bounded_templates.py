"""Templates of anybody's making: what real ones need works, what reaches out or has no end is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import pytest

from atrium.core.errors import InvalidValue, Unsupported
from atrium.core.models import Dimensions, ModelCard, ModelFacts, Vocabulary
from atrium.core.requests import JsonValue
from atrium.dialects.llamacpp.bounded_jinja import TemplateTimeError
from atrium.dialects.llamacpp.known_templates import BY_TOKENS, template_of
from atrium.dialects.llamacpp.template import ChatTemplate, Vault

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MESSAGES: list[dict[str, JsonValue]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Bye"},
]


def render(source: str, messages: list[dict[str, JsonValue]] = MESSAGES, patience: int = 10_000_000) -> str:
    """Patience in looks at the clock."""
    looks = count()
    rendered = ChatTemplate(source).render(
        messages, Vault("n"), now=NOW, variables={"bos_token": "<s>"}, expired=lambda: next(looks) > patience
    )
    return str(rendered)


TWICE = "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}"
DOUBLE = "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}"
BLOCK = "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"
SQUARE = "{% set ns = namespace(x=9) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}"
TURN = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
GROW = "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = "
ENDLESS = {
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "macros that call themselves": TWICE,
    "a macro without an end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "loops that call themselves": "{% for x in [[1,1]] recursive %}{{ loop([[1,1],[1,1]]) }}{% endfor %}",
    "a text that doubles by ~": GROW + "ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "a text that doubles by +": GROW + "ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "a text that doubles by format": GROW + "'%s%s' % (ns.x, ns.x) %}{% endfor %}{{ ns.x }}",
    "a text that doubles by replace": GROW + "ns.x.replace('a', 'aa') %}{% endfor %}{{ ns.x }}",
    "a text that doubles by join": GROW + "[ns.x, ns.x]|join %}{% endfor %}{{ ns.x }}",
    "a text that doubles in a macro": DOUBLE + GROW + "f(ns.x) %}{% endfor %}{{ ns.x }}",
    "a text that doubles in a block": GROW + "ns.x %}" + BLOCK + "{% endfor %}",
    "lists in lists": GROW + "[ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}",
    "mappings in mappings": GROW + "{'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x }}",
    "a list that doubles": GROW.replace("'a'", "['a']") + "ns.x + ns.x %}{% endfor %}{{ ns.x|tojson }}",
    "a long text many times": "{{ 'a' * 10000000000 }}",
    "a long list many times": "{{ ['a'] * 10000000000 }}",
    "a large number": "{{ 9 ** 99999999 }}",
    "a number that grows": SQUARE,
    "a wide filter": "{{ 'a'|center(9999999999) }}",
    "a wide method": "{{ 'a'.center(9999999999) }}",
    "a wide field": "{{ '%9999999999d' % 1 }}",
    "a wide field by an argument": "{{ '%*d' % (9999999999, 1) }}",
    "a wide field of the other kind": "{{ '{:9999999999}'.format(1) }}",
    "a wide field of the filter": "{{ '%9999999999d'|format(1) }}",
    "a wide date": "{{ strftime_now('%9999999999d') }}",
    "a batch filled up": "{{ [1]|batch(9999999999, 'x')|list }}",
    "a long word between many": "{{ range(99999)|join('x' * 9999) }}",
    "a wide indent": "{{ messages|tojson(indent=9999999999) }}",
    "its own words over and over": "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_refused(name: str) -> None:
    with pytest.raises((InvalidValue, TemplateTimeError), match=r"chat template|too long"):
        render(ENDLESS[name], patience=5000)


REACHING = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ messages.append(1) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'x' as y %}",
    "{{ raise_exception.__globals__.os }}",
    "{{ lipsum.__globals__ }}",
    "{{ ().__class__.__base__ }}",
)


@pytest.mark.parametrize("source", REACHING)
def test_what_reaches_out_is_refused(source: str) -> None:
    with pytest.raises(InvalidValue, match="chat template"):
        render(source)


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{% unknown %}", "x" * 300_000]
)
def test_what_cannot_be_compiled_says_so(source: str) -> None:
    with pytest.raises(Unsupported, match="chat template"):
        ChatTemplate(source)


def test_a_template_whose_time_is_over_is_given_up() -> None:
    with pytest.raises(TemplateTimeError):
        render("{% for i in range(9999) %}{{ i }}{% endfor %}", patience=3)


def test_the_reason_that_a_template_gives_is_told() -> None:
    with pytest.raises(InvalidValue, match="must alternate"):
        render("{{ raise_exception('Roles must alternate') }}")


def test_what_real_templates_do_still_works() -> None:
    source = (
        "{%- set ns = namespace(system='', last=-1) -%}"
        "{%- for message in messages if message['role'] == 'system' -%}"
        "{%- set ns.system = ns.system + message.content -%}{%- endfor -%}"
        "{{- bos_token -}}{%- if ns.system %}[{{ ns.system | trim }}]{% endif -%}"
        "{%- for message in messages[1:] -%}{%- if loop.first %}>{% endif -%}"
        "{%- if message.role == 'assistant' -%}{% generation %}{{ message.content }}{% endgeneration %}"
        "{%- continue -%}{%- endif -%}"
        "{{- '%s:' % message.role ~ message.content -}}{{ ',' if not loop.last }}{%- endfor -%}"
        "{%- macro tail(x, y=2) -%}{{ x * y }}{%- endmacro -%}{{- tail(3) -}}"
        "{{- messages | map(attribute='role') | unique | join('|') -}}"
        "{{- {'a': [1, 2]}['a'] | last -}}{{- strftime_now('%d %b %Y') -}}"
        "{%- for key, value in {'k': 'v'}.items() -%}{{ key ~ '=' ~ value }}{%- endfor -%}"
        "{%- if tools is defined and tools is not none %}T{% endif -%}"
        "{{- 'a,b'.split(',')[1].upper() -}}{{- '%02d' | format(7) -}}"
    )
    assert render(source) == "<s>[Be brief.]>user:Hello,Hiuser:Bye6system|user|assistant226 Nov 2026k=vB07"


def test_ten_thousand_messages_are_within_the_budget() -> None:
    many: list[dict[str, JsonValue]] = [{"role": "user", "content": "x" * 60}] * 10_000
    assert render("{% for m in messages %}" + TURN + "{% endfor %}", many).count("<|im_end|>") == 10_000


def card(*tokens: str, template: str = "") -> ModelCard:
    vocabulary = Vocabulary(9, {token: index for index, token in enumerate(tokens)})
    facts = ModelFacts(vocabulary, Dimensions(1, 1, 1, 1, 1, 1, 1), template)
    return ModelCard("m", "llamacpp", frozenset(), "/m", "", 1, 1, facts)


def test_a_model_without_a_template_gets_the_one_of_its_control_tokens() -> None:
    for name, tokens, source in BY_TOKENS:
        found, where = template_of(card(*tokens))
        assert (found, where.split(",")[0]) == (source, name)
        assert "Hello" in render(source)
    assert "plain" in template_of(card())[1]
    assert template_of(card("<|im_start|>", "<|im_end|>", template="own")) == ("own", "the model's file")
