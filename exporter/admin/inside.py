"""Looks into the library's metrics, to tell cheaply that a series has not changed: the one place that does.

How it works
============
A metric with labels keeps its series in ``_metrics``. A counter has its number in a cell, ``_value``; a histogram has
a cell for each bucket, ``_buckets``, and one more, ``_sum``. What a cell holds, ``_value`` and ``_exemplar``, is never
altered but replaced by another object. So as long as all cells of a series hold the very objects that they held, it
says what it said. Equal ones would not do: 0.0 equals -0.0, which is written otherwise.

What a series says is always asked of the library (``_child_samples``); here is only whether it must be asked. A gauge
always is, for it may be the result of a function. So is whatever is not made as described: another kind of cell, as the
library has for several processes, another kind of metric, a private name that a later version no longer has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter, is_
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.values import MutexValue

Series = MetricWrapperBase
#: Values and exemplars, a cell each.
Held = tuple[list[object], list[object]]

_KINDS = (Counter, Gauge, Histogram)
_NEEDED = ("_labelnames", "_labelvalues", "_name", "_child_samples")
_CELL = ("_value", "_exemplar")

_value_of = attrgetter("_value")
_exemplar_of = attrgetter("_exemplar")


def collectors(registry: CollectorRegistry) -> tuple[Collector, ...]:
    """What a registry collects from, in its order."""
    return tuple(getattr(registry, "_collector_to_names", (registry,)))


def series_of(metric: Collector) -> tuple[Series, ...] | None:
    """The series of a metric in the order in which the library reads them; None if it is not as described."""
    if not isinstance(metric, _KINDS) or not _has(metric, _NEEDED):
        return None
    known = cast(Series, metric)
    if not known._labelnames:
        return (known,)
    found = getattr(known, "_metrics", None)
    return tuple(found.values()) if isinstance(found, dict) else None


def read(series: Series) -> Iterable[Sample]:
    """What one series says now; names lack the metric's, labels the series', until :func:`whole` adds them."""
    return series._child_samples()


def whole(series: Series, sample: Sample) -> Sample:
    """A sample of one series under its full name, with all labels."""
    labels = dict(zip(series._labelnames, series._labelvalues, strict=False)) | sample.labels
    return sample._replace(name=series._name + sample.name, labels=labels)


class Cells:
    """All that some series depend on, and what it was when they were last read.

    :param series: if one of them is made in another way than described, there is no telling that they have not changed.
    """

    __slots__ = ("_cells", "_exemplars", "_values")

    def __init__(self, series: Iterable[Series]) -> None:
        found = [_cells(one) for one in series]
        self._cells = [cell for cells in found for cell in cells] if all(found) else []
        self._values: list[object] = []
        self._exemplars: list[object] = []

    def unchanged(self) -> bool:
        """Whether the series say what they said when this held what was last kept."""
        return (
            bool(self._values)
            and all(map(is_, map(_value_of, self._cells), self._values))
            and all(map(is_, map(_exemplar_of, self._cells), self._exemplars))
        )

    def look(self) -> Held:
        """What they hold now."""
        return list(map(_value_of, self._cells)), list(map(_exemplar_of, self._cells))

    def keep(self, held: Held) -> None:
        """Compare with this from now on."""
        self._values, self._exemplars = held


def _cells(series: Series) -> Sequence[object]:
    """Those of one series; none if there is no telling which."""
    found: list[object] = []
    if "_child_samples" in vars(series):  # replaced, as by a gauge's set_function
        return ()
    if isinstance(series, Counter):
        found = [getattr(series, "_value", None)]
    elif isinstance(series, Histogram):
        found = [*getattr(series, "_buckets", (None,)), getattr(series, "_sum", None)]
    return found if all(_is_cell(cell) for cell in found) else ()


def _is_cell(thing: object) -> bool:
    """Whether it is the library's, or one that says that it, too, replaces what it holds and never alters it."""
    known = type(thing) is MutexValue or getattr(type(thing), "replaces", False)
    return known and _has(thing, _CELL)


def _has(thing: object, names: Iterable[str]) -> bool:
    return all(hasattr(thing, name) for name in names)
