"""What a caller says comes before the model's settings, and those before the dialect's."""

from __future__ import annotations

from atrium.core.requests import Sampling
from atrium.decisions.fill_sampling import fill_sampling


def test_the_first_who_says_something_is_heard() -> None:
    model = Sampling(temperature=0.2, top_k=5, stop=("END",))
    dialect = Sampling(temperature=0.8, top_k=40, top_p=0.9)
    filled = fill_sampling(Sampling(temperature=0.0), model, dialect)
    assert filled == Sampling(temperature=0.0, top_k=5, top_p=0.9, stop=("END",))


def test_nothing_said_leaves_everything_open() -> None:
    given = Sampling(max_tokens=3)
    assert fill_sampling(given, Sampling()) is given
