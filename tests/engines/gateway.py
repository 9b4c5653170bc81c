"""A program that holds one runner until it is killed: `python -m tests.engines.gateway ENGINE FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from atrium.decisions.fake_address import fake_card
from tests.engines.supervised import ANNA, supervised
from tests.weights import smollm2_card


async def hold(engine: str, folder: Path) -> None:
    card = smollm2_card() if engine == "llamacpp" else fake_card("fake:quick", created=1)
    async with supervised(folder) as (engines, _), engines.lease(card, ANNA) as lease:
        print(lease.runner.pid, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1], Path(sys.argv[2])))
