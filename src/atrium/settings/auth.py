"""Who may come in. Source: contract `lollms.md`, sections 1.3 and 1.4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from atrium.settings.marks import AtLeast, Doc, Duration

DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class DoorSettings:
    enabled: Annotated[bool, Doc("false answers 403")] = True
    require_key: Annotated[bool | None, Doc("whether this door needs a key; null: as `auth.required` says")] = None


@dataclass(frozen=True, slots=True)
class Doors:
    openai: Annotated[DoorSettings, Doc("`/v1`")] = DoorSettings()
    ollama: Annotated[DoorSettings, Doc("`/ollama` and Ollama's part of `/api`")] = DoorSettings()
    lollms: Annotated[DoorSettings, Doc("`/lollms/v1`")] = DoorSettings()


@dataclass(frozen=True, slots=True)
class Auth:
    required: Annotated[bool, Doc("false opens inference to everyone who reaches the port")] = True
    signup: Annotated[Literal["open", "closed"], Doc("`open` lets strangers make themselves a user")] = "closed"
    session: Annotated[Duration, Doc("how long a login lasts")] = 7 * DAY
    sessions_per_user: Annotated[int, Doc("logins of one user; of more the oldest end"), AtLeast(1)] = 100
    keys_per_user: Annotated[int, Doc("API keys of one user; more are refused"), AtLeast(1)] = 1000
    audit_rows: Annotated[int, Doc("administrative acts that are kept"), AtLeast(1)] = 100_000
    services: Annotated[Doors, Doc("doors of their own rules")] = Doors()
