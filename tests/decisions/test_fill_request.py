"""What a model's configuration adds to a silent request."""

from __future__ import annotations

from atrium.core.models import ModelConfig
from atrium.core.requests import Chat, Message, Role, Sampling
from atrium.decisions.fill_request import fill_chat

HELLO = Message(Role.USER, "Hello")
CONFIG = ModelConfig(
    system="Be brief.",
    messages=(("user", "Hi"), ("assistant", "Ahoy")),
    sampling=Sampling(temperature=0.5, stop=("x",)),
)


def test_a_silent_chat_gets_the_system_prompt_the_first_turns_and_the_defaults() -> None:
    filled = fill_chat(Chat("m", (HELLO,), defaults=Sampling(temperature=1.0, top_k=3)), CONFIG)
    assert [(m.role.value, m.text) for m in filled.messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Ahoy"),
        ("user", "Hello"),
    ]
    assert (filled.sampling.temperature, filled.sampling.top_k, filled.sampling.stop) == (0.5, 3, ("x",))


def test_what_the_request_says_comes_first() -> None:
    own = Message(Role.SYSTEM, "Be long.")
    asked = Chat("m", (own, HELLO), sampling=Sampling(temperature=0.0, stop=("y",)))
    filled = fill_chat(asked, CONFIG)
    assert filled.messages[0] == own
    assert filled.messages[1].text == "Hi"
    assert (filled.sampling.temperature, filled.sampling.stop) == (0.0, ("y",))
