"""A session's record: the evidence that the wire showed."""

from __future__ import annotations

import pytest

from exporter.protocol.direction import new_frame_counts
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.flight_recorder import unpack as unpack_frames
from exporter.protocol.record import CloseFrame, SessionRecord
from exporter.protocol.record_format import pack, unpack
from exporter.protocol.session import PingAnswered, Session, State, WentUnobserved
from tests.wire import BINARY, KEY, PING, PONG, TEXT, close, frame

CLIENT, SERVER = Peer.CLIENT, Peer.SERVER
HTTP = b"HTTP/1.1 500 Internal Server Error\r\n\r\n"


def session(sample: int = 0, engine_io: bool = False) -> Session:
    """A session that began at 100 s."""
    record = SessionRecord(opened_at=100.0, engine_io=engine_io)
    return Session(new_frame_counts(), new_frame_counts(), record, sample)


def test_record_of_a_fresh_session_shows_nothing() -> None:
    """Before the first frame there are no times, sizes and opcodes, and the caller's time is that of the close."""
    record = session().finish(105.0)
    assert (record.opened_at, record.closed_at) == (100.0, 105.0)
    for peer in (record.client, record.server):
        assert (peer.frames, peer.last_frame_at, peer.last_message_at, peer.last_opcode) == (0, None, None, -1)
        assert (peer.close, peer.ping_at, peer.in_frame, peer.fragmented, peer.unobserved) == (None, None, *[False] * 3)
    assert (record.first_close, record.tcp_end, record.proxy_cause, record.http_text) == (None, None, None, False)
    assert record.frames == b""


def test_record_of_a_dropped_session_holds_what_came_before_the_end() -> None:
    """Times, sizes and the last frames of both peers, and whose TCP connection ended first."""
    s = session()
    s.feed(SERVER, frame(TEXT, b"hello"), 101.0)
    s.feed(CLIENT, frame(BINARY, bytes(300), mask=KEY), 102.0)
    s.feed(CLIENT, frame(TEXT, bytes(20), fin=False, mask=KEY)[:-5], 103.0)
    s.eof(SERVER, TcpEndKind.RESET, 103.5)
    s.eof(CLIENT, TcpEndKind.FIN, 104.0)
    record = s.finish(999.0)
    assert (record.closed_at, record.tcp_end, record.tcp_end_kind) == (103.5, SERVER, TcpEndKind.RESET)
    client, server = record.client, record.server
    assert (client.frames, client.payload) == (2, 315)
    assert (client.last_message_at, client.last_message_size, client.largest_before) == (103.0, 20, 300)
    assert (client.largest_message, client.last_opcode, client.in_frame, client.fragmented) == (300, TEXT, True, True)
    assert (server.last_frame_at, server.last_message_size, server.largest_message) == (101.0, 5, 5)
    assert [(f.sender, f.length, f.at) for f in unpack_frames(record.frames)] == [
        (SERVER, 5, 101.0),
        (CLIENT, 300, 102.0),
        (CLIENT, 20, 103.0),
    ]
    assert unpack(pack(record)) == record


@pytest.mark.parametrize("first", [CLIENT, SERVER])
def test_record_of_a_closing_handshake_has_both_close_frames(first: Peer) -> None:
    """The session is closed when the second Close frame has passed; later ends of TCP do not move that."""
    s = session()
    s.feed(first, close(1001, b"bye"), 101.0)
    assert (s.state, s.closed_at) == (State.CLOSING, None)
    s.feed(first.other, close(1000), 102.0)
    assert (s.state, s.closed_at) == (State.CLOSED, 102.0)
    s.eof(first, TcpEndKind.FIN, 103.0)
    record = s.finish(104.0)
    assert (record.first_close, record.closed_at) == (first, 102.0)
    assert record.peer(first).close == CloseFrame(1001, "bye", 101.0)
    assert record.peer(first.other).close == CloseFrame(1000, "", 102.0)
    assert unpack(pack(record)) == record


def test_record_of_an_end_by_the_proxy_has_its_cause_and_code() -> None:
    """The client's answering Close ends a session that the sidecar began to end."""
    s = session()
    s.end_by_proxy(Cause.DRAIN, 1001)
    assert s.state is State.CLOSING
    s.feed(CLIENT, close(1001, mask=KEY), 101.0)
    assert s.state is State.CLOSED
    record = s.finish(102.0)
    assert (record.proxy_cause, record.proxy_code, record.closed_at) == (Cause.DRAIN, 1001, 101.0)


def test_record_of_a_cut_by_the_proxy_has_no_code() -> None:
    """Without a Close frame of ours the session is open until TCP ends."""
    s = session()
    s.end_by_proxy(Cause.LIMIT, None)
    s.feed(CLIENT, close(1000, mask=KEY), 101.0)
    assert s.state is State.CLOSING
    s.eof(SERVER, TcpEndKind.FIN, 102.0)
    record = s.finish(103.0)
    assert (record.proxy_cause, record.proxy_code, record.closed_at) == (Cause.LIMIT, 0, 102.0)


def test_record_has_the_time_of_the_oldest_unanswered_ping() -> None:
    """An answered ping is none; a younger one does not hide an older one."""
    s = session()
    s.feed(SERVER, frame(PING, b"1"), 101.0)
    s.feed(CLIENT, frame(PONG, b"1", mask=KEY), 101.5)
    s.feed(SERVER, frame(PING, b"2"), 121.0)
    s.feed(SERVER, frame(PING, b"3"), 141.0)
    record = s.finish(150.0)
    assert (record.server.ping_at, record.client.ping_at) == (121.0, None)


def test_record_with_engine_io_counts_heartbeats_as_pings() -> None:
    """``2`` of the server waits for ``3`` of the client, and neither is a message."""
    s = session(engine_io=True)
    assert s.feed(SERVER, frame(TEXT, b"2"), 101.0) == []
    assert s.finish(102.0).server.ping_at == 101.0
    assert s.feed(CLIENT, frame(TEXT, b"3", mask=KEY), 101.25) == [PingAnswered(SERVER, 0.25)]
    record = s.finish(102.0)
    assert record.engine_io
    assert (record.server.ping_at, record.server.last_message_at, record.client.last_message_at) == (None, None, None)


def test_record_shows_http_text_of_the_server() -> None:
    """A server's HTTP answer inside the stream is evidence, and the session does not count as unobserved."""
    s = session()
    assert s.feed(SERVER, frame(TEXT, b"a") + HTTP, 101.0) == []
    assert not s.unobserved
    assert s.finish(102.0).http_text


def test_record_shows_no_http_text_after_a_close_frame() -> None:
    """Once the client has begun the closing handshake, its Close explains the end."""
    s = session()
    s.feed(CLIENT, close(1000, mask=KEY), 101.0)
    s.feed(SERVER, HTTP, 102.0)
    assert not s.finish(103.0).http_text


def test_http_text_of_a_client_is_a_malformed_frame() -> None:
    """A client that writes HTTP cannot be followed."""
    s = session()
    assert s.feed(CLIENT, HTTP, 101.0) == [WentUnobserved("HTTP text instead of a frame")]
    record = s.finish(102.0)
    assert (record.http_text, record.client.unobserved, record.server.unobserved) == (False, True, False)


def test_record_with_samples_fits_its_size() -> None:
    """A sample is cut to what a record carries."""
    s = session(sample=5000)
    s.feed(CLIENT, frame(TEXT, b"x" * 5000, mask=KEY), 101.0)
    record = s.finish(102.0)
    assert record.client.sample == b"x" * 640
    assert unpack(pack(record)) == record
