"""Numbers that sessions step, in place of the library's cells: no lock, compiled where the rest is.

The library takes a lock for each value that a step touches, checks that the series is one that can be counted, and
looks for a histogram's bucket from the first. All that sessions count is counted on the event loop, so a
:class:`Value` and a :class:`Buckets` leave the lock and the check out. What is read of them, and how, stays the
library's.
"""

from __future__ import annotations

from bisect import bisect_left
from time import time
from typing import ClassVar, Final, cast

from prometheus_client.samples import Exemplar

#: Looked up once.
_bisect: Final = bisect_left


class Value:
    """One value of a counter, a gauge, or a histogram's bucket or sum; what the library calls a value.

    :cvar replaces: what it holds is replaced by another object with every step, never altered; whoever keeps what a
        series said (:mod:`exporter.admin.inside`) tells by that whether it changed.
    """

    replaces: ClassVar[bool] = True

    __slots__ = ("_exemplar", "_value")

    def __init__(self) -> None:
        self._value: object = 0.0
        self._exemplar: object = None

    def inc(self, amount: float) -> None:
        """Add ``amount``."""
        self._value = cast(float, self._value) + amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Be ``value`` from now on."""
        self._value = value

    def get(self) -> float:
        """The value."""
        return cast(float, self._value)

    def set_exemplar(self, exemplar: object) -> None:
        """Carry this along for OpenMetrics."""
        self._exemplar = exemplar

    def get_exemplar(self) -> object:
        """What is carried along."""
        return self._exemplar

    def step(self, trace_id: str = "") -> None:
        """Add one; a ``trace_id`` becomes its exemplar."""
        self.inc(1.0)
        if trace_id:
            self._exemplar = _exemplar(trace_id, 1.0)


class Buckets:
    """A histogram's buckets and sum.

    :param bounds: upper bounds of the buckets, in order, the last one infinite.
    """

    __slots__ = ("_bounds", "buckets", "sum")

    def __init__(self, bounds: list[float]) -> None:
        self._bounds = bounds
        self.buckets = [Value() for _ in bounds]
        self.sum = Value()

    def observe(self, amount: float, trace_id: str = "") -> None:
        """Add one observation; a ``trace_id`` becomes its bucket's exemplar."""
        bucket = self.buckets[_bisect(self._bounds, amount)]
        bucket.inc(1.0)
        self.sum.inc(amount)
        if trace_id:
            bucket.set_exemplar(_exemplar(trace_id, amount))


def _exemplar(trace_id: str, amount: float) -> Exemplar:
    return Exemplar({"trace_id": trace_id}, amount, time())
