"""Idle times at which connections get cut."""

import pytest

from exporter.protocol.classify import classify
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.direction import new_frame_counts
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.evidence import Circumstances
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS, IdleCutoffs
from exporter.protocol.record import SessionRecord
from exporter.protocol.session import Session


def cause_of(*steps, ended_by, at, began=100.0):
    """The cause of a session of these frames whose TCP ended at a time."""
    session = Session(new_frame_counts(), new_frame_counts(), SessionRecord(opened_at=began))
    for sender, data, now in steps:
        session.feed(sender, data, now)
    session.eof(ended_by, TcpEndKind.FIN, at)
    return classify(session.finish(at), Circumstances(app_accepts=True), CloseCodeMap()).cause


@pytest.mark.parametrize("seconds", KNOWN_CUTOFFS)
def test_drop_near_a_known_cutoff_is_an_idle_timeout(seconds):
    """Each cut-off is recognised within the tolerance, early or late, whoever ended TCP; beyond it is not."""
    for idle, cause in (
        (seconds, Cause.IDLE_TIMEOUT),
        (seconds - 1.4, Cause.IDLE_TIMEOUT),
        (seconds + 1.4, Cause.IDLE_TIMEOUT),
        (seconds - 2.0, Cause.CONNECTION_LOST),
        (seconds + 2.0, Cause.CONNECTION_LOST),
    ):
        for peer in (Peer.CLIENT, Peer.SERVER):
            assert cause_of(ended_by=peer, at=100.0 + idle) is cause


def test_the_operator_names_the_times():
    """Configured cut-offs and tolerance replace the known ones; the nearest of several is told."""
    mine = IdleCutoffs((45.0, 47.0), tolerance=2.0)
    assert mine.cutoff(46.4) == 47.0
    assert mine.cutoff(60.0) is None
    assert IdleCutoffs((), 5.0).cutoff(60.0) is None


def test_idle_is_measured_from_the_last_byte_either_way():
    """A byte of either peer restarts the clock; with none at all it runs from the session's beginning."""
    talk = [(Peer.CLIENT, b"\x81\x00", 110.0), (Peer.SERVER, b"\x81\x00", 120.0)]
    assert cause_of(*talk, ended_by=Peer.CLIENT, at=180.0) is Cause.IDLE_TIMEOUT
    assert cause_of(*talk, ended_by=Peer.CLIENT, at=170.0) is Cause.CONNECTION_LOST
    assert cause_of(ended_by=Peer.SERVER, at=103.0) is Cause.CONNECTION_LOST


def test_close_after_a_cutoff_keeps_its_cause():
    """A Close after 60 idle seconds is no drop."""
    close = (Peer.SERVER, b"\x88\x02\x03\xe9", 160.0)
    assert cause_of(close, ended_by=Peer.SERVER, at=160.0) is Cause.GOING_AWAY


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
    assert cause_of(*steps, ended_by=ended_by, at=120.0) is cause
