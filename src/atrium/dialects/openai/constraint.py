"""What shapes an answer: `response_format`, and LocalAI's `grammar` and `grammar_json_functions`."""

from __future__ import annotations

from atrium.core.errors import InvalidValue
from atrium.core.requests import Constraint, FreeText, Gbnf, JsonObject, JsonSchema
from atrium.dialects.fields import Fields

FORMAT = "response_format"
FUNCTIONS = "grammar_json_functions"


def read_constraint(fields: Fields) -> Constraint:
    """Raises InvalidValue, also where two fields would shape the answer."""
    grammar = fields.text("grammar")
    given = [one for one in (read_format(fields), Gbnf(grammar) if grammar else None, read_functions(fields)) if one]
    if len(given) > 1:
        named = [name for name in ("grammar", FUNCTIONS, FORMAT) if fields.has(name)]
        raise InvalidValue(f"'{named[0]}' and '{named[1]}' cannot both shape the answer", param=named[0])
    return given[0] if given else FreeText()


def read_format(fields: Fields) -> Constraint | None:
    """None for free text."""
    shape = fields.inner(FORMAT)
    if shape is None:
        return None
    kind = shape.text("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise InvalidValue(f"'{FORMAT}.type' must be 'text', 'json_object' or 'json_schema'", param=FORMAT)
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonObject()
    described = shape.inner("json_schema")
    if described is None:
        raise InvalidValue(f"'{FORMAT}.json_schema' is required", param=FORMAT)
    described.text("name")
    strict = described.flag("strict")
    schema = described.raw("schema")
    if not isinstance(schema, dict | bool):
        raise InvalidValue(f"'{described.place('schema')}' is required and must be an object", param=FORMAT)
    return JsonSchema(schema, strict=strict)


def read_functions(fields: Fields) -> Constraint | None:
    """One JSON object that fits one of several schemas, named by their `const` members."""
    inner = fields.inner(FUNCTIONS)
    if inner is None:
        return None
    if not (inner.items("oneOf", 4096) or inner.items("anyOf", 4096)):
        raise InvalidValue(f"'{FUNCTIONS}' needs a list of schemas, 'oneOf' or 'anyOf'", param=FUNCTIONS)
    return JsonSchema(dict(inner.values), place=FUNCTIONS)
