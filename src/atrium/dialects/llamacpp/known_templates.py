"""Which chat template a model gets: what was said of it, its file's own, or one that fits its control tokens."""

from __future__ import annotations

from atrium.core.models import ModelCard

PLAIN = (
    "{% for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GEMMA = (
    "{% set ns = namespace(system='') %}{% for message in messages %}"
    "{% if message.role == 'system' %}{% set ns.system = message.content + '\\n\\n' %}{% else %}"
    "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' }}"
    "{{ ns.system + message.content + '<end_of_turn>\\n' }}{% set ns.system = '' %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
PHI = (
    "{% for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
BY_TOKENS = (
    ("chatml", ("<|im_start|>", "<|im_end|>"), CHATML),
    ("llama3", ("<|start_header_id|>", "<|eot_id|>"), LLAMA3),
    ("gemma", ("<start_of_turn>", "<end_of_turn>"), GEMMA),
    ("phi", ("<|user|>", "<|assistant|>", "<|end|>"), PHI),
)
"""A name, the control tokens that tell of it, and its source."""


def template_of(card: ModelCard) -> tuple[str, str]:
    """The source, and where it is from: a file and line, `the model's file`, or what it was taken for."""
    if card.config.template is not None:
        return card.config.template, card.config.origins.get("template", "its configuration")
    if card.facts.chat_template:
        return card.facts.chat_template, "the model's file"
    for name, tokens, source in BY_TOKENS:
        if all(token in card.facts.vocabulary.control for token in tokens):
            return source, f"{name}, by its control tokens"
    return PLAIN, "plain text, since the file has none"


def can_think(card: ModelCard) -> bool:
    """Whether its template knows of thoughts beside the answer."""
    return "</think>" in template_of(card)[0]
