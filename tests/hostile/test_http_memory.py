"""What one connection can make the sidecar keep, and do, before its 101: bounded, whatever its peers send."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from exporter.protocol.enums import Unobserved
from exporter.protocol.http1 import MAX_EARLY, HandshakeTracker, ParseFailed, UpgradeRequested

#: Parser state that a connection may have at most, with the default ``--max-head``.
MAX_STATE = 256 * 1024
#: The largest read of the relay.
READ = 512 * 1024

C, S = "client", "server"
Steps = Iterator[tuple[str, bytes]]

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Texts as long as a head of 64 KiB can have them.
LONG = (
    b"GET /" + b"t" * 15_000 + b" HTTP/1.1\r\nHost: app\r\nCookie: " + b"c" * 15_000
    + b"\r\nX-Forwarded-For: " + b"f" * 15_000 + b"\r\nUser-Agent: " + b"u" * 15_000 + b"\r\n\r\n"
)  # fmt: skip


def pipelined() -> Steps:
    """Requests with long texts, never answered."""
    for _ in range(1000):
        yield C, LONG


def pipelined_upgrades() -> Steps:
    """A request to upgrade with a long cookie, and early bytes that are just not too many."""
    yield C, UPGRADE + b"Cookie: " + b"c" * 60_000 + b"\r\n\r\n"
    for _ in range(MAX_EARLY // 1024):
        yield C, b"e" * 1024


def endless_trailer() -> Steps:
    """A trailer whose value never ends."""
    yield C, CHUNKED + b"0\r\nTrailer: "
    for _ in range(20):
        yield C, b"v" * READ


def endless_trailer_slowly() -> Steps:
    """The same in small pieces."""
    yield C, CHUNKED + b"0\r\nTrailer: "
    for _ in range(2000):
        yield C, b"v" * 100


def many_trailers() -> Steps:
    """Trailers that never end."""
    yield C, CHUNKED + b"0\r\n"
    for _ in range(20):
        yield C, b"A: b\r\n" * (READ // 6)


def server_trailers() -> Steps:
    """The same from the server."""
    yield C, b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
    yield S, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    for _ in range(20):
        yield S, b"A: " + b"v" * READ


def endless_head() -> Steps:
    """A header whose value never ends, in the largest reads."""
    yield C, b"GET / HTTP/1.1\r\nCookie: " + b"c" * READ
    yield C, b"c" * READ


def endless_target() -> Steps:
    """A target that never ends."""
    yield C, b"GET /" + b"t" * READ


def endless_chunk_line() -> Steps:
    """A chunk's extension that never ends."""
    yield C, CHUNKED + b"5;"
    for _ in range(20):
        yield C, b"e" * READ


def many_cookie_lines() -> Steps:
    """As many lines of cookies as fit a head."""
    yield C, UPGRADE + b"Cookie:a\r\n" * 6500 + b"\r\n"
    yield C, b"early"


def many_forwarded_lines() -> Steps:
    """As many X-Forwarded-For lines as fit a head."""
    yield C, UPGRADE + b"X-Forwarded-For:1\r\n" * 3400 + b"\r\n"


def endless_response_head() -> Steps:
    """A response's header that never ends, after a long request."""
    yield C, UPGRADE + b"Cookie: " + b"c" * 60_000 + b"\r\n\r\n"
    yield S, b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: " + b"p" * READ


def tiny_chunks() -> Steps:
    """Chunks of one byte."""
    yield C, CHUNKED
    for _ in range(4):
        yield C, b"1\r\nx\r\n" * (READ // 6)


def tiny_responses() -> Steps:
    """Responses without a body, many more than there were requests."""
    yield C, b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
    yield S, b"HTTP/1.1 204 No\r\n\r\n" * (READ // 19)


def empty_lines() -> Steps:
    """Empty lines where a request should begin."""
    yield C, b"\r\n" * (READ // 2)


def garbage() -> Steps:
    """Bytes that are nothing."""
    yield C, b"\xff" * READ


HOSTILE: list[Callable[[], Steps]] = [
    pipelined, pipelined_upgrades, endless_trailer, endless_trailer_slowly, many_trailers, server_trailers,
    endless_head, endless_target, endless_chunk_line, many_cookie_lines, many_forwarded_lines, endless_response_head,
    tiny_chunks, tiny_responses, empty_lines, garbage,
]  # fmt: skip


def feed(tracker: HandshakeTracker, step: tuple[str, bytes]) -> list[object]:
    """Have a tracker read one step."""
    sender, data = step
    return list(tracker.request(data) if sender == C else tracker.response(data))


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.__name__)
def test_tracker_of_a_hostile_connection_keeps_little(hostile: Callable[[], Steps]) -> None:
    """At no moment does a connection take more than 256 KiB beside the bytes of the read itself."""
    steps = list(hostile())
    tracker = HandshakeTracker()
    feed(HandshakeTracker(), (C, LONG))  # what is made once
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for step in steps:
            feed(tracker, step)
            assert tracemalloc.get_traced_memory()[1] - before < MAX_STATE
        if tracker.finished:
            assert tracemalloc.get_traced_memory()[0] - before < MAX_STATE // 16
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.__name__)
def test_tracker_of_a_hostile_connection_does_little_at_a_time(hostile: Callable[[], Steps]) -> None:
    """One read costs a bounded number of calls, whatever is in it."""
    tracker = HandshakeTracker()
    for step in hostile():
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            feed(tracker, step)
        finally:
            sys.setprofile(None)
        assert calls < 60_000


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (pipelined, Unobserved.HTTP1),
        (endless_trailer, Unobserved.HEAD_TOO_LARGE),
        (endless_trailer_slowly, Unobserved.HEAD_TOO_LARGE),
        (many_trailers, Unobserved.HEAD_TOO_LARGE),
        (server_trailers, Unobserved.HEAD_TOO_LARGE),
        (endless_head, Unobserved.HEAD_TOO_LARGE),
        (endless_target, Unobserved.HEAD_TOO_LARGE),
        (endless_chunk_line, Unobserved.HTTP1),
        (endless_response_head, Unobserved.HEAD_TOO_LARGE),
        (tiny_chunks, Unobserved.HTTP1),
        (empty_lines, Unobserved.HTTP1),
        (garbage, Unobserved.HTTP1),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_tracker_of_a_hostile_connection_gives_up(hostile: Callable[[], Steps], reason: Unobserved) -> None:
    """A connection that breaks a bound is not followed any more, for the right reason, as soon as it does."""
    tracker = HandshakeTracker()
    events = [event for step in hostile() for event in feed(tracker, step)]
    assert [event.reason for event in events if isinstance(event, ParseFailed)] == [reason]
    assert tracker.finished


def test_tracker_takes_many_cookie_lines_as_one_list() -> None:
    """What fits a head is reported whole."""
    tracker = HandshakeTracker()
    (event,) = (event for step in many_cookie_lines() for event in feed(tracker, step))
    assert isinstance(event, UpgradeRequested)
    assert event.request.cookie == "; ".join(["a"] * 6500)
