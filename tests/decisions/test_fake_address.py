"""What a fake's address means, and what is refused."""

from __future__ import annotations

import pytest

from atrium.core.errors import InvalidValue
from atrium.core.models import Ability
from atrium.decisions.fake_address import FakeAddress, Fault, FaultKind, fake_card, parse_fake


@pytest.mark.parametrize(
    ("address", "meaning"),
    [
        ("fake:plain", FakeAddress("plain")),
        ("fake:plain?", FakeAddress("plain")),
        ("fake:a/b-1.2?pace=20ms&load=3s", FakeAddress("a/b-1.2", pace=0.02, load=3.0)),
        ("fake:big?size=1.5GB&slots=2&context=4096", FakeAddress("big", size=3 * 512 * 1024**2, slots=2, context=4096)),
        ("fake:brief?words=3&ability=embedding", FakeAddress("brief", words=3, ability=Ability.EMBEDDING)),
        ("fake:bad?fault=crash@5", FakeAddress("bad", faults=(Fault(FaultKind.CRASH, 5),))),
        (
            "fake:bad?fault=crash-on-load&fault=drop@0",
            FakeAddress("bad", faults=(Fault(FaultKind.CRASH_ON_LOAD), Fault(FaultKind.DROP, 0))),
        ),
    ],
)
def test_an_address_has_a_meaning(address: str, meaning: FakeAddress) -> None:
    assert parse_fake(address) == meaning


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("real:model", "real:model"),
        ("fake:", "fake:"),
        ("fake:../up", "up"),
        ("fake:x?pace", "options"),
        ("fake:x?speed=1", "speed"),
        ("fake:x?pace=fast", "pace=fast"),
        ("fake:x?pace=3GB", "pace=3GB"),
        ("fake:x?pace=-1s", "pace=-1s"),
        ("fake:x?slots=0", "slots"),
        ("fake:x?slots=1.5", "slots"),
        ("fake:x?fault=crash", "crash"),
        ("fake:x?fault=crash@", "fault="),
        ("fake:x?fault=crash@soon", "soon"),
        ("fake:x?fault=crash-on-load@1", "crash-on-load"),
        ("fake:x?fault=sulk@3", "sulk"),
        ("fake:x?ability=flying", "flying"),
    ],
)
def test_what_is_wrong_with_an_address_is_named(address: str, named: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_fake(address)
    assert named in refused.value.sentence


def test_a_card_carries_all_that_a_chat_needs() -> None:
    card = fake_card("fake:plain?context=2048", created=5)
    assert card.abilities == {Ability.CHAT, Ability.COMPLETION}
    assert card.facts.dimensions.trained_context == 2048
    assert card.facts.vocabulary.eos == card.facts.vocabulary.control["<|im_end|>"]
    assert card.facts.chat_template
    assert card == fake_card("fake:plain?context=2048", created=5)
    assert card.digest != fake_card("fake:plain?context=4096", created=5).digest
