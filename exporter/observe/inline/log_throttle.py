"""Says the same thing seldom: at once when it first happens, then every few seconds, with how often it has since."""

from __future__ import annotations

from collections.abc import Callable

#: Seconds between two lines that say the same. A full house pauses many times a minute, and an app that is down fails
#: each of the thousands of clients that come back at once; a counter tells how many, a line that it is so, and why.
INTERVAL = 10.0


class LogThrottle:
    """Decides whether it is time to say something again.

    :param clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}  # when it was last due, and how often it has happened since

    def due(self, what: str) -> int:
        """Note that ``what``, one of a few things, happened. Returns how often it has since it was last due, this time
        included; 0 if it is too soon to say so."""
        now = self._clock()
        when, times = self._told.get(what, (float("-inf"), 0))
        if now - when < INTERVAL:
            self._told[what] = when, times + 1
            return 0
        self._told[what] = now, 0
        return times + 1
