"""The session: every row of the table of endings, by either peer, masked or not, in every segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.classify import classify
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.direction import new_frame_counts
from exporter.protocol.enums import PEERS, Cause, Peer, TcpEndKind
from exporter.protocol.evidence import Circumstances
from exporter.protocol.labels import known_label_sets
from exporter.protocol.record import CloseFrame
from exporter.protocol.session import CloseReceived, Session, WentUnobserved
from tests.wire import BINARY, CLOSE, KEY, PING, PONG, TEXT, body, close, cut_at, cuts, frame, pieces, streams

CLIENT, SERVER, PROXY = Peer.CLIENT, Peer.SERVER, Peer.PROXY
MASKS = {"masked": KEY, "unmasked": b""}

#: What the operator configured in these tests.
CODES = {4401: Cause.UNAUTHORIZED, 3900: Cause.APPLICATION}
RANGES = [(range(4200, 4300), Cause.SERVICE_RESTART)]


BOOK = CloseCodeMap(CODES, RANGES)

#: When TCP ends in these tests: too late for the last message, too early for a ping, to be the occasion.
LATER = 0.5

Ended = tuple[str, Cause, Peer, bool, str, bool]


def session() -> Session:
    return Session(new_frame_counts(), new_frame_counts())


def end(s: Session, app_accepts: bool = True) -> Ended:
    """How a session's record is classified."""
    found = classify(s.finish(LATER), Circumstances(app_accepts=app_accepts), BOOK)
    return found.code, found.cause, found.initiator, found.clean, found.reason, found.close_unanswered


@dataclass(frozen=True)
class Row:
    """A Close frame's body, and the label and cause that it must get."""

    name: str
    body: bytes
    code: str
    cause: Cause
    reason: str = ""


def row(code: int, label: str, cause: Cause, reason: str = "") -> Row:
    return Row(f"{code} {reason}".strip(), body(code, reason.encode()), label, cause, reason)


ROWS = [
    row(1000, "1000", Cause.NORMAL),
    row(1001, "1001", Cause.GOING_AWAY),
    row(1001, "1001", Cause.GOING_AWAY, "server shutting down"),
    *(row(code, str(code), Cause.PROTOCOL_ERROR) for code in (1002, 1003, 1007, 1010)),
    Row("one byte", b"\x03", "invalid", Cause.PROTOCOL_ERROR),
    *(
        row(code, "invalid", Cause.PROTOCOL_ERROR)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 9999, 65535)
    ),
    Row("empty", b"", "1005", Cause.NO_STATUS),
    row(1008, "1008", Cause.POLICY_VIOLATION, "no such room"),
    row(1009, "1009", Cause.MESSAGE_TOO_BIG),
    row(1011, "1011", Cause.INTERNAL_ERROR),
    row(1011, "1011", Cause.PING_TIMEOUT, "keepalive ping timeout"),
    row(1000, "1000", Cause.PING_TIMEOUT, "ping timed out"),
    row(1001, "1001", Cause.PING_TIMEOUT, "Ping Timeout"),
    row(1002, "1002", Cause.PING_TIMEOUT, "WebSocket ping timeout (peer did not respond with pong in time)"),
    row(4000, "4xxx", Cause.PING_TIMEOUT, "no pong"),
    row(1006, "invalid", Cause.PROTOCOL_ERROR, "keepalive ping timeout"),
    row(1012, "1012", Cause.SERVICE_RESTART),
    row(1013, "1013", Cause.TRY_AGAIN_LATER),
    row(1014, "1014", Cause.BAD_GATEWAY),
    row(3000, "3000", Cause.UNAUTHORIZED),
    row(3003, "3003", Cause.FORBIDDEN),
    row(3008, "3008", Cause.TIMEOUT),
    *(row(code, "3xxx", Cause.APPLICATION) for code in (3001, 3500, 3999)),
    *(row(code, "4xxx", Cause.APPLICATION) for code in (4000, 4199, 4300, 4999)),
    row(4401, "4401", Cause.UNAUTHORIZED),
    row(3900, "3900", Cause.APPLICATION),
    row(4250, "4xxx", Cause.SERVICE_RESTART),
    row(1011, "1011", Cause.INTERNAL_ERROR, "x" * 123),
    Row("1011 and a reason that is not UTF-8", body(1011, b"a\xff\xfeb"), "1011", Cause.INTERNAL_ERROR, "a\\xff\\xfeb"),
    row(1008, "1008", Cause.POLICY_VIOLATION, "Zugriff verweigert: übermäßig"),
]

BEFORE = {mask: frame(TEXT, b"hello", mask=key) + frame(PING, b"p", mask=key) for mask, key in MASKS.items()}
AFTER = frame(TEXT, b"late") + close(1011, b"second") + frame(PING, fin=False)


@pytest.mark.parametrize("masked", MASKS)
@pytest.mark.parametrize("sender", PEERS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_close_frame_decides_the_ending(row: Row, sender: Peer, masked: str, way: str) -> None:
    """The first Close frame gives code, cause, initiator and reason; whatever its sender sends after it does not."""
    s = session()
    key = MASKS[masked]
    facts = []
    for piece in pieces(way, frame(CLOSE, row.body, mask=key), BEFORE[masked], AFTER):
        facts += s.feed(sender, piece, 0.0)
    code = None if not row.body else -1 if len(row.body) == 1 else int.from_bytes(row.body[:2], "big")
    assert facts == [CloseReceived(sender, CloseFrame(code, row.reason, 0.0))]
    assert s.is_closing
    assert s.has_closed(sender)
    assert not s.has_closed(sender.other)

    s.eof(sender, TcpEndKind.FIN, LATER)
    assert end(s) == (row.code, row.cause, sender, False, row.reason, True)


@pytest.mark.parametrize("how", TcpEndKind)
@pytest.mark.parametrize("sender", PEERS)
def test_an_answered_close_is_clean(sender: Peer, how: TcpEndKind, way: str) -> None:
    """When both peers sent a Close frame, the first one's code stands, and the ending is clean however TCP ended."""
    s = session()
    facts = []
    for piece in pieces(way, close(1001, b"bye", KEY), BEFORE["masked"], AFTER):
        facts += s.feed(sender, piece, 0.0)
    for piece in pieces(way, close(1011, b"not this one"), BEFORE["unmasked"], AFTER):
        facts += s.feed(sender.other, piece, 0.0)
    assert [fact.sender for fact in facts if isinstance(fact, CloseReceived)] == [sender, sender.other]
    s.eof(sender.other, how, LATER)
    assert end(s) == ("1001", Cause.GOING_AWAY, sender, True, "bye", False)


@pytest.mark.parametrize(
    ("initiator", "how", "app_alive", "cause"),
    [
        (CLIENT, TcpEndKind.FIN, True, Cause.CONNECTION_LOST),
        (CLIENT, TcpEndKind.FIN, False, Cause.CONNECTION_LOST),
        (CLIENT, TcpEndKind.RESET, True, Cause.CONNECTION_RESET),
        (CLIENT, TcpEndKind.RESET, False, Cause.CONNECTION_RESET),
        (SERVER, TcpEndKind.FIN, True, Cause.CONNECTION_LOST),
        (SERVER, TcpEndKind.RESET, True, Cause.CONNECTION_RESET),
        (SERVER, TcpEndKind.FIN, False, Cause.APP_DOWN),
        (SERVER, TcpEndKind.RESET, False, Cause.APP_DOWN),
    ],
)
def test_tcp_without_a_close_is_1006(initiator: Peer, how: TcpEndKind, app_alive: bool, cause: Cause, way: str) -> None:
    """The peer whose TCP ended first is the initiator; what the other's TCP does afterwards changes nothing."""
    s = session()
    for sender in PEERS:
        for piece in pieces(way, frame(BINARY, b"data"), BEFORE["unmasked"], BEFORE["masked"]):
            assert s.feed(sender, piece, 0.0) == []
    assert not s.is_closing
    s.eof(initiator, how, LATER)
    s.eof(initiator.other, TcpEndKind.RESET if how is TcpEndKind.FIN else TcpEndKind.FIN, LATER)
    assert s.is_closing
    assert end(s, app_alive) == ("1006", cause, initiator, False, "", False)


WHOLE_CLOSE = close(1011, b"boom", KEY)


@pytest.mark.parametrize("size", range(1, len(WHOLE_CLOSE)))
@pytest.mark.parametrize("sender", PEERS)
def test_a_close_cut_short_is_no_close(sender: Peer, size: int, way: str) -> None:
    """A Close frame of which even one byte is missing when TCP ends is none: 1006."""
    s = session()
    for piece in pieces(way, WHOLE_CLOSE[:size], BEFORE["masked"]):
        assert s.feed(sender, piece, 0.0) == []
    s.eof(sender, TcpEndKind.FIN, LATER)
    assert end(s) == ("1006", Cause.CONNECTION_LOST, sender, False, "", False)


def test_a_late_close_after_the_others_fin_still_decides() -> None:
    """A client that half-closes and then gets the server's Close has a session that the server's Close explains."""
    s = session()
    s.eof(CLIENT, TcpEndKind.FIN, LATER)
    s.feed(SERVER, close(1011), 0.0)
    s.eof(SERVER, TcpEndKind.FIN, LATER)
    assert end(s) == ("1011", Cause.INTERNAL_ERROR, SERVER, False, "", True)


LOSING = {
    "ping without FIN": frame(PING, b"a", fin=False),
    "close without FIN": frame(CLOSE, body(1000), fin=False),
    "pong of 126 bytes": frame(PONG, bytes(126)),
    "length with its top bit set": frame(BINARY, form=64, length=2**63),
}


@pytest.mark.parametrize("how", TcpEndKind)
@pytest.mark.parametrize("sender", PEERS)
@pytest.mark.parametrize("name", LOSING)
def test_an_unobserved_session_ends_unknown(name: str, sender: Peer, how: TcpEndKind, way: str) -> None:
    """What cannot be followed is told once; when TCP then ends nobody guesses: code unknown, cause unobserved."""
    s = session()
    facts = []
    for piece in pieces(way, LOSING[name], BEFORE["masked"], AFTER):
        facts += s.feed(sender, piece, 0.0)
    assert [type(fact) for fact in facts] == [WentUnobserved]
    assert s.unobserved
    assert s.feed(sender, close(1000), 0.0) == []
    assert s.feed(sender.other, LOSING[name], 0.0) == [], "told once a session, not once a direction"
    s.eof(sender, how, LATER)
    assert end(s, app_accepts=False) == ("unknown", Cause.UNOBSERVED, sender, False, "", False)


@pytest.mark.parametrize("sender", PEERS)
def test_a_close_from_the_understood_side_decides_an_unobserved_session(sender: Peer, way: str) -> None:
    """One direction is lost; the other's Close 1002 that answers it is seen, decides, and is not called unanswered."""
    s = session()
    s.feed(sender, LOSING["ping without FIN"], 0.0)
    for piece in pieces(way, close(1002, b"bad frame"), BEFORE["unmasked"], AFTER):
        s.feed(sender.other, piece, 0.0)
    s.eof(sender.other, TcpEndKind.FIN, LATER)
    assert end(s) == ("1002", Cause.PROTOCOL_ERROR, sender.other, False, "bad frame", False)


@pytest.mark.parametrize("cause", [Cause.DRAIN, Cause.LIMIT])
@pytest.mark.parametrize(("code", "label"), [(1001, "1001"), (1012, "1012"), (None, "1006")])
def test_an_end_of_ours_is_ours(cause: Cause, code: int | None, label: str) -> None:
    """What we end is counted as we sent it, by the proxy; Closes and TCP ends that follow from it change nothing."""
    s = session()
    s.end_by_proxy(cause, code)
    assert s.ended_by_proxy
    assert s.is_closing
    s.feed(SERVER, close(1011), 0.0)
    s.eof(SERVER, TcpEndKind.RESET, LATER)
    assert end(s, app_accepts=False)[:4] == (label, cause, PROXY, False)


def test_our_close_is_clean_when_the_client_answered_it() -> None:
    """Our Close and the client's answer make a clean ending; the answer's own code does not count."""
    s = session()
    s.end_by_proxy(Cause.DRAIN, 1001)
    s.feed(CLIENT, close(1000, mask=KEY), 0.0)
    assert end(s) == ("1001", Cause.DRAIN, PROXY, True, "", False)


@pytest.mark.parametrize(("code", "unanswered"), [(1001, True), (None, False)])
def test_our_close_that_nobody_answered_is_incomplete(code: int | None, unanswered: bool) -> None:
    """A Close of ours whose client never answered counts as an incomplete close handshake; no Close, no handshake."""
    s = session()
    s.end_by_proxy(Cause.DRAIN, code)
    assert end(s)[-1] is unanswered


def test_an_unobserved_client_is_not_blamed_for_no_answer() -> None:
    """Whether a client that is not understood answered our Close cannot be known, so it is not called unanswered."""
    s = session()
    s.feed(CLIENT, LOSING["ping without FIN"], 0.0)
    s.end_by_proxy(Cause.DRAIN, 1001)
    assert end(s)[-1] is False


@pytest.mark.parametrize("first", ["close", "fin", "own"])
def test_we_cannot_take_an_end_that_has_begun(first: str) -> None:
    """Once a peer has begun the end, or we have, a later end of ours has no effect."""
    s = session()
    if first == "close":
        s.feed(CLIENT, close(1000, mask=KEY), 0.0)
    elif first == "fin":
        s.eof(CLIENT, TcpEndKind.FIN, LATER)
    else:
        s.end_by_proxy(Cause.LIMIT, 1001)
    before = end(s)
    s.end_by_proxy(Cause.DRAIN, None)
    assert end(s) == before


def test_session_that_stopped_observing_reports_nothing_more() -> None:
    """After a defect of ours both directions rest: no fact, no count, no boundary."""
    s = session()
    s.stop_observing()
    for sender in PEERS:
        assert s.feed(sender, close(1000), 0.0) == []
        assert not s.scanner(sender).at_boundary
        assert s.scanner(sender).frames == 0
    assert not s.is_closing


def outcome(client: list[bytes], server: list[bytes]) -> tuple[object, ...]:
    """Everything a session tells of two streams that end in turn."""
    s = session()
    facts = [fact for piece in client for fact in s.feed(CLIENT, piece, 0.0)]
    facts += [fact for piece in server for fact in s.feed(SERVER, piece, 0.0)]
    s.eof(SERVER, TcpEndKind.FIN, LATER)
    s.flush_counts()
    counts = [(scanner.frames, scanner.payload, scanner.counts) for scanner in (s.client, s.server)]
    return facts, s.unobserved, s.is_closing, end(s), end(s, app_accepts=False), counts


@given(streams, streams, cuts, cuts)
def test_an_ending_does_not_depend_on_the_segmentation(a: bytes, b: bytes, ours: list[int], theirs: list[int]) -> None:
    """For any two streams in any segmentation a session tells the same facts and the same one ending."""
    assert outcome(cut_at(a, ours), cut_at(b, theirs)) == outcome([a], [b])


@given(st.binary(max_size=125), st.sampled_from(PEERS))
def test_any_close_body_makes_a_bounded_label(payload: bytes, sender: Peer) -> None:
    """Whatever a Close frame carries, its label is one of the known values and nothing is raised."""
    s = session()
    s.feed(sender, frame(CLOSE, payload), 0.0)
    code, cause, initiator, *_ = end(s)
    assert (code, cause, initiator) in known_label_sets(BOOK)
    assert initiator is sender
