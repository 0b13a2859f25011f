"""The state that the landing page shows, as plain data: the page's first state and every event after it.

Python renders it once, so that the page stands without a script; the page's script then fills the same places from the
same names. A program can read it from ``/events`` as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.parse import urlencode

from exporter.admin.pages import wording
from exporter.observe.recent_closes import Kind, RecentCloses
from exporter.protocol.causes import CAUSES
from exporter.protocol.enums import Cause

#: Groups of equal closes that the landing page shows; the reports behind them are a link away.
MAX_GROUPS = 8
#: Minutes that the charts of a process show, the first that holds its age.
SPANS = (5, 15, 60)


@dataclass(frozen=True, slots=True)
class State:
    """How the sidecar is.

    :ivar uptime: seconds.
    :ivar ever: closes since the start.
    :ivar minutes: closes of the last hour, a bucket a minute, oldest first.
    :ivar refused: handshakes since the start that did not become sessions.
    :ivar stalled: peers that do not read their data now.
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


def snapshot(state: State, reasons: Sequence[str], reports: RecentCloses | None) -> dict[str, Any]:
    """Return everything that the page shows, ready for JSON.

    :param reasons: why the sidecar is not ready; empty if it is.
    :param reports: the reports that are kept; None shows none.
    """
    span = next((span for span in SPANS if state.uptime < 60 * span), SPANS[-1])
    minutes = list(state.minutes)[-span:]
    hour: Counter[Kind] = sum(map(Counter, state.minutes), Counter())
    tones = {name: [_of_tone(name, minute).total() for minute in minutes] for name in wording.TONES}
    faults, away = (
        _card(_of_tone(name, hour), _of_tone(name, state.ever), tones[name], none)
        for name, none in (("fault", "no faults"), ("expected", "0"))
    )
    return {
        "now": round(time(), 3),
        "status": _status(state, reasons),
        "standing": "draining" if state.draining else "unready" if reasons else "ready",
        "up": f"{int(state.uptime)} s" if state.uptime < 60 else wording.duration(state.uptime // 60 * 60),
        "span": span,
        "period": f"last {span} minutes" if span < SPANS[-1] else "last hour",
        "active": f"{state.active:,}",
        "hour": f"{hour.total():,}",
        "ever": f"{sum(state.ever.values()):,}",
        "refused": f"{state.refused:,}",
        "stalled": f"{state.stalled:,}",
        "is_stalled": state.stalled > 0,
        "abnormal": reports.total if reports is not None else 0,
        "faults": faults,
        "away": away,
        "tones": tones,
        "causes": list(_causes(minutes, hour, state.ever)),
        "groups": list(_groups(reports)) if reports is not None else [],
    }


def _status(state: State, reasons: Sequence[str]) -> str:
    if state.draining:
        return "Draining: sessions are being closed, new clients are refused"
    return f"Not ready: {', '.join(reasons)}" if reasons else "Ready"


def _of_tone(name: str, counts: Mapping[Kind, int]) -> Counter[Kind]:
    return Counter({kind: count for kind, count in counts.items() if wording.tone(*kind[1:]) == name})


def _card(closes: Counter[Kind], ever: Counter[Kind], minutes: Sequence[int], none: str) -> dict[str, Any]:
    """Return one of the two cards: its closes of the last hour, and their causes, the most frequent first."""
    causes: Counter[str] = Counter()
    for (_, cause, _), count in closes.items():
        causes[cause] += count
    return {
        "hour": f"{closes.total():,}" if closes.total() else none,
        "ever": f"{ever.total():,}",
        "any": closes.total() > 0,
        "parts": [{"key": cause, "hour": f"{count:,}"} for cause, count in causes.most_common()],
        "minutes": minutes,
    }


def _causes(
    minutes: Sequence[Mapping[Kind, int]], hour: Mapping[Kind, int], ever: Mapping[Kind, int]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table: causes by initiator that were seen, faults of the server first."""
    kinds: dict[tuple[str, str], list[Kind]] = {}
    for kind in filter(ever.get, ever):
        kinds.setdefault(kind[1:], []).append(kind)
    tones, causes = list(wording.TONES), list(CAUSES)
    ranked = sorted(kinds, key=lambda by: (tones.index(wording.tone(*by)), causes.index(Cause(by[0])), by[1]))
    for cause, initiator in ranked:
        own = kinds[cause, initiator]
        yield {
            "key": f"{cause}-{initiator}",
            "cause": cause,
            "by": f"by {wording.peer_name(initiator)}",
            "tone": wording.tone(cause, initiator),
            "codes": [wording.chip(code) for code in sorted({code for code, _, _ in own})],
            "hour": f"{_sum(hour, own):,}",
            "ever": f"{_sum(ever, own):,}",
            "minutes": [_sum(minute, own) for minute in minutes],
        }


def _sum(counts: Mapping[Kind, int], kinds: Iterable[Kind]) -> int:
    return sum(counts.get(kind, 0) for kind in kinds)


def _groups(reports: RecentCloses) -> Iterator[dict[str, Any]]:
    """Yield groups of equal closes, the one with the newest close first."""
    groups: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for _, report in reports.walk():
        fields = report.fields
        key = (wording.code_of(fields), str(fields["cause"]), str(fields["initiator"]), str(fields["route"]))
        if key in groups or len(groups) < MAX_GROUPS:
            groups.setdefault(key, []).append(fields)
    for group, members in groups.items():
        yield _group("-".join(group), members)


def _group(key: str, members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    newest = members[0]
    paths = {fields["path"] for fields in members}
    seen = wording.evidence(newest)
    filters = {name: str(newest[name]) for name in ("code", "cause", "route")}
    return {
        "key": key,
        "code": [wording.chip(wording.code_of(newest))],
        "title": wording.title(newest),
        "tone": wording.tone_of(newest),
        "path": newest["path"] if len(paths) == 1 else f"{len(paths)} paths",
        "times": f"{len(members):,} times, last" if len(members) > 1 else "",
        "all": f"/closes?{urlencode(filters)}",
        "link": f"/closes/{newest['session_id']}",
        "ended_at": round(float(newest["ended_at"]), 3),
        "when": wording.when(newest["ended_at"]),
        "conclusion": wording.conclusion(newest),
        "evidence": f"Evidence: {'; '.join(seen)}." if seen else "",
    }
