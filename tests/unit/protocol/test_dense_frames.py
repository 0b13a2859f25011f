"""Chunks full of tiny frames: bounded work for each call, and nothing lost."""

from __future__ import annotations

import sys

import pytest

from exporter.protocol.direction import new_frame_counts
from exporter.protocol.enums import Peer
from exporter.protocol.flight_recorder import Ring, unpack
from exporter.protocol.frame_header import Control
from exporter.protocol.frame_runs import MAX_CONTROLS, MAX_FRAMES
from exporter.protocol.frames import FrameScanner
from exporter.protocol.payload_sample import SamplingFrameScanner
from tests.wire import BINARY, CONTINUATION, KEY, PING, PONG, TEXT, close, frame

CHUNK = 512 * 1024

#: The densest frames of each kind, and mixtures of kinds.
DENSE = {
    "empty text": frame(TEXT),
    "masked empty text": frame(TEXT, mask=KEY),
    "empty text in 64 bits": frame(TEXT, form=64),
    "empty pings": frame(PING),
    "masked empty pings": frame(PING, mask=KEY),
    "pongs of a byte": frame(PONG, b"x"),
    "empty continuations": frame(CONTINUATION, fin=False),
    "reserved opcode": frame(0x3),
    "reserved control opcode": frame(0xB, fin=False),
    "text and binary": frame(TEXT) + frame(BINARY),
    "text and ping": frame(TEXT) + frame(PING),
    "a row of text and a ping": frame(TEXT) * 16 + frame(PING),
    "a longer row of text and a ping": frame(TEXT) * 40 + frame(PING),
    "fragments and pings": frame(TEXT, fin=False) + frame(PING) + frame(CONTINUATION),
}
DENSE_NAMES = list(DENSE)


def count_calls(action) -> int:
    """Python and C calls that ``action`` makes."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def scanner_of(kind: str) -> FrameScanner:
    """A scanner of each class."""
    if kind == "sampling":
        return SamplingFrameScanner(new_frame_counts(), Peer.CLIENT, Ring(), 256)
    return FrameScanner(new_frame_counts(), heartbeats=kind == "heartbeats")


@pytest.mark.parametrize("kind", ["plain", "heartbeats", "sampling"])
@pytest.mark.parametrize("name", DENSE_NAMES)
def test_scanner_of_dense_frames_parses_a_bounded_number_in_one_call(name: str, kind: str) -> None:
    """A chunk of any frames is parsed in portions, in order, to the same counts as its frames alone."""
    unit = DENSE[name]
    stream = unit * (CHUNK // len(unit))
    scanner = scanner_of(kind)
    events = scanner.feed(stream, 1.0)
    portions = 1
    seen = scanner.frames
    while scanner.backlog:
        assert events is not None, "a backlog is announced by a list"
        assert not scanner.at_boundary
        assert sum(isinstance(event, Control) for event in events) <= MAX_CONTROLS
        events = scanner.resume(1.0)
        portions += 1
        assert 0 < scanner.frames - seen <= 5 * MAX_FRAMES
        seen = scanner.frames
    assert scanner.at_boundary
    assert scanner.pending == b""
    alone = FrameScanner(new_frame_counts())
    for at in range(0, len(unit), 1):
        alone.feed(unit[at : at + 1], 0.0)
    for each in (scanner, alone):
        each.flush_counts()
    times = len(stream) // len(unit)
    assert scanner.counts == [count * times for count in alone.counts]
    assert portions >= scanner.frames // (5 * MAX_FRAMES)
    ring, one = unpack(scanner.ring.in_order()), unpack(alone.ring.in_order())
    assert len(ring) == 64
    kept = [(frame.opcode, frame.fin, frame.length) for frame in one] * 64
    assert [(frame.opcode, frame.fin, frame.length) for frame in ring] == kept[-64:]


@pytest.mark.parametrize("kind", ["plain", "heartbeats", "sampling"])
@pytest.mark.parametrize("name", DENSE_NAMES)
def test_scanner_of_dense_frames_makes_few_calls_a_frame(name: str, kind: str) -> None:
    """No call and no object for each ping, fragment or reserved frame; work grows as the bytes do."""
    unit = DENSE[name]

    def parse(size: int) -> int:
        scanner = scanner_of(kind)
        stream = unit * (size // len(unit))

        def all_of_it() -> None:
            scanner.feed(stream, 1.0)
            while scanner.backlog:
                scanner.resume(1.0)

        calls = count_calls(all_of_it)
        assert calls < 16 * scanner.frames
        return calls

    small, large = parse(CHUNK // 16), parse(CHUNK // 4)
    assert large < 6 * small


def test_scanner_with_a_backlog_keeps_what_comes_meanwhile() -> None:
    """A caller that does not wait for the backlog loses nothing."""
    scanner = FrameScanner(new_frame_counts())
    stream = frame(PING) * (5 * MAX_FRAMES)
    assert scanner.feed(stream, 0.0)
    assert scanner.feed(frame(TEXT, b"later") + close(1001)[:1], 0.0) == []
    assert scanner.feed(close(1001)[1:] + b"after", 0.0) == []
    events: list[object] = []
    while scanner.backlog:
        events += scanner.resume(0.0) or []
    assert events[-1] == Control(8, b"\x03\xe9")
    assert scanner.frames == 5 * MAX_FRAMES + 2
    assert scanner.resume(0.0) is None


def test_scanner_that_is_stopped_drops_its_backlog() -> None:
    """Nothing is kept for a direction that is not parsed any more."""
    scanner = FrameScanner(new_frame_counts())
    scanner.feed(frame(PING) * (5 * MAX_FRAMES), 0.0)
    assert scanner.backlog
    scanner.stop()
    assert scanner.backlog == b""
    assert scanner.resume(0.0) is None
