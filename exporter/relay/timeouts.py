"""Queues of timeouts of one length, with one timer for all: the first to begin is the first to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from itertools import islice
from time import monotonic
from typing import Final, Generic, TypeVar

_Item = TypeVar("_Item", bound=Hashable)

#: Monotonic seconds, for all of the relay: once compiled, a name that is not final is looked up each time.
clock: Final = monotonic


#: Timeouts that are called back for before others get their turn.
BATCH: Final = 256


class TimeoutQueue(Generic[_Item]):
    """Calls back for every item that is added and not removed for ``seconds``.

    :param on_timeout: called with the item, which is not in the queue any more.
    """

    def __init__(self, seconds: float, on_timeout: Callable[[_Item], None]) -> None:
        self._seconds = seconds
        self._on_timeout = on_timeout
        self._since: dict[_Item, float] = {}  # in the order in which they began
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: _Item) -> None:
        """Start the time of ``item``."""
        self._since[item] = clock()
        self._look_in(self._seconds)

    def remove(self, item: _Item) -> None:
        """Stop the time of ``item``; nothing happens if it is not in the queue."""
        if item in self._since:
            del self._since[item]

    def _look(self) -> None:
        self._timer = None
        due = clock() - self._seconds
        for item, since in list(islice(self._since.items(), BATCH)):
            if since > due:
                self._look_in(since - due)
                return
            if self._since.pop(item, None) is not None:  # another one's end may have removed it
                self._on_timeout(item)
        if self._since:
            self._look_in(0.0)

    def _look_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)
