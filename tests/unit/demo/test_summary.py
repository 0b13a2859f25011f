"""The texts made from /metrics and /closes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from exporter.demo.summary import (
    APP_RESTARTS,
    CLIENT_LEAVES,
    HANDLER_DROPS,
    HANDLER_RAISES,
    TOUR_STEP_TIMEOUT,
    Close,
    Counts,
    Links,
    Tour,
    progress,
    read_counts,
    summary,
)

PAGE = """\
# HELP websocket_connections_active WebSocket connections that are open now.
# TYPE websocket_connections_active gauge
websocket_connections_active{route="all"} 20.0
websocket_connections_active{route="other"} 8.0
# HELP websocket_connections_closed_total WebSocket connections that ended.
# TYPE websocket_connections_closed_total counter
websocket_connections_closed_total{route="all",code="1001",cause="going-away",initiator="server"} 29.0
websocket_connections_closed_total{route="other",code="1001",cause="going-away",initiator="server"} 1.0
websocket_connections_closed_total{route="all",code="1011",cause="internal-error",initiator="server"} 1.0
websocket_connections_closed_total{route="all",code="1000",cause="normal",initiator="client"} 0.0
# HELP websocket_handshakes_total Opening handshakes.
# TYPE websocket_handshakes_total counter
websocket_handshakes_total{route="all",status="101"} 60.0
websocket_handshakes_total{route="all",status="502"} 4.0
websocket_handshakes_total{route="all",status="aborted"} 1.0
"""

GOING_AWAY = Close("1001", "going-away", "server")
INTERNAL_ERROR = Close("1011", "internal-error", "server")
NORMAL = Close("1000", "normal", "client")


def test_read_counts_of_several_routes_adds_them() -> None:
    """Open sessions, closes and failed handshakes are summed over routes."""
    counts = read_counts(PAGE)
    assert counts.active == 28
    assert counts.closed == Counter({GOING_AWAY: 30, INTERNAL_ERROR: 1})
    assert counts.refused == Counter({"502": 4, "aborted": 1})
    assert counts.faults == 1


def test_read_counts_of_another_text_raises() -> None:
    """A text that is not in Prometheus' format raises ValueError."""
    with pytest.raises(ValueError):
        read_counts("<html>{")


def test_progress_shows_only_changes() -> None:
    """The line has the closes since the last one, most frequent first."""
    before = Counts(30, Counter({GOING_AWAY: 10, INTERNAL_ERROR: 2}), Counter({"502": 4}))
    now = Counts(28, Counter({GOING_AWAY: 39, INTERNAL_ERROR: 2, NORMAL: 2}), Counter({"502": 4}))
    assert progress(before, now) == "28 open; server closed 29 x 1001 going-away; client closed 2 x 1000 normal"
    assert progress(now, now) == "28 open"
    assert progress(Counts(), Counts(0, Counter(), Counter({"502": 7}))) == " 0 open; refused 7 x HTTP 502"


def test_summary_has_a_row_for_each_kind_of_close() -> None:
    """The summary lists the kinds of closes that happened, and its plurals are right."""
    assert summary(read_counts(PAGE)) == (
        "31 sessions closed, 28 still open; 1 server fault\n"
        "\n"
        "  code     cause               by       count\n"
        "  1001     going-away          server      30\n"
        "  1011     internal-error      server       1\n"
        "  -        HTTP 502            -            4\n"
        "  -        aborted             -            1\n"
    )
    assert summary(Counts(0, Counter({NORMAL: 1}))).startswith("1 session closed, 0 still open; 0 server faults\n")


LEAVES, RAISES, DROPS, RESTARTS = (kinds[0] for kinds in (CLIENT_LEAVES, HANDLER_RAISES, HANDLER_DROPS, APP_RESTARTS))


def counts(*closes: Close, active: int = 3) -> Counts:
    return Counts(active, Counter(closes), samples={close: f"sample of {close.cause}" for close in closes})


def titles(tour: Tour, counted: Counts, reports: dict[Close, str], now: float = 1.0) -> list[str]:
    """Return the titles of all steps that can be shown now."""
    found = []
    while (step := tour.next(counted, reports, now)) is not None:
        found.append(step.partition("\n")[0].partition(": ")[2])
    return found


def test_tour_shows_each_step_once_its_close_has_happened() -> None:
    """Steps come in the order in which their closes happen, with the report of that close; the last two at the end."""
    tour = Tour(Links("http://admin", "http://app", Path("/logs"), "exporter"))
    assert titles(tour, counts(active=0), {}) == []
    assert titles(tour, counts(), {}) == ["the page"]
    assert titles(tour, counts(RESTARTS), {}) == ["the app restarts"]
    assert titles(tour, counts(DROPS), {}) == []  # its report is not there yet
    step = tour.next(counts(DROPS, DROPS), {DROPS: "a-1"}, 1.0)
    assert step
    assert step.startswith("Step 3 of 7: a handler drops the connection\n\n2 sessions ended with no Close frame")
    assert "http://admin/closes/a-1" in step
    assert "exporter explain dropped-on-message" in step
    assert titles(tour, counts(LEAVES), {}) == ["a client leaves"]
    assert not tour.is_over
    reports = {RAISES: "a-2"}
    assert titles(tour, counts(RAISES), reports) == ["a handler raises", "more bugs", "your app"]
    assert tour.is_over


def test_tour_without_a_bug_continues_after_a_while() -> None:
    """If nothing fails, the step that switches the bug on comes after TOUR_STEP_TIMEOUT; the others follow."""
    tour = Tour(Links("http://admin", "http://app", Path("/logs"), "exporter"))
    assert titles(tour, counts(LEAVES, RESTARTS), {}) == ["the page", "a client leaves", "the app restarts"]
    later = TOUR_STEP_TIMEOUT + 2
    assert titles(tour, counts(), {}, later) == ["more bugs"]
    assert titles(tour, counts(RAISES), {RAISES: "a-2"}, later) == ["a handler raises"]
