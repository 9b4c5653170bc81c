"""Personalities that a chat may ask for. Source: contract `lollms.md`, section 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from atrium.settings.marks import Doc


@dataclass(frozen=True, slots=True)
class PersonalitySettings:
    id: Annotated[str, Doc("what a chat's `personality` names it by")]
    prompt: Annotated[str, Doc("becomes the first system message")]
    name: Annotated[str, Doc("shown to people; empty: its id")] = ""
    category: Annotated[str, Doc("for lists")] = ""
    author: Annotated[str, Doc("who wrote it")] = ""
    description: Annotated[str, Doc("what it is like")] = ""
