"""What may be left out of a conversation, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrium.core.errors import ContextTooLong
from atrium.core.requests import Message, Overflow, Role, ToolCall
from atrium.decisions.fit_context import droppable, fit_context, shortened_target, without

HOWS: list[Overflow] = ["left", "middle"]


def call(name: str) -> Message:
    return Message(Role.ASSISTANT, "", tool_calls=(ToolCall(name, "f", "{}"),))


def answer(name: str) -> Message:
    return Message(Role.TOOL, "7", tool_call_id=name)


SYSTEM, USER, SAID = Message(Role.SYSTEM, "s"), Message(Role.USER, "u"), Message(Role.ASSISTANT, "a")


@pytest.mark.parametrize(
    ("messages", "how", "turns"),
    [
        ([SYSTEM, USER], "left", ()),
        ([SYSTEM, USER, SAID, USER], "left", ((1, 2),)),
        ([SYSTEM, USER, SAID, USER, SAID, USER], "left", ((1, 2), (3, 4))),
        ([SYSTEM, USER, SAID, USER, SAID, USER, SAID, USER], "middle", ((3, 4), (5, 6), (1, 2))),
        ([USER, SAID, SYSTEM, USER], "left", ((0, 1),)),
        ([USER, call("c"), answer("c"), SAID, USER], "left", ((0, 1, 2, 3),)),
        ([USER, call("c"), answer("c"), call("d"), answer("d")], "left", ((1, 2),)),
        ([USER, call("c"), USER, answer("c"), USER], "left", ((0, 1, 2, 3),)),
        ([SYSTEM], "left", ()),
    ],
)
def test_what_goes_first(messages: list[Message], how: Overflow, turns: object) -> None:
    assert droppable(messages, how) == turns


MESSAGES = st.lists(
    st.sampled_from([SYSTEM, USER, SAID, call("a"), call("b"), answer("a"), answer("b")]), min_size=1, max_size=24
)


@given(MESSAGES, st.sampled_from(HOWS))
def test_the_system_and_the_last_message_stay_and_calls_keep_their_answers(
    messages: list[Message], how: Overflow
) -> None:
    marked = [
        Message(one.role, str(place), tool_calls=one.tool_calls, tool_call_id=one.tool_call_id)
        for place, one in enumerate(messages)
    ]
    turns = droppable(marked, how)
    places = [place for turn in turns for place in turn]
    assert len(places) == len(set(places))
    before = len(marked)
    for count in range(1, len(turns) + 1):
        kept = without(marked, turns[:count])
        assert len(kept) < before
        before = len(kept)
        assert kept[-1] == marked[-1]
        assert [one for one in kept if one.role is Role.SYSTEM] == [one for one in marked if one.role is Role.SYSTEM]
        assert [int(one.text) for one in kept] == sorted(int(one.text) for one in kept)
        gone = {place for turn in turns[:count] for place in turn}
        for place, one in enumerate(marked):
            if one.role is Role.TOOL and (caller := caller_of(marked, place)) is not None:
                assert (place in gone) == (caller in gone)


def caller_of(messages: list[Message], place: int) -> int | None:
    """The last message before that made the call which this one answers."""
    made = [i for i in range(place) if any(c.id == messages[place].tool_call_id for c in messages[i].tool_calls)]
    return made[-1] if made else None


def test_a_shortened_prompt_leaves_room_for_its_answer() -> None:
    assert shortened_target(1000, 100) == 900
    assert shortened_target(1000, 5000) == 500
    assert shortened_target(1000, None) == 875
    assert shortened_target(4, None) == 3


def test_the_answer_gets_what_is_left_and_no_more() -> None:
    assert fit_context(90, 100, None, param="messages") == 10
    assert fit_context(90, 100, 3, param="messages") == 3
    assert fit_context(90, 100, 30, param="messages") == 10
    with pytest.raises(ContextTooLong):
        fit_context(100, 100, 1, param="messages")
