"""The tree of one model's own YAML file, `models/NAME.yaml` in the data folder. Described in `docs/models.md`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from atrium.settings.marks import AtLeast, AtMost, Doc, Stay

INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Parameters:
    temperature: Annotated[float | None, Doc("0 to 2; 0: always the likeliest"), AtLeast(0), AtMost(2)] = None
    top_p: Annotated[float | None, Doc("0 to 1"), AtLeast(0), AtMost(1)] = None
    top_k: Annotated[int | None, Doc("0: all tokens"), AtLeast(0), AtMost(INT32)] = None
    min_p: Annotated[float | None, Doc("0 to 1"), AtLeast(0), AtMost(1)] = None
    typical_p: Annotated[float | None, Doc("0 to 1"), AtLeast(0), AtMost(1)] = None
    repeat_penalty: Annotated[float | None, Doc("1: none"), AtLeast(0), AtMost(10)] = None
    repeat_last_n: Annotated[
        int | None, Doc("how many tokens back the penalties look; -1: the window"), AtLeast(-1), AtMost(INT32)
    ] = None
    frequency_penalty: Annotated[float | None, Doc("-2 to 2"), AtLeast(-2), AtMost(2)] = None
    presence_penalty: Annotated[float | None, Doc("-2 to 2"), AtLeast(-2), AtMost(2)] = None
    seed: Annotated[int | None, Doc("the same seed gives the same text"), AtLeast(-INT32), AtMost(2**32 - 1)] = None
    max_tokens: Annotated[int | None, Doc("of one answer"), AtLeast(1), AtMost(INT32)] = None
    stop: Annotated[tuple[str, ...], Doc("strings at which an answer ends; at most 16")] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    role: Annotated[Literal["system", "user", "assistant"], Doc("who says it")]
    content: Annotated[str, Doc("what is said")]


@dataclass(frozen=True, slots=True)
class ModelYaml:
    name: Annotated[str | None, Doc("the model's name; without it the file's own, `%2F` in it read as `/`")] = None
    base: Annotated[str | None, Doc("another model's name: this one is made from it, under a name of its own")] = None
    file: Annotated[Path | None, Doc("a GGUF file, absolute or beside this one, served where it is")] = None
    description: Annotated[str, Doc("for people")] = ""
    license: Annotated[str, Doc("for people")] = ""
    system: Annotated[str | None, Doc("for a chat that brings no system message")] = None
    messages: Annotated[tuple[Turn, ...], Doc("turns that stand before every chat")] = ()
    template: Annotated[str | None, Doc("Jinja source of the chat template, instead of the file's own")] = None
    parameters: Annotated[Parameters, Doc("what holds where a request is silent")] = Parameters()
    context: Annotated[int | None, Doc("tokens per slot"), AtLeast(256), AtMost(2**27)] = None
    context_policy: Annotated[
        Literal["refuse", "left", "middle", "summarize"] | None,
        Doc("what becomes of a prompt that does not fit, where the request does not say"),
    ] = None
    slots: Annotated[int | None, Doc("answers made at the same time"), AtLeast(1), AtMost(256)] = None
    threads: Annotated[int | None, Doc("threads of its runner"), AtLeast(1), AtMost(1024)] = None
    keep_alive: Annotated[Stay | None, Doc("how long it stays loaded unused; `never` is never unloaded")] = None
    aliases: Annotated[tuple[str, ...], Doc("other names for it")] = ()
    projector: Annotated[
        str | None, Doc("the GGUF file through which it sees (mmproj), absolute or beside this one; empty: none")
    ] = None
    pooling: Annotated[
        Literal["mean", "cls", "last"] | None,
        Doc("how tokens become one embedding; makes it an embedding model"),
    ] = None
