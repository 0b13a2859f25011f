"""The single-process path: causes from a Close or an end of TCP, and the rows that start at zero."""

from __future__ import annotations

from exporter.protocol.classify import Close, classify_close, rows
from exporter.protocol.close_codes import Classification, CloseCodeMap
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from tests.unit.protocol.test_session import CODES, RANGES, ROWS, session
from tests.wire import body, close, frame


def test_an_empty_close_and_one_byte() -> None:
    """No body is 1005 no-status; a body of one byte is no code at all: invalid."""
    assert classify_close(Close(None), CloseCodeMap()) == Classification("1005", Cause.NO_STATUS)
    assert classify_close(Close(-1), CloseCodeMap()) == Classification("invalid", Cause.PROTOCOL_ERROR)


def test_every_ending_that_can_be_told_in_advance_starts_at_zero() -> None:
    """Each row of the table of endings, for each peer that can begin it, is among the rows; drain and limit for us."""
    told = set(rows(CloseCodeMap(CODES, RANGES)))
    for row in ROWS:
        if row.cause is Cause.PING_TIMEOUT and row.code not in ("1000", "1011"):
            continue  # a rare pairing, not known of any library
        for peer in (Peer.CLIENT, Peer.SERVER):
            assert (row.code, row.cause, peer) in told
    for cause in (Cause.DRAIN, Cause.LIMIT):
        assert {(code, cause, Peer.PROXY) for code in ("1001", "1006")} <= told
    for peer in (Peer.CLIENT, Peer.SERVER):
        for code, cause in (("1006", Cause.CONNECTION_LOST), ("1006", Cause.CONNECTION_RESET),
                            ("unknown", Cause.UNOBSERVED), ("1011", Cause.PING_TIMEOUT)):  # fmt: skip
            assert (code, cause, peer) in told


def test_what_cannot_happen_has_no_row() -> None:
    """App-down is never the client's doing, drain and limit never a peer's, and the proxy has no other causes."""
    told = rows(CloseCodeMap())
    assert len(told) == len(set(told))
    assert ("1006", Cause.APP_DOWN, Peer.SERVER) in told
    assert ("1006", Cause.APP_DOWN, Peer.CLIENT) not in told
    for _, cause, initiator in told:
        assert (cause in (Cause.DRAIN, Cause.LIMIT)) == (initiator is Peer.PROXY)


def test_endings_of_real_streams_are_among_the_rows() -> None:
    """What sessions come to, for every two-byte code and both peers, was at zero from the start."""
    told = set(rows(CloseCodeMap(CODES, RANGES)))
    for code in [*range(5100), 65535]:
        for sender in (Peer.CLIENT, Peer.SERVER):
            s = session()
            s.feed(sender, close(code), 0.0)
            ending = s.end()
            assert (ending.code, ending.cause, ending.initiator) in told
    for sender in (Peer.CLIENT, Peer.SERVER):
        for how in TcpEndKind:
            for stream in (b"", frame(9, fin=False), frame(8, body(1000))[:-1]):
                for alive in (True, False):
                    s = session()
                    s.feed(sender, stream, 0.0)
                    s.eof(sender, how)
                    ending = s.end(alive)
                    assert (ending.code, ending.cause, ending.initiator) in told
