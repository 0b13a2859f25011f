"""What the sidecar's /metrics says of endings, in a few words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

from exporter.observe.catalogue import ACTIVE, CLOSED, HANDSHAKES
from exporter.protocol.enums import Peer

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, order=True)
class Ending:
    """One kind of ending, as the labels name it."""

    code: str
    cause: str
    initiator: str


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Sessions open now; endings by kind and refused handshakes by HTTP status since the sidecar's start."""

    active: int = 0
    closed: Counter[Ending] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


def read(exposition: str) -> FrameCounts:
    """The tally in a page of Prometheus text, summed over routes.

    :raises ValueError: when it is not such a page.
    """
    active = 0
    closed: Counter[Ending] = Counter()
    refused: Counter[str] = Counter()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels, value = sample.labels, int(sample.value)
            if sample.name == ACTIVE.name:
                active += value
            elif sample.name == CLOSED.name:
                closed[Ending(labels["code"], labels["cause"], labels["initiator"])] += value
            elif sample.name == HANDSHAKES.name and labels["status"] != "101":
                refused[labels["status"]] += value
    return FrameCounts(active, closed, refused)


def news(before: FrameCounts, now: FrameCounts) -> str:
    """One line: what is open, and what has ended since ``before`` and by whom, the most frequent first."""
    lists: dict[str, list[str]] = {f"{peer} closed": [] for peer in (Peer.SERVER, Peer.PROXY, Peer.CLIENT)}
    for ending, count in _most_frequent(now.closed - before.closed):
        lists[f"{ending.initiator} closed"].append(f"{count} x {ending.code} {ending.cause}")
    refused = _most_frequent(now.refused - before.refused)
    lists["turned away"] = [f"{count} x {_status(status)}" for status, count in refused]
    parts = [f"{title} {', '.join(items)}" for title, items in lists.items() if items]
    return "; ".join([f"{now.active:2} open", *parts])


def table(tally: FrameCounts) -> str:
    """All endings, a row for each kind, the most frequent first."""
    rows = [("code", "cause", "by", "count")]
    rows += [(e.code, e.cause, e.initiator, str(count)) for e, count in _most_frequent(tally.closed)]
    rows += [("-", _status(status), "-", str(count)) for status, count in _most_frequent(tally.refused)]
    return "\n".join(f"  {code:<8} {cause:<18} {by:<7} {count:>6}" for code, cause, by, count in rows)


def _status(status: str) -> str:
    return f"HTTP {status}" if status.isdecimal() else status


def _most_frequent(counts: Counter[_T]) -> list[tuple[_T, int]]:
    return [(kind, count) for kind, count in counts.most_common() if count]
