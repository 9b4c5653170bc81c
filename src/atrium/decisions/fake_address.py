"""What a `fake:` address means: a model that invents its answers, and misbehaves by order.

    fake:NAME?pace=20ms&load=3s&fault=crash@5&slots=2&context=4096&size=1GB&words=40

| option | meaning |
|---|---|
| pace | time between two tokens; of an embedding, time for each text |
| load | time until the runner is ready |
| fault | `crash@N`, `hang@N`, `drop@N`, `nonsense@N`: what happens after N tokens; `crash-on-load`; may be repeated |
| slots, context | answers at the same time, and tokens of one |
| size | memory that the model claims to need |
| takes | memory that it really takes for each slot, whatever it claims |
| grows | memory that it takes more with every answer, and keeps |
| words | tokens after which an answer ends by itself |
| ability | `chat` or `embedding` |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl

from atrium.core.errors import InvalidValue
from atrium.core.models import Ability, Dimensions, ModelCard, ModelFacts, Vocabulary

SCHEME = "fake:"
NAME = re.compile(r"[a-z0-9][a-z0-9._/-]{0,127}")
NUMBER = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([a-zA-Z]*)")
SECONDS: Mapping[str, float] = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600}
BYTES: Mapping[str, float] = {"": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
PLAIN: Mapping[str, float] = {"": 1}

TEXT_TOKENS = 256
"""Ids below are the bytes of UTF-8 text."""
CONTROL: Mapping[str, int] = {"<|im_start|>": 256, "<|im_end|>": 257}
END_OF_TURN = CONTROL["<|im_end|>"]
SENTENCE = (
    "a door opens and the light of every house falls on one quiet table where bread with water waits"
    " nobody is late here says an old clock"
)
WORDS = (*(f" {word}" for word in SENTENCE.split()), ",", ".", "\n")
"""Ids from 258 on: what the fake says. Text given to its tokenizer never becomes one of these."""
FIRST_WORD = TEXT_TOKENS + len(CONTROL)
EMBEDDING_LENGTH = 32
CONTEXT = 8192
SIZE = 24 * 1024 * 1024
ANSWER = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class FaultKind(Enum):
    CRASH = "crash"
    """The process dies."""
    HANG = "hang"
    """Nothing more comes, and the connection stays open."""
    DROP = "drop"
    """The connection is closed in mid stream."""
    NONSENSE = "nonsense"
    """Bytes that are no event come."""
    CRASH_ON_LOAD = "crash-on-load"


@dataclass(frozen=True, slots=True)
class Fault:
    kind: FaultKind
    after: int = 0
    """Tokens that are sent before it; 0: before the response head."""


@dataclass(frozen=True, slots=True)
class FakeAddress:
    """Durations in seconds, size in bytes."""

    name: str
    pace: float = 0.0
    load: float = 0.0
    faults: tuple[Fault, ...] = ()
    slots: int | None = None
    """None: as many as the settings give every chat model."""
    context: int = CONTEXT
    size: int = SIZE
    takes: int = 0
    grows: int = 0
    words: int = ANSWER
    ability: Ability = Ability.CHAT


def parse_fake(address: str) -> FakeAddress:
    """Raises InvalidValue, naming what is wrong with the address."""
    name, _, query = address.removeprefix(SCHEME).partition("?")
    if not address.startswith(SCHEME) or not NAME.fullmatch(name):
        raise InvalidValue(
            f"`{address[:200]}` is no address of a fake model", hint="Write it as fake:NAME?option=value"
        )
    try:
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=32)
    except ValueError as bad:
        raise InvalidValue(f"the options of `{address[:200]}` cannot be read") from bad
    given = dict(options)
    unknown = given.keys() - {"pace", "load", "fault", "slots", "context", "size", "takes", "grows", "words", "ability"}
    if unknown:
        raise InvalidValue(f"a fake model has no option `{min(unknown)[:100]}`")
    return FakeAddress(
        name=name,
        pace=_amount(given, "pace", SECONDS, 0.0),
        load=_amount(given, "load", SECONDS, 0.0),
        faults=tuple(_fault(value) for key, value in options if key == "fault"),
        slots=_count(given, "slots", 0) or None,
        context=_count(given, "context", CONTEXT),
        size=int(_amount(given, "size", BYTES, SIZE)),
        takes=int(_amount(given, "takes", BYTES, 0)),
        grows=int(_amount(given, "grows", BYTES, 0)),
        words=_count(given, "words", ANSWER),
        ability=_ability(given.get("ability", "chat")),
    )


def fake_card(address: str, *, created: int) -> ModelCard:
    """The card of a fake model. Raises InvalidValue."""
    fake = parse_fake(address)
    chats = fake.ability is Ability.CHAT
    return ModelCard(
        name=fake.name,
        engine="fake",
        abilities=frozenset({Ability.CHAT, Ability.COMPLETION} if chats else {fake.ability}),
        path=address,
        digest=hashlib.sha256(address.encode()).hexdigest(),
        size=fake.size,
        created=created,
        facts=ModelFacts(
            vocabulary=Vocabulary(size=FIRST_WORD + len(WORDS), control=CONTROL, eos=END_OF_TURN),
            dimensions=Dimensions(
                trained_context=fake.context,
                layers=1,
                kv_heads=1,
                key_length=1,
                value_length=1,
                embedding_length=EMBEDDING_LENGTH,
                tensor_bytes=fake.size,
            ),
            chat_template=CHAT_TEMPLATE if chats else "",
        ),
        source=address,
    )


def _amount(given: Mapping[str, str], key: str, units: Mapping[str, float], default: float) -> float:
    if key not in given:
        return default
    found = NUMBER.fullmatch(given[key])
    if found is None or found[2] not in units:
        known = ", ".join(unit for unit in units if unit)
        raise InvalidValue(f"`{key}={given[key][:100]}` is no number" + (f" with a unit of {known}" if known else ""))
    return float(found[1]) * units[found[2]]


def _count(given: Mapping[str, str], key: str, default: int) -> int:
    amount = _amount(given, key, PLAIN, float(default))
    if (key in given and amount < 1) or amount != int(amount):
        raise InvalidValue(f"`{key}` of a fake model is a whole number from 1 on")
    return int(amount)


def _fault(text: str) -> Fault:
    name, at, count = text.partition("@")
    try:
        kind = FaultKind(name)
    except ValueError:
        known = ", ".join(kind.value for kind in FaultKind)
        raise InvalidValue(f"`{text[:100]}` is no fault", hint=f"The faults are {known}") from None
    if (kind is FaultKind.CRASH_ON_LOAD) == bool(at):
        raise InvalidValue(f"`{text[:100]}`: write {name} {'without' if at else 'with'} @N")
    return Fault(kind, _count({"fault": count}, "fault", 0) if at and count != "0" else 0)


def _ability(text: str) -> Ability:
    if text not in ("chat", "embedding"):
        raise InvalidValue(f"a fake model has no ability `{text[:100]}`", hint="It can do chat or embedding")
    return Ability(text)
