"""Many waits of one length, with one timer for all: what began to wait first is over first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Final, Generic, TypeVar

_Waiting = TypeVar("_Waiting", bound=Hashable)

#: Seconds on the monotonic clock, for all of the relay: once compiled, a name that is not final is looked up each time.
clock: Final = monotonic


class TimeoutQueue(Generic[_Waiting]):
    """Whatever is added and not removed for ``seconds`` is told to ``late``.

    :param seconds: how long each may wait.
    :param on_timeout: is told of one that has waited so long; it is not waiting any more then.
    """

    def __init__(self, seconds: float, on_timeout: Callable[[_Waiting], None]) -> None:
        self._seconds = seconds
        self._on_timeout = on_timeout
        self._since: dict[_Waiting, float] = {}  # in the order in which they began
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiting: _Waiting) -> None:
        """It begins to wait now."""
        self._since[waiting] = clock()
        self._look_in(self._seconds)

    def remove(self, waiting: _Waiting) -> None:
        """It waits no more; nothing happens if it did not."""
        self._since.pop(waiting, None)

    def _look(self) -> None:
        self._timer = None
        due = clock() - self._seconds
        for waiting, since in list(self._since.items()):
            if since > due:
                self._look_in(since - due)
                return
            if self._since.pop(waiting, None) is not None:  # another one's end may have removed it
                self._on_timeout(waiting)

    def _look_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)
