"""Reading the configuration again while the server runs: endpoints, aliases and limits change between two requests.

What is under way goes on as it began. A configuration that is wrong changes nothing. Source: the plan, section 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from atrium.core.errors import AtriumError
from atrium.core.events import Tell
from atrium.http.lane import Lane
from atrium.relay.roster import Roster
from atrium.settings.endpoints import read_endpoints
from atrium.settings.tree import Settings


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration comes from, and who else must hear of new aliases."""

    read: Callable[[], Settings]
    """Raises ConfigError."""
    rename: Callable[[Mapping[str, tuple[str, ...]]], None]


@dataclass(frozen=True, slots=True)
class Reload:
    source: Source
    lane: Lane
    roster: Roster
    tell: Tell
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the endpoints that are new, gone, or others than before. Raises ConfigError."""
        async with self._one_at_a_time:
            settings = await asyncio.to_thread(self.source.read)
            changes = await self.roster.configure(read_endpoints(settings.endpoints))
            self.source.rename(settings.model_aliases)
            old = self.lane.settings
            self.lane.apply(
                replace(old, endpoints=settings.endpoints, limits=settings.limits, model_aliases=settings.model_aliases)
            )
        self.tell("config.reloaded", {name: list(names) for name, names in changes.items()})
        return changes

    async def or_tell(self) -> None:
        """For a signal, whose sender can be told only by the log."""
        try:
            await self()
        except AtriumError as error:
            self.tell("config.refused", {"error": error.sentence})
