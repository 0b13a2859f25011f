"""The evidence about its frames that a scanner keeps for the session's record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.direction import NEVER, new_frame_counts
from exporter.protocol.frame_header import HEARTBEAT, Control, Events, Unparseable
from exporter.protocol.frames import FrameScanner
from tests.wire import BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, TEXT, close, cut_at, cuts, frame, singly

Sent = tuple[int, bool, bytes]

SENT = st.lists(
    st.tuples(
        st.sampled_from([TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, 3, 11]),
        st.sampled_from([True, True, False]),
        st.one_of(st.binary(max_size=4), st.binary(min_size=120, max_size=130), st.binary(max_size=300)),
    ).map(lambda sent: (sent[0], True, sent[2][:125]) if sent[0] in (PING, PONG) else sent),
    max_size=40,
)


def play(segments: list[bytes], heartbeats: bool = False) -> tuple[FrameScanner, Events]:
    """A scanner that got ``segments`` in turn, and everything it reported."""
    scanner = FrameScanner(new_frame_counts(), heartbeats=heartbeats)
    events: Events = []
    for now, segment in enumerate(segments):
        events += scanner.feed(segment, float(now)) or []
        while scanner.backlog:
            events += scanner.resume(float(now)) or []
    return scanner, events


def expected(sent: list[Sent]) -> dict[str, object]:
    """The evidence of whole frames, from a list of them."""
    data = [len(payload) for opcode, _, payload in sent if opcode <= BINARY]
    messages = list(data)
    fragments = 0
    for opcode, fin, payload in sent:
        if opcode == CONTINUATION or (opcode <= BINARY and not fin):
            fragments = len(payload) + (0 if opcode else fragments)
            if fin:
                messages.append(fragments)
    return {
        "message_size": data[-1] if data else 0,
        "largest_before": max(data[:-1], default=0),
        "largest_message": max(messages, default=0),
        "last_opcode": sent[-1][0] if sent else -1,
    }


@given(SENT, cuts, st.booleans())
def test_scanner_in_any_segmentation_keeps_the_same_evidence(
    sent: list[Sent], where: list[int], heartbeats: bool
) -> None:
    """Sizes and opcodes depend on the frames alone, not on the segments in which they came."""
    stream = b"".join(
        frame(opcode, payload, fin=fin, mask=KEY if at % 2 else b"") for at, (opcode, fin, payload) in enumerate(sent)
    )
    if heartbeats and any(opcode == TEXT and payload in (b"2", b"3") for opcode, _, payload in sent):
        heartbeats = False
    for segments in ([stream], cut_at(stream, where), singly(stream)):
        scanner, _ = play(segments, heartbeats)
        assert {name: getattr(scanner, name) for name in expected(sent)} == expected(sent)


def test_scanner_with_an_incomplete_message_tells_its_size_from_the_largest_whole_one() -> None:
    """A frame of which only the beginning came has the announced size, and is no whole message."""
    scanner, _ = play([frame(BINARY, bytes(500)), frame(BINARY, b"", form=64, length=10**6)])
    assert scanner.in_frame
    assert (scanner.message_size, scanner.largest_before, scanner.largest_message) == (10**6, 500, 500)
    assert scanner.feed(bytes(10**6), 2.0) is None
    assert (scanner.message_size, scanner.largest_before, scanner.largest_message) == (10**6, 500, 10**6)


def test_scanner_keeps_when_the_last_data_frame_began() -> None:
    """Control frames, payload that follows and bytes after a Close do not move that time; they move the last bytes'."""
    scanner, _ = play([frame(PING)])
    assert (scanner.message_at, scanner.last) == (NEVER, 0.0)
    scanner.feed(frame(TEXT, bytes(20))[:9], 1.0)
    assert (scanner.message_at, scanner.last) == (1.0, 1.0)
    scanner.feed(bytes(13), 2.0)
    assert (scanner.message_at, scanner.last) == (1.0, 2.0)
    scanner.feed(frame(CONTINUATION, b"abcdefgh"), 3.0)
    assert (scanner.message_at, scanner.last) == (3.0, 3.0)
    scanner.feed(frame(0xB, b"reserved") + close(1000), 4.0)
    assert (scanner.message_at, scanner.last, scanner.last_opcode) == (3.0, 4.0, CLOSE)
    scanner.feed(frame(TEXT, b"late"), 5.0)
    assert (scanner.message_at, scanner.last) == (3.0, 4.0)


@pytest.mark.parametrize("mask", [b"", KEY], ids=["unmasked", "masked"])
@pytest.mark.parametrize("way", ["whole", "singly", "glued"])
def test_scanner_with_heartbeats_reports_them_as_pings_and_pongs(mask: bytes, way: str) -> None:
    """Engine.IO's ``2`` and ``3`` are counted as text and are no messages; other texts of one byte are."""
    beats = [frame(TEXT, b"2", mask=mask), frame(TEXT, b"3", mask=mask)]
    before = frame(TEXT, b"42[]", mask=mask)
    whole = b"".join(beats)
    segments = {"whole": [before, *beats], "singly": [before, *singly(whole)], "glued": [before + whole]}[way]
    scanner, events = play(segments, heartbeats=True)
    assert events == [Control(PING, HEARTBEAT), Control(PONG, HEARTBEAT)]
    assert scanner.message_at == 0.0
    assert scanner.message_size == 4
    scanner.flush_counts()
    assert scanner.counts[TEXT] == scanner.frames == 3
    other, events = play([frame(TEXT, b"6", mask=mask), frame(BINARY, b"2", mask=mask)], heartbeats=True)
    assert events == []
    assert other.message_at == 1.0
    plain, events = play([whole])
    assert events == []
    assert plain.message_size == 1


@pytest.mark.parametrize("way", ["whole", "singly", "glued", "halves"])
def test_scanner_reports_http_text_at_a_frame_boundary(way: str) -> None:
    """An HTTP answer where a frame should begin stops the scan and is recognised however it is cut."""
    text = b"HTTP/1.1 500 INTERNAL SERVER ERROR\r\n\r\n"
    before = frame(TEXT, b"fine")
    segments = {
        "whole": [before, text],
        "singly": [before, *singly(text)],
        "glued": [before + text],
        "halves": [before + text[:4], text[4:]],
    }[way]
    scanner, events = play(segments)
    assert events == [Unparseable("HTTP text instead of a frame")]
    assert (scanner.http_text, scanner.unobserved, scanner.frames) == (True, True, 1)


@pytest.mark.parametrize("text", [b"HTTP/2.0 500", b"HTML", b"HTTP:", b"\x48\x00"])
def test_scanner_takes_no_other_text_for_http(text: bytes) -> None:
    """Text that begins like it and goes on otherwise is a malformed frame."""
    for segments in ([text], singly(text)):
        scanner, events = play(segments)
        assert events == [Unparseable("a control frame without FIN")]
        assert not scanner.http_text


def test_scanner_with_http_text_inside_a_payload_sees_none() -> None:
    """A message that speaks HTTP is a message."""
    scanner, events = play([frame(TEXT, b"HTTP/1.1 500"), frame(BINARY, b"HTTP/1.1", form=64)])
    assert (events, scanner.http_text, scanner.frames) == ([], False, 2)
