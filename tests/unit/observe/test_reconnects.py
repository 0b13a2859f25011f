"""Clients that come back, and how soon."""

from __future__ import annotations

from exporter.observe.reconnects import LONGEST, Reconnects
from exporter.protocol.enums import Cause

LOST = Cause.CONNECTION_LOST


def matched(*events: tuple[str, int, float], limit: int = 100) -> list[tuple[int, Cause, float]]:
    """Return the returns that a sequence of openings (on route 5) and closes brings."""
    found: list[tuple[int, Cause, float]] = []
    table = Reconnects(lambda *back: found.append(back), limit, limit)
    for kind, identity, at in events:
        if kind == "opened":
            table.opened(identity, 5, at)
        else:
            table.closed(identity, LOST, at)
    assert len(table) <= 2 * limit
    return found


def test_reconnects_of_the_same_client_are_measured_in_either_order() -> None:
    """The delay is the same whether the close or the handshake after it is known first."""
    assert matched(("closed", 1, 10.0), ("opened", 1, 12.5)) == [(5, LOST, 2.5)]
    assert matched(("opened", 1, 12.5), ("closed", 1, 10.0)) == [(5, LOST, 2.5)]


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
    events = [("closed", client, 1.0) for client in range(1, 12)]
    assert matched(*events, ("opened", 1, 2.0), limit=10) == []
    assert len(matched(*events, ("opened", 2, 2.0), limit=10)) == 1
    openings = [("opened", client, 1.0) for client in range(1, 50)]
    assert len(matched(*openings, ("closed", 49, 0.5), limit=10)) == 1
