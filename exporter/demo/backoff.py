"""When a client comes back after a connection that it did not end itself.

The remedy for 1001: retry with exponential backoff, and with jitter, so that the clients of a restarted
server do not all return in the same moment. 1012 asks for a random delay of 5 to 30 seconds.
"""

from __future__ import annotations

import random

from websockets.frames import CloseCode

#: Seconds: the first ceiling, and the last one. Between them it doubles.
FIRST, LAST = 2.0, 30.0

#: Seconds to stay away after 1012.
RESTART_DELAY = (5.0, 30.0)


class Backoff:
    """Delays that grow with every failure in a row, each drawn between zero and a ceiling ("full jitter")."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ceiling = FIRST

    def delay(self, code: int | None = None) -> float:
        """Seconds to wait after an ending with ``code``, or after a connection that failed (None)."""
        if code == CloseCode.SERVICE_RESTART:
            return self._rng.uniform(*RESTART_DELAY)
        ceiling, self._ceiling = self._ceiling, min(LAST, self._ceiling * 2)
        return self._rng.uniform(0, ceiling)

    def reset(self) -> None:
        """A visit went well: begin small again."""
        self._ceiling = FIRST
