"""llama.cpp's server, in a wheel (`xllamacpp`). The figures were measured; see `docs/performance.md`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from atrium.core.errors import ConfigError, EngineMissing
from atrium.core.models import Ability, Dimensions, ModelCard
from atrium.dialects.llamacpp.pictures import MARK
from atrium.engines.recipes.recipe import Plan, fingerprint

MIB = 1024 * 1024
PACKAGE = "xllamacpp"
CHAT_BATCH = 128
"""A prompt step of more tokens keeps a cancelled request's slot longer, and is no faster."""
PICTURE_BATCH = 1024
"""A picture's tokens must fit one step with some models."""
PICTURE_SCRATCH = 128 * MIB
EMBEDDING_BATCH = 2048
"""An embedding input must fit one step, since every token sees every other."""
EMBEDDING_SLOTS = 4
LEAST_CONTEXT = 4096
SHORTEST_CONTEXT = 512
LONGEST_CONTEXT = 2**27
STEP = 256
"""Contexts are whole multiples of this."""
SPINS = "1000"
"""How long a thread spins at a barrier before it sleeps. Without spinning a small model runs at a fifth of its speed;
with GNU OpenMP's own 300,000 two runners starve each other to a tenth. The table is in `docs/performance.md`."""
PROCESS = 38 * MIB
"""The interpreter, the library and the server without a model."""
ELEMENT = 2
"""Bytes of a number in the key-value cache (f16)."""
EMBEDDING_SCRATCH = 32
"""Numbers that a step keeps for each number of its input."""


def installed_version() -> str | None:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def read_context(text: str) -> int | None:
    """Tokens per slot from `models.context`; None for `auto`. Raises ConfigError."""
    if text.strip() == "auto":
        return None
    if not text.strip().isdecimal() or not STEP <= int(text) <= LONGEST_CONTEXT:
        raise ConfigError(f"`models.context` is `{text}`", hint=f"Give auto, or a number of tokens from {STEP} on")
    return int(text)


@dataclass(frozen=True, slots=True)
class LlamaCppRecipe:
    slots: int
    """Answers of one chat model at the same time."""
    context: int | None
    """Tokens per slot; None: what the model was trained for, as far as memory allows."""
    threads: int
    prompt_cache: int
    """Bytes that a runner may keep for prompts it has seen."""
    engine_version: str | None
    """None: not installed."""

    def plan(self, card: ModelCard, budget: int, *, shrinks: int = 0) -> Plan:
        if self.engine_version is None:
            raise EngineMissing("the engine for GGUF models is not installed", hint=f"Install {PACKAGE}")
        embeds = Ability.EMBEDDING in card.abilities
        said = card.config
        slots = card.slots or (EMBEDDING_SLOTS if embeds else self.slots)
        threads = said.threads or self.threads
        cost = _Cost(card, slots, embeds=embeds, prompt_cache=self.prompt_cache)
        context = self._context(cost, budget, said.context or self.context)
        slots, context = shrunk(slots, context, shrinks)
        cost = replace(cost, slots=slots)
        return Plan(
            slots=slots,
            context=context,
            memory=cost.of(context),
            certain=cost.certain(context),
            fingerprint=fingerprint(card.digest, PACKAGE, self.engine_version, slots, context, cost.batch),
            command=(
                sys.executable,
                "-m",
                "atrium.engines.workers.llamacpp",
                f"--model={card.path}",
                f"--slots={slots}",
                f"--context={slots * context}",
                f"--batch={cost.batch}",
                f"--threads={threads}",
                f"--prompt-cache={self.prompt_cache // MIB}",
                *(("--embedding", f"--pooling={card.options.get('pooling', 'mean')}") if embeds else ()),
                *((f"--projector={card.projector.path}",) if card.projector else ()),
            ),
            environment={"GOMP_SPINCOUNT": SPINS, "LLAMA_MEDIA_MARKER": MARK},
            threads=threads,
        )

    def _context(self, cost: _Cost, budget: int, wanted: int | None) -> int:
        """`wanted`, but no more than the model was trained for; else as memory allows.

        One model takes half of the budget at most, unless it would have less than the least context then."""
        trained = cost.longest
        if wanted is not None:
            return min(wanted, trained)
        if trained <= LEAST_CONTEXT:
            return trained
        half = _whole_steps(cost.fitting(budget // 2))
        least = LEAST_CONTEXT if cost.of(LEAST_CONTEXT) <= budget else _whole_steps(cost.fitting(budget))
        return min(trained, max(half, least))


@dataclass(frozen=True, slots=True)
class _Cost:
    """Resident memory of a model as a function of its context: weights, key-value cache, scratch, the process."""

    card: ModelCard
    slots: int
    embeds: bool
    prompt_cache: int

    @property
    def batch(self) -> int:
        if self.card.projector:
            return PICTURE_BATCH
        return EMBEDDING_BATCH if self.embeds else CHAT_BATCH

    @property
    def longest(self) -> int:
        trained = self.card.facts.dimensions.trained_context or LEAST_CONTEXT
        return min(trained, EMBEDDING_BATCH) if self.embeds else trained

    @property
    def fixed(self) -> int:
        size = self.card.facts.dimensions
        if self.embeds:
            scratch = EMBEDDING_SCRATCH * size.embedding_length
        else:
            scratch = self.card.facts.vocabulary.size + 8 * size.embedding_length
        cache = 0 if self.embeds else self.prompt_cache
        sight = self.card.projector.size + PICTURE_SCRATCH if self.card.projector else 0
        return size.tensor_bytes + scratch * self.batch * 4 + cache + sight + PROCESS

    @property
    def per_token(self) -> int:
        return _cache_per_token(self.card.facts.dimensions) * self.slots

    def certain(self, context: int) -> int:
        """Scratch and the process are what an estimate may be wrong about."""
        cache = 0 if self.embeds else self.prompt_cache
        return self.card.facts.dimensions.tensor_bytes + cache + context * self.per_token

    def of(self, context: int) -> int:
        return self.fixed + context * self.per_token

    def fitting(self, budget: int) -> int:
        """The longest context that costs no more than this; never less than one step."""
        if not self.per_token:
            return self.longest
        return max(STEP, (budget - self.fixed) // self.per_token)


def _cache_per_token(size: Dimensions) -> int:
    return size.layers * size.kv_heads * (size.key_length + size.value_length) * ELEMENT


def shrunk(slots: int, context: int, times: int) -> tuple[int, int]:
    """First the context down to what is still useful, then the slots, then the context again."""
    for _ in range(times):
        if context > LEAST_CONTEXT:
            context = max(LEAST_CONTEXT, _whole_steps(context // 2))
        elif slots > 1:
            slots //= 2
        else:
            context = max(min(context, SHORTEST_CONTEXT), _whole_steps(context // 2))
    return slots, context


def _whole_steps(tokens: int) -> int:
    return tokens // STEP * STEP
