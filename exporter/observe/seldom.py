"""Says the same thing seldom: at once when it first happens, then every few seconds, with how often it has since."""

from __future__ import annotations

from collections.abc import Callable

#: Seconds between two lines that say the same. A full house pauses many times a minute, and an app that is down fails
#: each of the thousands of clients that come back at once; a counter tells how many, a line that it is so, and why.
INTERVAL = 10.0


class Seldom:
    """Decides whether it is time to say something again.

    :param clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}  # when
        self._unsaid: dict[str, int] = {}  # how often since

    def due(self, what: str) -> int:
        """Note that ``what``, one of a few things, happened. Returns how often it has since it was last due, this time
        included; 0 if it is too soon to say so."""
        now = self._clock()
        times = self._unsaid.get(what, 0) + 1
        if now - self._said.get(what, float("-inf")) < INTERVAL:
            self._unsaid[what] = times
            return 0
        self._said[what], self._unsaid[what] = now, 0
        return times
