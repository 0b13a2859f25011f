"""Work in small steps, with the traffic first in between.

All of us run on one event loop: while a long answer is made, no byte is relayed. So it is made in steps that are far
shorter than :data:`SLICE`, and whenever that is used up, whatever waits on the loop goes first.

When the loop has so much to do that one turn of it takes long, as when all clients of a dead app come back, slices grow
with the turns: else an answer of a hundred slices would outlast its reader's patience just when it is needed most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

#: Seconds of work after which the traffic goes first.
SLICE = 0.0001
#: Or this part of how long the loop was away for the traffic the last time: nobody who waits that long notices it.
SHARE = 0.1


async def run_cooperatively(steps: Iterable[T]) -> list[T]:
    """Everything that these steps make."""
    made = []
    allowed = SLICE
    began = monotonic()
    for step in steps:
        made.append(step)
        now = monotonic()
        if now - began > allowed:
            await asyncio.sleep(0)
            began = monotonic()
            allowed = max(SLICE, (began - now) * SHARE)
    return made
