"""Endings of the last hour by the minute, for a page that somebody looks at without a Prometheus at hand.

How it works
============
A minute is a bucket: how many sessions ended in it, by code, cause and initiator. These are label values, a small
closed set, so a bucket is bounded; and only :data:`MINUTES` buckets are kept, so the whole is. A minute in which
nothing ended has no bucket. Minutes are counted on the monotonic clock: a wall clock that is set back moves nothing.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf
from time import monotonic

from exporter.protocol.classify import Ending

#: The last hour: the minute that is under way and the 59 before it.
MINUTES = 60

#: What endings are told apart by: code, cause, initiator.
Kind = tuple[str, str, str]


class ClosesPerMinute:
    """Counts endings by the minute.

    :param clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.total = 0  # ever counted, so that a reader can tell whether something is new
        self._clock = clock
        self._buckets: OrderedDict[int, dict[Kind, int]] = OrderedDict()  # a Counter's steps are slow
        self._bucket: dict[Kind, int] = {}  # of the minute that is under way ...
        self._until = -inf  # ... until then

    @property
    def minute(self) -> int:
        """The number of the minute that is under way."""
        return int(self._clock() // 60)

    def add(self, ending: Ending) -> None:
        """Count one ending, now."""
        if self._clock() >= self._until:
            self._turn(self.minute)
        kind = (ending.code, ending.cause, ending.initiator)
        self._bucket[kind] = self._bucket.get(kind, 0) + 1
        self.total += 1

    def _turn(self, minute: int) -> None:
        """Count in this minute from here on."""
        self._until = (minute + 1) * 60.0
        self._forget(minute)
        self._bucket = self._buckets.setdefault(minute, {})

    def minutes(self) -> list[Counter[Kind]]:
        """The last hour, oldest minute first, the one under way last; always :data:`MINUTES` of them."""
        last = self.minute
        self._forget(last)
        return [Counter(self._buckets.get(minute)) for minute in range(last - MINUTES + 1, last + 1)]

    def _forget(self, minute: int) -> None:
        while self._buckets and next(iter(self._buckets)) <= minute - MINUTES:
            self._buckets.popitem(last=False)
