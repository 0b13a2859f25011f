"""What the sidecar's /metrics says of endings, in a few words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

_T = TypeVar("_T")

ACTIVE = "websocket_connections_active"
CLOSED = "websocket_connections_closed_total"
HANDSHAKES = "websocket_handshakes_total"


@dataclass(frozen=True, slots=True, order=True)
class Ending:
    """One kind of ending, as the labels name it."""

    code: str
    cause: str
    initiator: str

    def __str__(self) -> str:
        return f"{self.code} {self.cause} ({self.initiator})"


@dataclass(frozen=True, slots=True)
class Tally:
    """Sessions open now; endings by kind and refused handshakes by HTTP status since the sidecar's start."""

    active: int = 0
    closed: Counter[Ending] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


def read(exposition: str) -> Tally:
    """The tally in a page of Prometheus text, summed over routes.

    :raises ValueError: when it is not such a page.
    """
    active = 0
    closed: Counter[Ending] = Counter()
    refused: Counter[str] = Counter()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels, value = sample.labels, int(sample.value)
            if sample.name == ACTIVE:
                active += value
            elif sample.name == CLOSED:
                closed[Ending(labels["code"], labels["cause"], labels["initiator"])] += value
            elif sample.name == HANDSHAKES and labels["status"] != "101":
                refused[labels["status"]] += value
    return Tally(active, closed, refused)


def news(before: Tally, now: Tally) -> str:
    """One line: what is open, and what has ended since ``before``, the most frequent first."""
    parts = [f"{now.active:2} open"]
    if closed := _most_frequent(now.closed - before.closed):
        parts.append("closed: " + ", ".join(f"{count} x {ending}" for ending, count in closed))
    if refused := _most_frequent(now.refused - before.refused):
        parts.append("turned away: " + ", ".join(f"{count} x {_status(status)}" for status, count in refused))
    return "; ".join(parts)


def table(tally: Tally) -> str:
    """All endings, a row for each kind, the most frequent first."""
    rows = [("code", "cause", "by", "count")]
    rows += [(e.code, e.cause, e.initiator, str(count)) for e, count in _most_frequent(tally.closed)]
    rows += [("-", _status(status), "-", str(count)) for status, count in _most_frequent(tally.refused)]
    return "\n".join(f"  {code:<8} {cause:<18} {by:<7} {count:>6}" for code, cause, by, count in rows)


def _status(status: str) -> str:
    return f"HTTP {status}" if status.isdecimal() else status


def _most_frequent(counts: Counter[_T]) -> list[tuple[_T, int]]:
    return [(kind, count) for kind, count in counts.most_common() if count]
