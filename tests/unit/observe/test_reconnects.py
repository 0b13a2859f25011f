"""Clients that come back, and how soon."""

from __future__ import annotations

from exporter.observe.reconnects import LONGEST, MAX_CLOSES, MAX_OPENINGS, Reconnects
from exporter.protocol.enums import Cause
from exporter.protocol.messages import Opened
from exporter.protocol.record import SessionRecord
from tests.unit.observe.harness import ending

LOST = ending("1006", Cause.CONNECTION_LOST)


def matched(*events: tuple[str, int, float]) -> list[tuple[int, Cause, float]]:
    """Return the returns that a sequence of openings (on route 5) and closes brings."""
    found: list[tuple[int, Cause, float]] = []
    table = Reconnects(lambda *back: found.append(back))
    for kind, identity, at in events:
        if kind == "opened":
            table.opened_batch([Opened(at, 5, identity)])
        else:
            table.session_closed(SessionRecord(identity=identity, closed_at=at), LOST)
    return found


def test_reconnects_of_the_same_client_are_measured_in_either_order() -> None:
    """The delay is the same whether the close or the handshake after it is known first."""
    assert matched(("closed", 1, 10.0), ("opened", 1, 12.5)) == [(5, LOST.cause, 2.5)]
    assert matched(("opened", 1, 12.5), ("closed", 1, 10.0)) == [(5, LOST.cause, 2.5)]


def test_reconnects_of_others_are_not_matched() -> None:
    """Another client, no identity, or a session's own opening is no return."""
    assert matched(("closed", 1, 10.0), ("opened", 2, 12.5)) == []
    assert matched(("closed", 0, 10.0), ("opened", 0, 12.5)) == []
    assert matched(("opened", 1, 5.0), ("closed", 1, 10.0)) == []


def test_reconnects_count_each_close_once() -> None:
    """A second handshake after the same close is no second return."""
    assert len(matched(("closed", 1, 10.0), ("opened", 1, 12.0), ("opened", 1, 13.0))) == 1


def test_reconnects_after_the_longest_delay_are_new_visits() -> None:
    """Who comes back after an hour comes for something else."""
    assert len(matched(("closed", 1, 0.0), ("opened", 1, LONGEST))) == 1
    assert matched(("closed", 1, 0.0), ("opened", 1, LONGEST + 1)) == []


def test_reconnects_tables_are_bounded() -> None:
    """A full table drops its oldest entry."""
    events = [("closed", client, 1.0) for client in range(1, MAX_CLOSES + 2)]
    assert matched(*events, ("opened", 1, 2.0)) == []
    assert len(matched(*events, ("opened", 2, 2.0))) == 1
    openings = [("opened", client, 1.0) for client in range(1, MAX_OPENINGS + 2)]
    assert matched(*openings, ("closed", 1, 0.5)) == []
    assert len(matched(*openings, ("closed", 2, 0.5))) == 1
