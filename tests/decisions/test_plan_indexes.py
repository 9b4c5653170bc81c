"""Indexes of stores in PostgreSQL: which are built, which go."""

from __future__ import annotations

import pytest

from atrium.decisions.plan_indexes import IndexPlan, Large, indexed_type, plan_indexes

A = Large("11111111-2222-4333-8444-555555555555", 100, 384)
B = Large("99999999-2222-4333-8444-555555555555", 90, 3072)


def test_a_name_fits_postgresql_and_tells_how_it_was_built() -> None:
    assert A.index == "near_11111111222243338444555555555555_384"
    assert len(Large(A.store, 1, 16_000).index) < 64


@pytest.mark.parametrize(
    ("dimensions", "kind"), [(2000, "vector(2000)"), (2001, "halfvec(2001)"), (4000, "halfvec(4000)"), (4001, None)]
)
def test_vectors_are_indexed_as_what_an_index_can_have(dimensions: int, kind: str | None) -> None:
    assert indexed_type(dimensions) == kind


@pytest.mark.parametrize(
    ("stores", "there", "plan"),
    [
        ([], {}, IndexPlan()),
        ([A, B], {}, IndexPlan(build=(B, A))),
        ([A, B], {A.index: True}, IndexPlan(build=(B,))),
        ([A], {A.index: False}, IndexPlan(build=(A,), drop=(A.index,))),
        ([], {A.index: True}, IndexPlan(drop=(A.index,))),
        ([Large(A.store, 89, 384)], {}, IndexPlan()),
        ([Large(A.store, 45, 384)], {A.index: True}, IndexPlan()),
        ([Large(A.store, 44, 384)], {A.index: True}, IndexPlan(drop=(A.index,))),
        ([Large(A.store, 100, 768)], {A.index: True}, IndexPlan(build=(Large(A.store, 100, 768),), drop=(A.index,))),
        ([Large(A.store, 100, 5000)], {}, IndexPlan()),
    ],
    ids=["nothing", "smallest first", "is there", "broken off", "gone", "small", "shrunk", "half", "other", "too long"],
)
def test_indexes_follow_the_size_of_stores(stores: list[Large], there: dict[str, bool], plan: IndexPlan) -> None:
    assert plan_indexes(stores, there, 90) == plan
