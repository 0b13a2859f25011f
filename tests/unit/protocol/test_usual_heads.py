"""Heads of the usual form: read as llhttp would, or left to it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.http1_parser import RequestReader, ResponseReader
from exporter.protocol.usual_heads import MAX_USUAL, usual_answer, usual_request

NAMES = ("Connection", "UPGRADE", "host", "User-Agent", "Cookie", "X-Forwarded-For", "traceparent", "Content-Length",
         "Transfer-Encoding", "Sec-WebSocket-Protocol", "X_1")  # fmt: skip
VALUES = ("Upgrade", "keep-alive, Upgrade", "close", "websocket", "h2c, WebSocket ", "", "0", "5", "chunked", "a=b",
          "chat", "\xe9", "x" * 1100)  # fmt: skip
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6)
UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket")]


def head(first: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """A head with these headers."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{first}\r\n{lines}\r\n".encode("latin-1")


def fields(message: object) -> list[object]:
    """The values of a request's or response's attributes."""
    return [getattr(message, name) for name in vars(type(message)) if not name.startswith("_")]


@given(st.sampled_from(("/", "/chat?EIO=4&a=%20", '/a"b', "/a b", "http://app/")), HEADERS, st.booleans())
def test_usual_request_means_what_it_means_to_llhttp(
    target: str, headers: list[tuple[str, str]], upgrade: bool
) -> None:
    """A request that is read at once has the fields that llhttp finds."""
    data = head(f"GET {target} HTTP/1.1", UPGRADE * upgrade + headers)
    request = usual_request(data)
    if request is not None:
        reader = RequestReader(1 << 16)
        assert reader.feed(data, 0) == len(data)
        assert reader.head_complete
        assert fields(reader.take()) == fields(request)
        assert reader.is_between, "no body follows"


@given(st.sampled_from(("101 Switching Protocols", "101 ", "200 OK")), HEADERS, st.booleans(), st.binary(max_size=9))
def test_usual_answer_means_what_it_means_to_llhttp(
    status: str, headers: list[tuple[str, str]], upgrade: bool, frames: bytes
) -> None:
    """An answer that is read at once has the fields that llhttp finds, and ends where llhttp says."""
    data = head(f"HTTP/1.1 {status}", UPGRADE * upgrade + headers) + frames
    answer = usual_answer(data)
    if answer is not None:
        reader = ResponseReader(1 << 16)
        assert reader.feed(data, 0) == answer[1] == len(data) - len(frames)
        assert reader.head_complete
        assert fields(reader.take()) == fields(answer[0])


def test_usual_heads_of_browsers_and_proxies_are_read_at_once() -> None:
    """The form that nearly every session has is the usual one."""
    for connection in ("Upgrade", "keep-alive, Upgrade", "upgrade"):
        sent = [
            ("Host", "a"),
            ("Connection", connection),
            ("Upgrade", "websocket"),
            ("Cookie", "a=b"),
            ("User-Agent", "x"),
        ]
        request = usual_request(head("GET /chat?a=b HTTP/1.1", sent))
        assert request is not None
        assert (request.target, request.websocket, request.cookie) == ("/chat?a=b", True, "a=b")
        answer = usual_answer(
            head("HTTP/1.1 101 Switching Protocols", [*UPGRADE, ("Sec-WebSocket-Protocol", "chat")]) + b"x"
        )
        assert answer is not None
        assert answer[0].subprotocol == "chat"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        head("POST / HTTP/1.1", UPGRADE),
        head("GET / HTTP/1.0", UPGRADE),
        head("GET / HTTP/1.1", UPGRADE[:1]),
        head("GET / HTTP/1.1", UPGRADE[1:]),
        head("GET / HTTP/1.1", [*UPGRADE, ("Content-Length", "1")]),
        head("GET / HTTP/1.1", [*UPGRADE, ("Transfer-Encoding", "chunked")]),
        head("GET / HTTP/1.1", UPGRADE)[:-1],
        head("GET / HTTP/1.1", UPGRADE) + b"\x81",
        head("GET / HTTP/1.1", [*UPGRADE, ("a", "x" * MAX_USUAL)]),
        head("GET / HTTP/1.1", [*UPGRADE, ("Cookie", "a=b"), ("cookie", "c=d")]),
        head("GET / HTTP/1.1", [("Connection", "Upgrade"), ("Upgrade", "h2c")]),
        head("GET / HTTP/1.1", [*UPGRADE, ("a", "b\r\n c")]),
    ],
)
def test_usual_request_of_another_form_is_left_to_llhttp(data: bytes) -> None:
    """Another method, version, body, repetition or cut is none of the usual form."""
    assert usual_request(data) is None
