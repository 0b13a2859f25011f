"""The short version, seconds of it; ``make load`` holds 9,000 sessions for ten minutes and plays 200,000 in a row."""

from __future__ import annotations

import pytest

from tests.load.memory import KINDS, measure
from tests.load.run import Result, run
from tests.load.scrapes import PROBES, RATE
from tests.load.scrapes import measure as measure_scrapes
from tests.load.soak import soak

#: MiB by which memory may grow for some hundred sessions: pools and arenas that are kept.
GROWTH = 8.0

#: KiB that one connection may cost. What a peer that does not read costs is bounded by the write buffer's high-water
#: mark and what is left of one read of 512 KiB in each direction, with what the allocator rounds up.
WORST = {"endless head": 160, "nobody reads": 1024}


def check(result: Result) -> None:
    """Every session has one ending, every byte arrived, everything was given back."""
    print(result)
    assert result.problems == []
    assert result.rss_end - result.rss_start < GROWTH


def test_sessions_that_are_held() -> None:
    """300 sessions with traffic: checksums at both ends agree, books balance, memory and descriptors come back."""
    result = run("hold", 300, 3, 0.5)
    check(result)
    assert result.most_active == 300
    assert result.rounds > 600
    assert result.endings == {"1000/normal/client": 300}


def test_short_sessions_in_a_row() -> None:
    """1,500 sessions, 50 at a time: as many endings as handshakes, no frame lost or counted twice."""
    result = run("short", 1500, 50)
    check(result)
    assert result.endings == {"1000/normal/client": 1500}


def test_what_a_client_may_choose_makes_no_series() -> None:
    """1,200 clients with 1,200 codes, paths, reasons and hosts: no series more than the few of rare causes."""
    result = run("odd", 1200, 50)
    check(result)
    assert result.sessions == 1200
    assert len(result.endings) > 5, "many kinds of ending, all of them foreseen"


def test_a_load_that_breaks_is_told() -> None:
    """The figures can be wrong: one ending too few, a descriptor too many, a new series and a lost frame all show."""
    result = Result("short", sessions=2, rounds=2, handshakes=2, endings={"1000/normal/client": 1}, frames=7)
    result.descriptors_end, result.series_end, result.broken = 1, 101, {"Broken: x": 1}
    assert len(result.problems) == 5


@pytest.mark.parametrize("kind", WORST)
def test_one_connection_costs_at_most(kind: str) -> None:
    """Whatever one client does, it costs less than this; ``make load`` measures more exactly."""
    measured = measure(16, {kind: KINDS[kind]})[kind]
    print(f"{kind}: {measured:.1f} KiB")
    assert measured < WORST[kind]


def test_scrapes_are_timed_and_set_against_their_absence() -> None:
    """Half of the intervals have scrapes, one a second, and every probe's every frame is in one half or the other."""
    result = measure_scrapes(40, 2, 0.5, span=2.0)
    print(result)
    assert result.broken == {}
    assert len(result.scrapes) == 4
    assert len(result.without) == len(result.with_scrapes) == PROBES * RATE * 4
    assert len(result.pairs) == 2


def test_soak_of_hostile_clients_leaves_the_innocent_and_the_books_whole() -> None:
    """Twenty seconds of all kinds of hostile clients break no innocent session, and leave no session, descriptor or
    memory behind."""
    result = soak(100, 3.0, 20.0, settling=5.0)
    print(result)
    assert result.problems == []
    assert result.rounds > 1000
    assert len(result.played) >= 20
