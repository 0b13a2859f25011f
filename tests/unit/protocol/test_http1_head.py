"""The quick reader of an upgrade's usual heads: it reads what llhttp reads, and leaves the rest to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.http1 import HandshakeTracker, Upgraded, UpgradeRequested
from exporter.protocol.http1_head import read_switch, read_upgrade

CONNECTIONS = ("Upgrade", "upgrade", "keep-alive, Upgrade", "close", "Upgrade , x", "")
UPGRADES = ("websocket", "WebSocket", "h2c", "h2c, websocket", "")
NAMES = ("Connection", "Upgrade", "upgrade", "UPGRADE", "Content-Length", "Transfer-Encoding", "Proxy-Connection",
         "X-Forwarded-For", "x-forwarded-for", "User-Agent", "Traceparent", "Cookie", "Sec-WebSocket-Protocol",
         "Host", "Upgrade-X", "X-Upgrade", "X")  # fmt: skip
VALUES = (*CONNECTIONS, *UPGRADES, "5", "chunked", "a  \t ", "a: b", "192.0.2.7", "x" * 2000, "\xe9", "upgrade: x")
HEADERS = st.tuples(st.sampled_from(NAMES), st.sampled_from(("", " ", "\t", "  ")), st.sampled_from(VALUES))
#: Mostly usual heads, with headers that make some of them unusual.
UPGRADING = st.tuples(st.sampled_from(CONNECTIONS[:3]), st.sampled_from(UPGRADES[:3])).map(
    lambda pair: [("Connection", " ", pair[0]), ("Upgrade", " ", pair[1])]
)
LISTS = st.one_of(
    st.lists(HEADERS, max_size=6),
    st.tuples(UPGRADING, st.lists(HEADERS, max_size=4)).map(lambda both: both[0] + both[1]),
    st.tuples(st.lists(HEADERS, max_size=2), UPGRADING).map(lambda both: both[0] + both[1]),
)
TARGETS = ("/", "/chat?a=b?c", '/"<>\\^`{|}', "//x", "/a#b", "/#", "*", "http://x/y", "/a b", "/\xe4", "/a\tb")
GET = "GET /chat HTTP/1.1"
SWITCH = "HTTP/1.1 101 Switching Protocols"
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


def head(first: str, *lines: str) -> bytes:
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


def lines_of(headers: list[tuple[str, str, str]]) -> list[str]:
    return [f"{name}:{space}{value}" for name, space, value in headers]


@given(st.sampled_from(("GET", "get", "POST", "HEAD")), st.sampled_from(TARGETS), LISTS)
def test_request_read_whole_equals_the_one_that_llhttp_reads(method: str, target: str, headers) -> None:
    """A head that comes in two parts goes through llhttp; its events are those of the head in one part."""
    data = head(f"{method} {target} HTTP/1.1", *lines_of(headers))
    whole, cut = HandshakeTracker(), HandshakeTracker()
    assert whole.request(data) == cut.request(data[:9]) + cut.request(data[9:])
    assert (whole.finished, whole.started, whole.is_idle) == (cut.finished, cut.started, cut.is_idle)


@given(st.sampled_from((SWITCH, "HTTP/1.1 101", "HTTP/1.0 101 X", "HTTP/1.1 200 OK", "HTTP/1.1 1010 X")), LISTS)
def test_response_read_whole_equals_the_one_that_llhttp_reads(status: str, headers) -> None:
    """The same for the answer to a request to upgrade."""
    data = head(status, *lines_of(headers))
    whole, cut = HandshakeTracker(), HandshakeTracker()
    for tracker in (whole, cut):
        (asked,) = tracker.request(head(GET, *UPGRADE))
        assert isinstance(asked, UpgradeRequested)
    assert whole.response(data) == cut.response(data[:9]) + cut.response(data[9:])
    assert (whole.finished, whole.is_idle) == (cut.finished, cut.is_idle)


def test_usual_heads_are_read_without_llhttp() -> None:
    """The heads of browsers and libraries take the quick way."""
    request = read_upgrade(head(GET, "Host: x", *UPGRADE, "User-Agent: a", "Cookie: b=c", "traceparent: d"))
    assert request is not None
    assert (request.target, request.websocket, request.user_agent, request.cookie) == ("/chat", True, "a", "b=c")
    response = read_switch(head(SWITCH, *UPGRADE, "Sec-WebSocket-Protocol: chat"))
    assert response is not None
    assert (response.status, response.subprotocol, response.upgrade) == (101, "chat", True)


@pytest.mark.parametrize(
    "data",
    [
        head(GET, *UPGRADE)[:-2],
        head(GET, *UPGRADE) + b"x",
        head(GET, *UPGRADE) + head(GET, *UPGRADE),
        head(GET, *UPGRADE, "X: a\nContent-Length: 5"),
        head(GET, *UPGRADE, "X: a\rContent-Length: 5"),
        head(GET, *UPGRADE, "X: a", " continued"),
        head(GET, *UPGRADE, "Content-Length: 0"),
        head(GET, *UPGRADE, "transfer-encoding: chunked"),
        head(GET, *UPGRADE, "Connection: close"),
        head(GET, "Upgrade: websocket"),
        head(GET, "Connection: Upgrade"),
        head("POST / HTTP/1.1", *UPGRADE),
        head("GET / HTTP/1.0", *UPGRADE),
        head("GET /#a HTTP/1.1", *UPGRADE),
    ],
)
def test_head_of_another_shape_is_left_to_llhttp(data: bytes) -> None:
    """A body, a second message, a lone line end or a repeated header takes the long way."""
    assert read_upgrade(data) is None
    assert read_switch(data.replace(GET.encode(), SWITCH.encode())) is None


def test_frames_behind_the_switch_are_frames() -> None:
    """A 101 with frames in its chunk takes the long way, and the frames are kept."""
    tracker = HandshakeTracker()
    tracker.request(head(GET, *UPGRADE))
    (switched,) = tracker.response(head(SWITCH, *UPGRADE) + b"\x81\x02\r\n")
    assert isinstance(switched, Upgraded)
    assert switched.server == b"\x81\x02\r\n"
