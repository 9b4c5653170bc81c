"""What a model will cost and how it is run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atrium.core.errors import ConfigError, EngineMissing
from atrium.core.models import Ability, ModelCard
from atrium.engines.recipes.llamacpp import LlamaCppRecipe, read_context
from tests.weights import smollm2_card

MIB = 1024 * 1024
PLENTY = 16 * 1024 * MIB
RECIPE = LlamaCppRecipe(slots=4, context=None, threads=0, prompt_cache=0, engine_version="1")


@pytest.fixture
def card() -> ModelCard:
    return smollm2_card()


@pytest.mark.parametrize(("total", "measured"), [(8192, 327), (16384, 507), (32768, 867)])
def test_the_estimate_is_near_what_was_measured(card: ModelCard, total: int, measured: int) -> None:
    plan = replace(RECIPE, context=total // 4).plan(card, PLENTY)
    assert plan.memory / MIB == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("budget", "context"),
    [
        (PLENTY, 8192),
        (1400 * MIB, 6144),
        (1000 * MIB, 4096),
        (500 * MIB, 3840),
        (1 * MIB, 256),
    ],
)
def test_a_model_gets_the_context_that_memory_allows(card: ModelCard, budget: int, context: int) -> None:
    plan = RECIPE.plan(card, budget)
    assert plan.context == context
    assert f"--context={4 * context}" in plan.command


def test_a_context_that_was_asked_for_is_never_longer_than_what_was_trained(card: ModelCard) -> None:
    assert replace(RECIPE, context=1000).plan(card, 0).context == 1000
    assert replace(RECIPE, context=100_000).plan(card, 0).context == 8192


def test_an_embedding_model_takes_every_input_in_one_step(card: ModelCard) -> None:
    plan = RECIPE.plan(replace(card, abilities=frozenset({Ability.EMBEDDING})), PLENTY)
    assert (plan.slots, plan.context) == (4, 2048)
    assert {"--batch=2048", "--embedding", "--pooling=mean"} <= set(plan.command)


def test_equal_settings_have_equal_fingerprints(card: ModelCard) -> None:
    plan = RECIPE.plan(card, PLENTY)
    assert plan.fingerprint == RECIPE.plan(card, PLENTY).fingerprint
    assert plan.fingerprint != replace(RECIPE, engine_version="2").plan(card, PLENTY).fingerprint
    assert plan.fingerprint != RECIPE.plan(replace(card, digest="other"), PLENTY).fingerprint


def test_a_machine_without_the_engine_is_told_what_to_install(card: ModelCard) -> None:
    with pytest.raises(EngineMissing, match="not installed"):
        replace(RECIPE, engine_version=None).plan(card, PLENTY)


def test_the_setting_of_the_context_is_a_number_or_auto() -> None:
    assert read_context("auto") is None
    assert read_context(" 4096 ") == 4096


@pytest.mark.parametrize("text", ["", "4k", "0", "-1", "100", "1e6", "999999999999"])
def test_a_context_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="context"):
        read_context(text)
