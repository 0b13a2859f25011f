"""The library's metrics for what every session counts: the same numbers in the same place, less work for a step.

The library takes a lock for each value that a step touches, checks that the series is one that can be counted, and
looks for a histogram's bucket from the first. All that we count is counted on the event loop, by children that were
looked up at the start; so these classes leave the lock and the check out. What is read, and how, stays the library's.
"""

from __future__ import annotations

from bisect import bisect_left

import prometheus_client

#: What a step carries along for OpenMetrics: labels of its own, a trace id.
Exemplar = dict[str, str]


class Counter(prometheus_client.Counter):
    """A counter that is counted from one thread."""

    def inc(self, amount: float = 1, exemplar: Exemplar | None = None) -> None:
        """Add ``amount``, which must not be negative."""
        if exemplar is None:
            self._value._value += amount
        else:
            super().inc(amount, exemplar)


class Gauge(prometheus_client.Gauge):
    """A gauge that is moved from one thread."""

    def inc(self, amount: float = 1) -> None:
        """Add ``amount``."""
        self._value._value += amount

    def dec(self, amount: float = 1) -> None:
        """Take ``amount`` off."""
        self._value._value -= amount


class Histogram(prometheus_client.Histogram):
    """A histogram that is added to from one thread."""

    def observe(self, amount: float, exemplar: Exemplar | None = None) -> None:
        """Add one observation; ``amount`` is a number."""
        if exemplar is None:
            self._buckets[bisect_left(self._upper_bounds, amount)]._value += 1
            self._sum._value += amount
        else:
            super().observe(amount, exemplar)
