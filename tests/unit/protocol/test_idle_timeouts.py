"""Idle times at which connections get cut."""

import pytest

from exporter.protocol.classify import TcpEnd, classify_tcp_end
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.frames import new_frame_counts
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS, IdleCutoffs
from exporter.protocol.session import Session


@pytest.mark.parametrize("seconds", KNOWN_CUTOFFS)
def test_a_drop_near_a_known_cutoff_is_an_idle_timeout(seconds):
    """Each cut-off is recognised within the tolerance, early or late, whoever ended TCP; beyond it is not."""
    for idle, cause in (
        (seconds, Cause.IDLE_TIMEOUT),
        (seconds - 1.4, Cause.IDLE_TIMEOUT),
        (seconds + 1.4, Cause.IDLE_TIMEOUT),
        (seconds - 2.0, Cause.CONNECTION_LOST),
        (seconds + 2.0, Cause.CONNECTION_LOST),
    ):
        for peer in (Peer.CLIENT, Peer.SERVER):
            assert classify_tcp_end(TcpEnd(peer, TcpEndKind.FIN, idle), app_alive=True) is cause


@pytest.mark.parametrize(
    ("cut", "alive", "cause"),
    [
        (TcpEnd(Peer.SERVER, TcpEndKind.FIN, 60.0), False, Cause.APP_DOWN),
        (TcpEnd(Peer.CLIENT, TcpEndKind.FIN, 60.0), False, Cause.IDLE_TIMEOUT),
        (TcpEnd(Peer.SERVER, TcpEndKind.FIN, 60.0, unanswered=10.0), True, Cause.PING_TIMEOUT),
        (TcpEnd(Peer.SERVER, TcpEndKind.RESET, 60.0), True, Cause.IDLE_TIMEOUT),
        (TcpEnd(Peer.SERVER, TcpEndKind.RESET, 59.0 / 2), True, Cause.IDLE_TIMEOUT),
        (TcpEnd(Peer.SERVER, TcpEndKind.RESET, 10.0, unanswered=0.5), True, Cause.CONNECTION_RESET),
        (TcpEnd(Peer.SERVER, TcpEndKind.RESET, None), True, Cause.CONNECTION_RESET),
    ],
)
def test_what_is_more_certain_goes_first(cut, alive, cause):
    """An app that is down, then an unanswered ping, then an idle time; a ping too young to tell says nothing."""
    assert classify_tcp_end(cut, alive) is cause


def test_the_operator_names_the_times():
    """Configured cut-offs and tolerance replace the known ones; the nearest of several is told."""
    mine = IdleCutoffs((45.0, 47.0), tolerance=2.0)
    assert mine.cutoff(46.4) == 47.0
    assert mine.cutoff(60.0) is None
    assert IdleCutoffs((), 5.0).cutoff(60.0) is None


def play(*steps, began=100.0):
    session = Session(CloseCodeMap(), new_frame_counts(), new_frame_counts(), now=began)
    for sender, data, now in steps:
        session.feed(sender, data, now)
    return session


def test_idle_is_measured_from_the_last_byte_either_way():
    """A byte of either peer restarts the clock; with none at all it runs from the session's beginning."""
    talked = play((Peer.CLIENT, b"\x81\x00", 110.0), (Peer.SERVER, b"\x81\x00", 120.0))
    talked.eof(Peer.CLIENT, TcpEndKind.FIN, 180.0)
    assert talked.idle_before_drop == 60.0
    assert talked.end().cause is Cause.IDLE_TIMEOUT
    silent = play()
    silent.eof(Peer.SERVER, TcpEndKind.FIN, 103.0)
    assert silent.idle_before_drop == 3.0
    assert silent.end().cause is Cause.CONNECTION_LOST


def test_an_ending_with_a_close_is_no_drop():
    """Idle before a drop is told for endings without a Close only; a Close after 60 idle seconds keeps its cause."""
    closed = play((Peer.SERVER, b"\x88\x02\x03\xe9", 160.0))
    closed.eof(Peer.SERVER, TcpEndKind.FIN, 160.0)
    assert closed.idle_before_drop is None
    assert closed.end().cause is Cause.GOING_AWAY


PING, PONG = b"\x89\x01a", b"\x8a\x01a"


@pytest.mark.parametrize(
    ("steps", "ended_by", "cause"),
    [
        ([(Peer.SERVER, PING, 110.0)], Peer.SERVER, Cause.PING_TIMEOUT),
        ([(Peer.SERVER, PING, 110.0), (Peer.CLIENT, PONG, 110.1)], Peer.SERVER, Cause.CONNECTION_LOST),
        ([(Peer.SERVER, PING, 110.0), (Peer.CLIENT, b"\x8a\x01b", 110.1)], Peer.SERVER, Cause.PING_TIMEOUT),
        ([(Peer.SERVER, PING, 110.0)], Peer.CLIENT, Cause.CONNECTION_LOST),
        ([(Peer.CLIENT, PING, 110.0)], Peer.CLIENT, Cause.PING_TIMEOUT),
        ([(Peer.SERVER, PING, 119.5)], Peer.SERVER, Cause.CONNECTION_LOST),
    ],
    ids=["unanswered", "answered", "wrong pong", "the other ended", "client pings", "too young"],
)
def test_an_unanswered_ping_of_whoever_ended_tcp_is_a_ping_timeout(steps, ended_by, cause):
    """Measured from pings and pongs that passed, not guessed from a text."""
    session = play(*steps)
    session.eof(ended_by, TcpEndKind.FIN, 120.0)
    assert session.end().cause is cause
