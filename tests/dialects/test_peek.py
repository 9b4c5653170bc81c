"""Bodies that are looked into on their way to an endpoint, and bodies made to take long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atrium.core.errors import InvalidJson
from atrium.dialects.json_text import parse_object
from atrium.dialects.peek import Call, peek_json, top_level, with_model

MANY = 20_000


@pytest.mark.parametrize(
    "value",
    [
        "",
        'quotes " and \\ backslashes \\" at the end\\',
        "brackets ] } [ { and , : marks",
        "é\u2028\x00",
        [1, [2, {"model": "inner"}], "x,y:z"],
        {"model": "inner", "deep": {"model": [{"model": "deeper"}]}},
        [],
        {},
        None,
        1.5e300,
        True,
    ],
)
def test_every_field_is_found_with_its_very_bytes(value: Any) -> None:
    given = {"before": value, "model": "m", "after": value}
    for indent in (None, 2):
        body = json.dumps(given, indent=indent).encode()
        found = {key: json.loads(body[start:end]) for key, start, end in top_level(body)}
        assert found == given
        assert json.loads(with_model(body, "model", "other")) == {**given, "model": "other"}


def test_a_long_picture_behind_an_escaped_letter_is_looked_through_at_once() -> None:
    # Letter by letter they would hold up everybody else for seconds.
    for text in ("A" * 8_000_000, "\\n" * 2_000_000):
        body = b'{"model": "m", "said": "\\u00e9", "image": "%b"}' % text.encode()
        assert peek_json(body) == Call("m")


@pytest.mark.parametrize(
    "rest",
    [b'"x": [%b1]' % (b"[]," * 1_000_000), b",".join(b'"k%d":1' % n for n in range(MANY))],
    ids=["lists", "fields"],
)
def test_a_body_that_takes_long_to_look_through_is_refused(rest: bytes) -> None:
    with pytest.raises(InvalidJson, match="more than"):
        peek_json(b'{"model": "m", "said": "\\u00e9", %b}' % rest)


def test_a_thousand_fields_do_not_make_a_long_body_slow_and_the_one_that_stands_twice_is_found() -> None:
    # Sought one by one in all of the body they would take minutes.
    fields = b",".join(b'"k%d":1' % number for number in range(MANY))
    long = b'{%b, "text": "%b"' % (fields, b"a" * 2_000_000)
    assert len(parse_object(long + b"}", depth=200, items=2_000_000)) == MANY + 1
    with pytest.raises(InvalidJson, match="'k7' twice"):
        parse_object(long + b', "k7": 2}', depth=200, items=2_000_000)
