"""Ping round trips, overheard."""

import pytest

from exporter.protocol.direction import new_frame_counts
from exporter.protocol.enums import Peer
from exporter.protocol.session import MAX_PINGS, PingAnswered, Session


def ping(payload: bytes) -> bytes:
    return bytes((0x89, len(payload))) + payload


def pong(payload: bytes) -> bytes:
    return bytes((0x8A, 0x80 | len(payload))) + b"\0\0\0\0" + payload


def play(*steps):
    session = Session(new_frame_counts(), new_frame_counts())
    return [fact for sender, data, now in steps for fact in session.feed(sender, data, now)]


@pytest.mark.parametrize("pinger", [Peer.CLIENT, Peer.SERVER])
def test_a_pong_with_the_pings_payload_answers_it(pinger):
    """The time between the two, as they pass, is told once, for the peer that sent the ping."""
    facts = play((pinger, ping(b"1"), 10.0), (pinger.other, pong(b"1"), 10.25), (pinger.other, pong(b"1"), 11.0))
    assert facts == [PingAnswered(pinger, 0.25)]


def test_unsolicited_pongs_answer_nothing():
    """A pong nobody asked for (RFC 6455, section 5.5.3 allows it) or with another payload is no round trip."""
    assert play((Peer.CLIENT, pong(b"x"), 1.0), (Peer.SERVER, ping(b"a"), 2.0), (Peer.CLIENT, pong(b"b"), 3.0)) == []


def test_a_pong_answers_the_pings_before_it_as_well():
    """A peer may answer only the latest ping; the ones before it are then not waited for any more."""
    facts = play(
        (Peer.SERVER, ping(b"1"), 1.0),
        (Peer.SERVER, ping(b"2"), 2.0),
        (Peer.CLIENT, pong(b"2"), 2.5),
        (Peer.CLIENT, pong(b"1"), 3.0),
    )
    assert facts == [PingAnswered(Peer.SERVER, 0.5)]


def test_flood_of_pings_keeps_the_oldest_and_the_newest():
    """Memory stays bounded: the oldest unanswered ping shows since when one waits, the newest can be answered."""
    session = Session(new_frame_counts(), new_frame_counts())
    for number in range(1000):
        session.feed(Peer.CLIENT, ping(b"%d" % number), float(number))
        session.feed(Peer.SERVER, ping(b"%d" % number), float(number))
    assert len(session._pings) == 2 * MAX_PINGS
    assert session.finish(1000.0).client.ping_at == 0.0
    assert session.feed(Peer.SERVER, pong(b"5"), 1000.0) == []
    assert session.feed(Peer.SERVER, pong(b"999"), 1000.0) == [PingAnswered(Peer.CLIENT, 1.0)]
    assert session.finish(1000.0).client.ping_at is None
    assert session.finish(1000.0).server.ping_at == 0.0
