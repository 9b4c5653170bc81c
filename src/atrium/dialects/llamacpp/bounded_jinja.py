"""Jinja for templates that nobody vouches for: sandboxed, and bounded in work, in memory and in time.

The sandbox keeps a template from reaching out. That it ends is seen to by a meter which every loop turn, call, piece of
output and built text is charged to; where one step alone could take all memory, its size is charged before it is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, cast

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

BUDGET = 32 * 1024 * 1024
"""Characters and steps of one rendering, a step counting as many as `STEP`. A chat of 10,000 messages takes a third."""
STEP = 16
LONGEST_NUMBER = 100_000
"""The largest whole number that a text or filter may be given as a width, a count or an indent."""
MOST_BITS = 4096
MOST_POWER = 64
DEEPEST = 12
"""Nesting of lists and mappings that a template builds."""
WIDE = re.compile(r"\d{5,}|\*")
"""In a format: a width that is a bomb, or one that is an argument."""
TIME_STEP = 64
"""Charges between two looks at the clock."""
LEFT_OUT = ("urlize", "striptags", "xmlattr", "pprint", "wordwrap")
CONTAINERS = (str, list, tuple, dict)
FLATTENING = ("join", "string", "replace", "format", "sort", "unique", "groupby", "escape", "e", "forceescape", "safe")
"""Filters that go through a value to its innermost."""


class TemplateLimitError(TemplateError):
    """The template does more than any chat needs."""


class TemplateTimeError(TemplateError):
    """The template has run for as long as it may here."""


class Meter:
    """What one rendering may still do. `expired` tells whether its time is over."""

    def __init__(self, expired: Callable[[], bool]) -> None:
        self._left = BUDGET
        self._expired = expired
        self._charges = 0

    def charge(self, characters: int = 0) -> None:
        """Raises TemplateLimitError, TemplateTimeError."""
        self._left -= STEP + characters
        if self._left < 0:
            raise TemplateLimitError("it does not come to an end, or writes without end")
        self._charges += 1
        if self._charges % TIME_STEP == 0 and self._expired():
            raise TemplateTimeError("it takes too long")

    def weigh(self, value: object, depth: int = 0) -> None:
        """Charge for everything within a value, before something goes through it."""
        if depth > DEEPEST:
            raise TemplateLimitError("it nests its values too deeply")
        if isinstance(value, str):
            self.charge(len(value))
        elif isinstance(value, Mapping):
            for key, inner in cast("Mapping[object, object]", value).items():
                self.weigh(key, depth + 1)
                self.weigh(inner, depth + 1)
        elif isinstance(value, list | tuple):
            for inner in cast("Sequence[object]", value):
                self.weigh(inner, depth + 1)
        else:
            self.charge()

    def weigh_large(self, value: object) -> None:
        """As `weigh`, where a value can hold others or be long."""
        if isinstance(value, CONTAINERS):
            self.weigh(cast("object", value))


METER: ContextVar[Meter] = ContextVar("meter")
"""Of the rendering that runs in this thread; a template has no name for it."""


def counted(values: Iterable[object]) -> Iterator[object]:
    """Each turn of a loop is charged."""
    meter = METER.get()
    for value in values:
        meter.charge()
        yield value


def spent(characters: int) -> str:
    """Charges for the template's own text that is written next."""
    METER.get().charge(characters)
    return ""


def joined(parts: list[object]) -> str:
    METER.get().weigh(parts)
    return "".join(map(str, parts))


def held(value: object) -> object:
    METER.get().weigh(value)
    return value


@pass_context
def written(_: Context, value: object) -> object:
    """What every expression goes through before it is written. Depending on the context, it is never run early."""
    METER.get().weigh(value)
    return value


OWN_FILTERS: Mapping[str, Callable[..., object]] = {
    "_counted": counted,
    "_spent": spent,
    "_joined": joined,
    "_held": held,
}


class Metering(NodeTransformer):
    """Puts the meter into a template's tree."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        node.iter = through("_counted", cast("nodes.Expr", node.iter))
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        size = sum(len(part.data) for part in node.nodes if isinstance(part, nodes.TemplateData))
        node.nodes = [through("_spent", nodes.Const(size, lineno=node.lineno)), *node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return through("_joined", nodes.List(node.nodes, lineno=node.lineno))

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return through("_held", node) if node.items else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return through("_held", node) if node.items else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return through("_held", node) if node.ctx == "load" and node.items else node


def through(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class GenerationTag(Extension):
    """`{% generation %}` marks what a trainer learns from; here its body is simply written."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A rendering must stand within a `METER` of its own."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            # What is computed early is computed outside of any meter.
            optimized=False,
            finalize=written,
            extensions=["jinja2.ext.loopcontrols", GenerationTag],
        )
        filters = cast("dict[str, Callable[..., object]]", self.filters)
        for name in LEFT_OUT:
            filters.pop(name, None)
        for name, own in list(filters.items()):
            filters[name] = metered(name, own)
        filters.update(OWN_FILTERS)
        cast("dict[str, object]", self.globals).pop("lipsum", None)

    def _generate(self, source: nodes.Template, *rest: Any, **named: Any) -> str:
        return super()._generate(Metering().visit(source), *rest, **named)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        check_operands(METER.get(), operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **named: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - the parent mangles its names
        meter = METER.get()
        meter.charge()
        # The sandbox hands out `format` in a wrapping of its own.
        method = getattr(obj, "__wrapped__", obj)
        text = getattr(method, "__self__", None)
        if isinstance(text, str):
            check_text_call(meter, text, getattr(method, "__name__", ""), [*args, *named.values()])
        result = super().call(context, obj, *args, **named)
        meter.weigh_large(result)
        return result


def metered(name: str, own: Callable[..., object]) -> Callable[..., object]:
    """A filter of Jinja's that is charged for; its marks (what it is passed) are kept."""

    @wraps(own)
    def charged(*args: Any, **named: Any) -> object:
        meter = METER.get()
        meter.charge()
        values = [*args, *named.values()]
        check_numbers(values)
        if name in FLATTENING:
            for value in values:
                meter.weigh_large(value)
        texts = [value for value in values if isinstance(value, str)]
        if name == "replace" and len(texts) > 1:
            check_replacing(meter, texts)
        elif name == "format" and texts:
            check_format(texts[0])
        elif name == "join":
            check_joining(meter, values)
        result = own(*args, **named)
        if isinstance(result, str):
            meter.charge(len(result))
        return result

    return charged


def check_operands(meter: Meter, operator: str, left: object, right: object) -> None:
    """Raises TemplateLimitError before a text, a list or a number is made that is too large."""
    sized = [len(cast("Sequence[object]", value)) for value in (left, right) if isinstance(value, str | list | tuple)]
    whole = [value for value in (left, right) if isinstance(value, int)]
    if operator == "+":
        meter.charge(sum(sized))
    elif operator == "*" and sized and whole:
        meter.charge(sized[0] * max(0, whole[0]))
    elif operator == "*" and len(whole) == 2:
        if whole[0].bit_length() + whole[1].bit_length() > MOST_BITS:
            raise TemplateLimitError("it computes too large a number")
    elif operator == "**":
        if any(abs(value) > MOST_POWER for value in whole[1:]) or any(v.bit_length() > MOST_POWER for v in whole):
            raise TemplateLimitError("it computes too large a number")
    elif operator == "%" and isinstance(left, str):
        check_format(left)
        meter.weigh(right)


def check_numbers(values: Iterable[object]) -> None:
    if any(isinstance(value, int) and abs(value) > LONGEST_NUMBER for value in values):
        raise TemplateLimitError(f"it gives a text or a filter a number over {LONGEST_NUMBER}")


def check_format(text: str) -> None:
    if WIDE.search(text.replace("%%", "")):
        raise TemplateLimitError("it formats to too wide a field")


def check_text_call(meter: Meter, text: str, name: str, values: Sequence[object]) -> None:
    """Of a method of a text."""
    check_numbers(values)
    meter.charge(len(text))
    texts = [value for value in values if isinstance(value, str)]
    if name == "replace" and texts:
        check_replacing(meter, [text, *texts])
    elif name == "join":
        check_joining(meter, [*values, text])
    elif name in ("format", "format_map"):
        check_format(text)
        meter.weigh(list(values))


def check_replacing(meter: Meter, texts: Sequence[str]) -> None:
    """Of a text, what is replaced in it, and by what."""
    text, old, new = (*texts, "")[:3]
    meter.charge((text.count(old) if old else len(text) + 1) * len(new))


def check_joining(meter: Meter, values: Sequence[object]) -> None:
    """Of a list, and a text that stands between each two of its members."""
    for value in values:
        if isinstance(value, list | tuple):
            items = cast("Sequence[object]", value)
            between = max((len(text) for text in values if isinstance(text, str)), default=0)
            meter.charge(len(items) * between)
            meter.weigh(items)


def strftime(moment: Callable[[str], str], pattern: str) -> str:
    check_format(pattern)
    METER.get().charge(len(pattern))
    return moment(pattern)


def bounded_strftime(moment: Callable[[str], str]) -> Callable[[str], str]:
    return partial(strftime, moment)
