"""What the landing page shows at one moment, as plain data: the page's first state and every event after it.

Python renders it once, so that the page stands without a script; the page's script then fills the same places from the
same names. Whoever wants numbers without a page can read it from ``/events`` as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import time
from typing import Any, Protocol

from exporter.admin.pages.meanings import CAUSES, entry, meaning_of
from exporter.admin.pages.wording import circumstances, duration, headline, when, whom
from exporter.protocol.close_codes import ABNORMAL, Nature
from exporter.protocol.enums import Cause, Peer

#: What endings are told apart by: code, cause, initiator.
Kind = tuple[str, str, str]

#: Abnormal endings that the landing page shows; the others are a link away.
LATEST = 8


class CloseReport(Protocol):
    """One abnormal ending that is kept."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """Those of the log line, and ``ended_at`` in seconds since 1970."""

    def as_dict(self) -> dict[str, Any]:
        """The same with ``last_frames``, ready for JSON."""


class Book(Protocol):
    """The abnormal endings that are kept, numbered since the start."""

    @property
    def total(self) -> int:
        """How many there were since the start."""

    def __len__(self) -> int:
        """How many are kept."""

    def walk(self, before: int | None = None) -> Iterator[tuple[int, CloseReport]]:
        """Numbers and stories, newest first, from before the one of that number."""

    def number(self, session_id: str) -> int | None:
        """The number of one session's story, if it is kept."""

    def get(self, session_id: str) -> CloseReport | None:
        """One session's story, if it is kept."""


@dataclass(frozen=True, slots=True)
class State:
    """How the sidecar is.

    :ivar uptime: seconds.
    :ivar ever: endings since the start.
    :ivar minutes: endings of the last hour, a bucket a minute, oldest first.
    """

    version: str
    upstream: str
    draining: bool
    active: int
    uptime: float
    ever: Mapping[Kind, int]
    minutes: Sequence[Mapping[Kind, int]]
    refused: int = 0
    stalled: int = 0


#: The two that are told apart first: weather against a fault.
VERSUS = (("1001", Cause.GOING_AWAY), ("1011", Cause.INTERNAL_ERROR))


def snapshot(state: State, reasons: Sequence[str], book: Book | None) -> dict[str, Any]:
    """Return everything that the page shows, ready for JSON.

    :param reasons: why the sidecar is not ready; empty if it is.
    :param book: the reports that are kept; None shows none.
    """
    latest = [story for _, story in islice(book.walk(), LATEST)] if book is not None else []
    hour: Counter[Kind] = Counter()
    for minute in filter(None, state.minutes):
        hour.update(minute)
    series = _series(state.minutes)
    return {
        "now": round(time(), 3),
        "status": _status(state, reasons),
        "standing": "draining" if state.draining else "unready" if reasons else "ready",
        "up": _up(state.uptime),
        "active": f"{state.active:,}",
        "hour": f"{hour.total():,}",
        "ever": f"{sum(state.ever.values()):,}",
        "abnormal": book.total if book is not None else 0,
        "versus": [_versus(code, cause, series[cause], state.ever) for code, cause in VERSUS],
        "dropped": _dropped(hour, state.ever),
        "natures": _natures(series, len(state.minutes)),
        "causes": list(_causes(series, state.ever)),
        "stories": [_story(story.as_dict()) for story in latest],
    }


def _series(minutes: Sequence[Mapping[Kind, int]]) -> dict[str, list[int]]:
    """Endings by the minute of every cause."""
    series: dict[str, list[int]] = {cause: [0] * len(minutes) for cause in CAUSES}
    for place, minute in enumerate(minutes):
        for (_, cause, _), count in minute.items():
            series[cause][place] += count
    return series


def _up(seconds: float) -> str:
    return f"{int(seconds)} s" if seconds < 60 else duration(seconds // 60 * 60)


def _status(state: State, reasons: Sequence[str]) -> str:
    if state.draining:
        return "Draining: no new clients, sessions are being ended"
    return f"Not ready: {', '.join(reasons)}" if reasons else "Ready"


def _sum(counts: Mapping[Kind, int], code: str = "", cause: str = "", initiator: str = "") -> int:
    return sum(
        count
        for (a_code, a_cause, an_initiator), count in counts.items()
        if (not code or code == a_code)
        and (not cause or cause == a_cause)
        and (not initiator or initiator == an_initiator)
    )


def _versus(code: str, cause: Cause, minutes: Sequence[int], ever: Mapping[Kind, int]) -> dict[str, Any]:
    """One of the two big numbers: endings of this cause, whatever their code.

    Under graphql-ws an internal error is 4500; and a Close 1011 of a keepalive is none.
    """
    others = Counter[str]()
    for (a_code, a_cause, _), count in ever.items():
        if a_code == code and a_cause != cause:
            others[a_cause] += count
    by = [f"{_sum(ever, cause=cause, initiator=peer):,} by the {peer}" for peer in (Peer.CLIENT, Peer.SERVER)]
    more = ", ".join(f"{count:,} {name}" for name, count in others.most_common())
    return {
        "key": cause,
        "hour": f"{sum(minutes):,}",
        "ever": f"{_sum(ever, cause=cause):,}",
        "any": any(minutes),
        "by": ", ".join(by),
        "more": f"Not among these, with the same code: {more}." if more else "",
        "minutes": minutes,
    }


def _dropped(hour: Mapping[Kind, int], ever: Mapping[Kind, int]) -> dict[str, dict[str, Any]]:
    """Endings without a Close frame: many frameworks answer an exception with just that."""
    found = {}
    for peer in (Peer.SERVER, Peer.CLIENT):
        lately, all_in_all = (_sum(counts, code=ABNORMAL, initiator=peer) for counts in (hour, ever))
        found[str(peer)] = {"hour": f"{lately:,}", "ever": f"{all_in_all:,}", "any": lately > 0}
    return found


def _natures(series: Mapping[str, Sequence[int]], minutes: int) -> dict[str, list[int]]:
    """A series a nature, for the chart."""
    found: dict[str, list[int]] = {}
    none = [0] * minutes
    seen = [(meaning_of(cause).nature, row) for cause in CAUSES if any(row := series[cause])]
    for nature in (Nature.FAULT, Nature.WEATHER, Nature.ORDINARY):
        rows = [row for of, row in seen if of is nature]
        found[nature] = [sum(minute) for minute in zip(none, *rows, strict=True)]
    return found


def _causes(series: Mapping[str, Sequence[int]], ever: Mapping[Kind, int]) -> Iterator[dict[str, Any]]:
    """The rows of the table: the causes that were seen."""
    seen: dict[str, dict[Kind, int]] = {}
    for kind, count in ever.items():
        seen.setdefault(kind[1], {})[kind] = count
    for cause in CAUSES:
        if cause in seen and (total := sum(seen[cause].values())):
            yield _cause(cause, series[cause], seen[cause], total)


def _cause(cause: Cause, minutes: Sequence[int], ever: Mapping[Kind, int], total: int) -> dict[str, Any]:
    """One of them, from the endings of this cause alone."""
    return {
        "key": cause,
        "nature": meaning_of(cause).nature,
        "codes": [chip(code) for code in sorted({code for code, _, _ in ever})],
        "by": ", ".join(f"{peer} {count:,}" for peer in Peer if (count := _sum(ever, initiator=peer))),
        "hour": f"{sum(minutes):,}",
        "ever": f"{total:,}",
        "minutes": minutes,
    }


def chip(code: str) -> dict[str, str]:
    """A code as pages show it, with where it is explained."""
    return {"key": str(code), "href": f"#{entry(code)}", "says": f"{entry(code)}-meaning"}


def _story(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": fields["session_id"],
        "code": [chip(fields["code"])],
        "cause": fields["cause"],
        "link": f"/closes/{fields['session_id']}",
        "nature": meaning_of(fields["cause"]).nature,
        "by": f"by the {whom(fields['initiator'])}",
        "path": fields["path"],
        "ended_at": round(float(fields["ended_at"]), 3),
        "when": when(fields["ended_at"]),
        "headline": headline(fields) + ".",
        "more": " ".join(circumstances(fields)),
    }
