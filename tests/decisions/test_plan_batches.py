"""Which texts are embedded together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atrium.decisions.plan_batches import MOST_TEXTS, plan_batches


@given(st.lists(st.integers(1, 600), max_size=200), st.integers(1, 1000))
def test_every_text_is_in_one_batch_and_batches_keep_to_their_bounds(lengths: list[int], most: int) -> None:
    batches = plan_batches(lengths, most_tokens=most)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 0 < len(batch) <= MOST_TEXTS
        assert len(batch) == 1 or sum(lengths[place] for place in batch) <= most


def test_neighbours_in_length_go_together_so_that_no_short_text_waits_for_a_long_one() -> None:
    assert plan_batches([90, 2, 80, 1], most_tokens=100) == ((3, 1, 2), (0,))
    assert plan_batches([500], most_tokens=100) == ((0,),)
    assert plan_batches([], most_tokens=100) == ()
    assert [len(batch) for batch in plan_batches([1] * 130, most_tokens=10_000)] == [MOST_TEXTS, MOST_TEXTS, 2]
