"""The library's metrics with numbers of ours in them (:mod:`exporter.observe.inline.numbers`).

A series that is looked up seldom is stepped by the library's own methods, which do to a :class:`Value` what they do to
theirs.
"""

from __future__ import annotations

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

from exporter.observe.inline.numbers import Buckets, Value


class _OfOneNumber(MetricWrapperBase):
    """What counters and gauges share; ``number`` is the value of one of them."""

    number: Value

    def _metric_init(self) -> None:
        super()._metric_init()  # type: ignore[no-untyped-call]  # that of the library's counter or gauge
        self._value = self.number = Value()


class Counter(_OfOneNumber, prometheus_client.Counter):
    """A counter."""


class Gauge(_OfOneNumber, prometheus_client.Gauge):
    """A gauge."""


class Histogram(prometheus_client.Histogram):
    """A histogram; ``spread`` is what has been observed."""

    spread: Buckets

    def _metric_init(self) -> None:
        super()._metric_init()
        self.spread = Buckets(self._upper_bounds)
        self._buckets, self._sum = list(self.spread.buckets), self.spread.sum
