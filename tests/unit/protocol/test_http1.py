"""HTTP/1.1 before the 101, overheard in both directions: what is asked, how it is answered, and where frames begin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.enums import Unobserved
from exporter.protocol.http1 import (
    MAX_EARLY,
    MAX_PIPELINED,
    Event,
    HandshakeTracker,
    ParseFailed,
    UpgradeAborted,
    Upgraded,
    UpgradeRejected,
    UpgradeRequested,
)
from tests.wire import KEY, TEXT, close, cut_at, cuts, frame, singly


def get(target: str = "/", *headers: str, method: str = "GET") -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: app", *headers, "", ""]).encode("latin-1")


UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip


def upgrade(target: str = "/chat", *headers: str) -> bytes:
    """A request to upgrade to WebSocket."""
    return get(target, *UPGRADE, *headers)


def answer(status: int = 200, text: bytes = b"", *headers: str) -> bytes:
    """A response with a Content-Length."""
    head = [f"HTTP/1.1 {status} Something", f"Content-Length: {len(text)}", *headers, "", ""]
    return "\r\n".join(head).encode() + text


def bare(status: int, *headers: str) -> bytes:
    """A response's head as it stands."""
    return "\r\n".join([f"HTTP/1.1 {status} Something", *headers, "", ""]).encode()


SWITCH = bare(101, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
HI, YO = frame(TEXT, b"hi", mask=KEY), frame(TEXT, b"yo")

C, S = "client", "server"
Step = tuple[str, bytes]

#: Facts as the rows write them: ("asked", target), ("refused", target, status), ("aborted", target),
#: ("lost", reason), ("switched", target, the client's frames, the server's frames).
Told = tuple[object, ...]


@dataclass(frozen=True)
class Case:
    """A row: who sends what, in order, and the facts that it comes to. ``prelude``: HTTP may go before it."""

    name: str
    steps: tuple[Step, ...]
    told: tuple[Told, ...]
    prelude: bool = True


def play(steps: list[Step], max_head: int = 4096, end: bool = True) -> list[Told]:
    """The facts of a conversation, with frames that came after the 101 added to its own."""
    talk = HandshakeTracker(max_head)
    facts: list[Event] = []
    on_timeout = {C: b"", S: b""}
    for sender, data in steps:
        was_over = talk.finished
        new = talk.request(data) if sender == C else talk.response(data)
        facts += new
        assert not (was_over and new), "nothing is told once it is over"
        if was_over:
            on_timeout[sender] += data
        assert len(talk._parked) <= MAX_EARLY + max(len(data), 1)
    if end:
        facts += talk.eof()
        assert talk.eof() == []
        assert talk.finished
    return [plain(fact, on_timeout) for fact in facts]


def plain(fact: Event, on_timeout: dict[str, bytes]) -> Told:
    match fact:
        case UpgradeRequested():
            return ("asked", fact.request.target)
        case UpgradeRejected():
            return ("refused", fact.request.target, fact.status)
        case UpgradeAborted():
            return ("aborted", fact.request.target)
        case Upgraded():
            return ("switched", fact.request.target, fact.client + on_timeout[C], fact.server + on_timeout[S])
        case ParseFailed():
            return ("lost", fact.reason)


def ok(target: str, client: bytes = b"", server: bytes = b"") -> tuple[Told, Told]:
    return ("asked", target), ("switched", target, client, server)


def no(target: str, status: int) -> tuple[Told, Told]:
    return ("asked", target), ("refused", target, status)


CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
CLIENT_HELLO = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(64))

CASES = [
    # Plain HTTP is not a handshake.
    Case("GET and 200", ((C, get()), (S, answer(200, b"page"))), ()),
    Case("nothing at all", (), ()),
    Case("a request without answer", ((C, get()),), ()),
    Case(
        "POST with a body, and a body that looks like an upgrade",
        ((C, get("/", f"Content-Length: {len(upgrade())}", method="POST") + upgrade()), (S, answer())),
        (),
    ),
    Case("a chunked request", ((C, get("/", CHUNKED, method="POST") + CHUNKS), (S, answer())), ()),
    Case(
        "an answer's body that looks like a 101",
        ((C, get()), (S, answer(200, SWITCH + YO)), (C, upgrade()), (S, SWITCH)),
        ok("/chat"),
    ),
    # The upgrade, and what shares its segments.
    Case("an upgrade", ((C, upgrade()), (S, SWITCH)), ok("/chat")),
    Case("an upgrade of another case", ((C, get("/x", "CONNECTION: keep-alive, UPGRADE", "uPGRADE: WebSocket")),
                                        (S, SWITCH)), ok("/x")),
    Case("frames after the 101", ((C, upgrade()), (S, SWITCH), (C, HI), (S, YO), (C, HI)), ok("/chat", HI + HI, YO)),
    Case("a frame in the segment of the 101", ((C, upgrade()), (S, SWITCH + YO), (C, HI)), ok("/chat", HI, YO)),
    Case("frames from the client before the 101", ((C, upgrade()), (C, HI), (S, SWITCH + YO), (C, HI)),
         ok("/chat", HI + HI, YO)),
    Case("a frame in the segment of the request", ((C, upgrade() + HI), (S, SWITCH)), ok("/chat", HI)),
    Case("a Close before the 101", ((C, upgrade() + close(1001, mask=KEY)), (S, SWITCH)),
         ok("/chat", close(1001, mask=KEY))),
    Case("100 before the 101", ((C, upgrade()), (S, bare(100)), (S, SWITCH + YO)), ok("/chat", b"", YO)),
    Case("103 before the 101", ((C, upgrade()), (S, bare(103, "Link: </a>; rel=preload")), (S, SWITCH)), ok("/chat")),
    # Keep-alive: an upgrade may be any request.
    Case("an upgrade after a plain request", ((C, get()), (S, answer(200, b"x")), (C, upgrade()), (S, SWITCH + YO)),
         ok("/chat", b"", YO)),
    Case("an upgrade after a chunked answer",
         ((C, get()), (S, bare(200, CHUNKED) + CHUNKS), (C, upgrade()), (S, SWITCH)), ok("/chat")),
    Case("an upgrade after HEAD", ((C, get(method="HEAD")), (S, bare(200, "Content-Length: 1000")), (C, upgrade()),
                                   (S, SWITCH + YO)), ok("/chat", b"", YO)),
    Case("an upgrade after a chunked HEAD", ((C, get(method="HEAD")), (S, bare(200, CHUNKED)), (C, upgrade()),
                                             (S, SWITCH)), ok("/chat")),
    Case("an upgrade after HEAD without a length", ((C, get(method="HEAD")), (S, bare(200)), (C, upgrade()),
                                                    (S, SWITCH + YO)), ok("/chat", b"", YO)),
    Case("an upgrade after HEAD with 100", ((C, get(method="HEAD")), (S, bare(100) + bare(200, "Content-Length: 3")),
                                            (C, upgrade()), (S, SWITCH)), ok("/chat")),
    Case("an upgrade after 204", ((C, get()), (S, bare(204)), (C, upgrade()), (S, SWITCH)), ok("/chat")),
    Case("an upgrade after 304 with a length", ((C, get()), (S, bare(304, "Content-Length: 77")), (C, upgrade()),
                                                (S, SWITCH)), ok("/chat")),
    Case("an upgrade after OPTIONS *", ((C, get("*", method="OPTIONS")), (S, answer(204)), (C, upgrade()),
                                        (S, SWITCH)), ok("/chat")),
    Case("an upgrade after 100-continue",
         ((C, get("/", "Expect: 100-continue", "Content-Length: 3", method="PUT")), (S, bare(100)), (C, b"abc"),
          (S, answer(201)), (C, upgrade()), (S, SWITCH)), ok("/chat")),
    Case("an answer until close is no handshake", ((C, get()), (S, bare(200, "Connection: close") + SWITCH + YO)), ()),
    Case("HTTP/1.0", ((C, b"GET / HTTP/1.0\r\n\r\n"), (S, b"HTTP/1.0 200 OK\r\n\r\nuntil close")), ()),
    # Pipelining.
    Case("two requests and an upgrade in one go",
         ((C, get("/1") + get("/2", method="HEAD") + upgrade("/3")),
          (S, answer(200, b"one") + bare(200, "Content-Length: 9") + SWITCH + YO), (C, HI)), ok("/3", HI, YO)),
    Case("HEAD and GET in one go",
         ((C, get("/1", method="HEAD") + get("/2") + get("/3", method="HEAD") + upgrade("/4")),
          (S, bare(200, CHUNKED)), (S, bare(200, CHUNKED) + CHUNKS), (S, bare(304)), (S, SWITCH)), ok("/4")),
    Case("a request behind a refused upgrade", ((C, upgrade("/1") + get("/2")), (S, answer(403, b"no")),
                                                (S, answer(200, b"yes"))), no("/1", 403)),
    # Refusals.
    *(Case(f"refused with {status}", ((C, upgrade()), (S, answer(status, b"no"))), no("/chat", status))
      for status in (200, 301, 400, 401, 403, 404, 426, 429, 500, 502, 503, 504)),
    Case("refused with 204", ((C, upgrade()), (S, bare(204))), no("/chat", 204)),
    Case("refused with a chunked body, then accepted",
         ((C, upgrade("/1")), (S, bare(401, CHUNKED) + CHUNKS), (C, upgrade("/2")), (S, SWITCH)),
         (*no("/1", 401), *ok("/2"))),
    Case("refused until close", ((C, upgrade()), (S, bare(500, "Connection: close") + b"trace")), no("/chat", 500)),
    Case("refused, refused, accepted",
         ((C, upgrade("/1")), (S, answer(403)), (C, upgrade("/2")), (S, answer(429, b"wait")), (C, upgrade("/3") + HI),
          (S, SWITCH + YO)), (*no("/1", 403), *no("/2", 429), *ok("/3", HI, YO))),
    Case("a second upgrade sent before the first is refused",
         ((C, upgrade("/1") + upgrade("/2") + HI), (S, answer(401, b"who?")), (S, SWITCH)),
         (*no("/1", 401), *ok("/2", HI))),
    Case("a refusal of which the body never comes", ((C, upgrade()), (S, answer(401, b"x" * 99)[:-50])),
         no("/chat", 401)),
    Case("an answer to half a request, ended after the other half",
         ((C, upgrade()[:-2]), (S, answer(408, b"late")[:-1]), (C, upgrade()[-2:]), (S, b"e" + SWITCH)), ok("/chat")),
    # No answer.
    Case("an upgrade without an answer", ((C, upgrade()),), (("asked", "/chat"), ("aborted", "/chat"))),
    Case("an upgrade with an interim answer only", ((C, upgrade()), (S, bare(100))),
         (("asked", "/chat"), ("aborted", "/chat"))),
    Case("an upgrade with half an answer", ((C, upgrade()), (S, SWITCH[:-2])),
         (("asked", "/chat"), ("aborted", "/chat"))),
    Case("half an upgrade", ((C, upgrade()[:-2]),), ()),
    Case("a server that answers an upgrade in another language", ((C, upgrade()), (S, b"SSH-2.0-OpenSSH_9.2\r\n")),
         (("asked", "/chat"), ("aborted", "/chat"), ("lost", Unobserved.HTTP1))),
    # Not requests to upgrade to WebSocket.
    Case("Upgrade without Connection", ((C, get("/", "Upgrade: websocket")), (S, answer(426))), ()),
    Case("Connection without Upgrade", ((C, get("/", "Connection: Upgrade")), (S, answer(400))), ()),
    Case("h2c refused, then WebSocket",
         ((C, get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")),
          (S, answer(200, b"in 1.1")), (C, upgrade()), (S, SWITCH)), ok("/chat")),
    Case("h2c accepted",
         ((C, get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")),
          (S, bare(101, "Connection: Upgrade", "Upgrade: h2c") + PREFACE), (C, PREFACE)),
         (("lost", Unobserved.UPGRADE),)),
    Case("another protocol accepted",
         ((C, get("/", "Connection: Upgrade", "Upgrade: SPDY/3.1")),
          (S, bare(101, "Connection: Upgrade", "Upgrade: SPDY/3.1") + b"\x80\x03")), (("lost", Unobserved.UPGRADE),)),
    Case("CONNECT accepted", ((C, get("app:443", method="CONNECT")), (S, bare(200)), (C, CLIENT_HELLO)),
         (("lost", Unobserved.UPGRADE),)),
    Case("CONNECT refused", ((C, get("app:443", method="CONNECT")), (S, answer(405)), (C, upgrade()), (S, SWITCH)),
         ok("/chat")),
    Case("a 101 that nobody asked for", ((C, get()), (S, SWITCH)), (("lost", Unobserved.UPGRADE),)),
    # Not HTTP/1.1.
    Case("TLS", ((C, CLIENT_HELLO), (S, b"\x16\x03\x03\x00\x7a")), (("lost", Unobserved.TLS),), prelude=False),
    Case("HTTP/2 with prior knowledge", ((C, PREFACE), (S, b"\x00\x00\x00\x04")), (("lost", Unobserved.HTTP2),),
         prelude=False),
    Case("garbage", ((C, b"\x00\x01\x02garbage"),), (("lost", Unobserved.HTTP1),)),
    Case("a line that is no request", ((C, b"hello there\r\n\r\n"),), (("lost", Unobserved.HTTP1),)),
    Case("SSH", ((C, b"SSH-2.0-OpenSSH_9.2\r\n"),), (("lost", Unobserved.HTTP1),)),
    Case("a server that speaks first, not HTTP", ((S, b"220 mail ESMTP\r\n"),), (("lost", Unobserved.HTTP1),),
         prelude=False),
    Case("a wrong length", ((C, get("/", "Content-Length: many", method="POST")),), (("lost", Unobserved.HTTP1),)),
    Case("smuggling by two lengths", ((C, get("/", "Content-Length: 3", "Content-Length: 4", method="POST")),),
         (("lost", Unobserved.HTTP1),)),
    # Heads too large: the limit in these tests is 4096 bytes.
    Case("a request's head too large", ((C, get("/", "X: " + "x" * 9000)), (S, answer())),
         (("lost", Unobserved.HEAD_TOO_LARGE),)),
    Case("a target too large", ((C, get("/" + "x" * 9000)),), (("lost", Unobserved.HEAD_TOO_LARGE),)),
    Case("a head that never ends", ((C, get("/", "X: " + "x" * 9000)[:-2]),), (("lost", Unobserved.HEAD_TOO_LARGE),),
         prelude=False),
    Case("a response's head too large", ((C, get()), (S, bare(200, "X: " + "x" * 9000))),
         (("lost", Unobserved.HEAD_TOO_LARGE),)),
    Case("an answer to an upgrade too large", ((C, upgrade()), (S, bare(200, "X: " + "x" * 9000))),
         (("asked", "/chat"), ("aborted", "/chat"), ("lost", Unobserved.HEAD_TOO_LARGE))),
    Case("a head below the limit", ((C, upgrade("/chat", "Cookie: " + "x" * 3000)), (S, SWITCH)), ok("/chat")),
    Case("bodies are no heads", ((C, get("/", "Content-Length: 9000", method="POST") + bytes(9000)),
                                 (S, answer(200, bytes(9000))), (C, upgrade()), (S, SWITCH)), ok("/chat")),
]  # fmt: skip


def bytewise(steps: tuple[Step, ...]) -> list[Step]:
    return [(sender, piece) for sender, data in steps for piece in singly(data)]


def glued(case: Case) -> list[Step]:
    """Each sender's steps that follow one another as one; before them, in the same segments, a plain exchange."""
    steps: list[Step] = []
    for sender, data in case.steps:
        if steps and steps[-1][0] == sender:
            data = steps.pop()[1] + data
        steps.append((sender, data))
    if case.prelude and steps:
        steps[0] = (C, get("/before") + steps[0][1])
        if len(steps) == 1:
            steps.append((S, answer(200, b"neighbour")))
        else:
            steps[1] = (S, answer(200, b"neighbour") + steps[1][1])
    return steps


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_conversation_is_understood(case: Case, way: str) -> None:
    """What was asked and answered is told once each, in order, and frames begin exactly where they begin."""
    steps = {"whole": list(case.steps), "bytewise": bytewise(case.steps), "glued": glued(case)}[way]
    told = play(steps)
    assert told == list(case.told)


REFUSABLE = [case for case in CASES if case.told and case.told[-1][0] == "refused" and "close" not in case.name
             and "never comes" not in case.name]  # fmt: skip


@pytest.mark.parametrize("case", REFUSABLE, ids=lambda case: case.name)
def test_what_follows_a_refusal_may_be_pipelined(case: Case) -> None:
    """All that the client sends in one segment, all that the server sends in one: the refused upgrade is told, then
    the accepted one, and the frames of both sides are seen."""
    client = b"".join(data for sender, data in case.steps if sender == C) + upgrade("/after") + HI
    server = b"".join(data for sender, data in case.steps if sender == S) + SWITCH + YO
    assert play([(C, client), (S, server)]) == [*case.told, *ok("/after", HI, YO)]


@pytest.mark.parametrize("cut", range(1, len(PREFACE)))
def test_the_http2_preface_is_known_wherever_it_is_cut(cut: int) -> None:
    """A connection preface split anywhere is HTTP/2, told once."""
    assert play([(C, PREFACE[:cut]), (C, PREFACE[cut:])]) == [("lost", Unobserved.HTTP2)]


@pytest.mark.parametrize("cut", range(1, len(SWITCH + YO)))
def test_the_101_is_known_wherever_it_is_cut(cut: int) -> None:
    """However the 101 and the frame behind it are cut, the frame's bytes are handed over whole, once."""
    data = SWITCH + YO
    assert play([(C, upgrade() + HI), (S, data[:cut]), (S, data[cut:])]) == [*ok("/chat", HI, YO)]


def test_the_hundredth_request_may_upgrade(way: str) -> None:
    """An ingress reuses a connection for many clients: 99 exchanges, some of them refused upgrades, then a session."""
    exchanges: list[Step] = []
    told: list[Told] = []
    for number in range(99):
        if number % 10 == 9:
            exchanges += [(C, upgrade(f"/{number}")), (S, answer(403, b"no"))]
            told += no(f"/{number}", 403)
        elif number % 3 == 2:
            exchanges += [(C, get(f"/{number}", method="HEAD")), (S, bare(200, "Content-Length: 5"))]
        else:
            exchanges += [(C, get(f"/{number}")), (S, answer(200, b"page"))]
    exchanges += [(C, upgrade("/100") + HI), (S, SWITCH + YO)]
    told += ok("/100", HI, YO)
    steps = {
        "whole": exchanges,
        "bytewise": bytewise(tuple(exchanges)),
        "glued": [(C, reduce(bytes.__add__, (data for who, data in exchanges if who == C))),
                  (S, reduce(bytes.__add__, (data for who, data in exchanges if who == S)))],
    }[way]  # fmt: skip
    assert play(steps) == told


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("separate", [True, False])
def test_early_bytes_are_kept_up_to_a_bound(over: bool, separate: bool) -> None:
    """A client's bytes before the answer are kept up to 64 KiB; one byte more and the listening ends, in any
    segmentation."""
    early = bytes(MAX_EARLY + over)
    steps = [(C, upgrade()), (C, early)] if separate else [(C, upgrade() + early)]
    told = play([*steps, (S, SWITCH)])
    if over:
        assert told == [("asked", "/chat"), ("aborted", "/chat"), ("lost", Unobserved.HTTP1)]
    else:
        assert told == [*ok("/chat", early)]


def test_requests_that_are_never_answered_are_bounded() -> None:
    """A client that pipelines without end is not remembered without end."""
    talk = HandshakeTracker()
    assert talk.request(get() * MAX_PIPELINED) == []
    facts = talk.request(get())
    assert [fact.reason for fact in facts if isinstance(fact, ParseFailed)] == [Unobserved.HTTP1]
    assert talk.finished
    assert talk.request(get()) == []


def test_long_answer_while_a_head_waits_is_followed() -> None:
    """An answer of any length before that to a HEAD is read like any other."""
    steps = [(C, get() + get(method="HEAD") + upgrade()), (S, answer(200, bytes(300 * 1024)))]
    assert play([*steps, (S, bare(200, "Content-Length: 9") + SWITCH + YO)]) == [*ok("/chat", b"", YO)]


def test_a_head_that_was_answered_costs_nothing_later(way: str) -> None:
    """Once HEAD has its answer, answers are read at full speed and without that bound: a download, then a session."""
    talk: list[Step] = [(C, get(method="HEAD")), (S, bare(200, "Content-Length: 5"))] * 3
    talk += [(C, get()), (S, answer(200, bytes(300 * 1024)))]
    talk += [(C, upgrade()), (S, SWITCH)]
    if way == "bytewise":
        talk = bytewise(tuple(talk[:6])) + talk[6:]
    elif way == "glued":
        talk = [(C, talk[0][1] + talk[6][1]), (S, talk[1][1] + talk[7][1]), *talk[8:]]
    assert play(talk) == [*ok("/chat")]


def test_a_request_is_told_with_what_a_log_line_needs() -> None:
    """Method, target, X-Forwarded-For, cookies, User-Agent and traceparent of the request, also where a header has
    several lines; subprotocol of the answer."""
    talk = HandshakeTracker()
    asked = talk.request(
        upgrade(
            "/chat?token=1",
            "X-Forwarded-For: 192.0.2.1, 10.0.0.1",
            "User-Agent: test/1",
            "traceparent: 00-ab-cd-01",
            "Cookie: a=b",
            "X-Forwarded-For: 10.0.0.2",
            "Cookie: sid=1",
        )
    )
    assert isinstance(asked[0], UpgradeRequested)
    request = asked[0].request
    assert (request.method, request.target, request.upgrade, request.websocket) == (b"GET", "/chat?token=1", True, True)
    assert (request.forwarded_for, request.user_agent) == ("192.0.2.1, 10.0.0.1, 10.0.0.2", "test/1")
    assert (request.traceparent, request.cookie) == ("00-ab-cd-01", "a=b; sid=1")
    extra = b"Sec-WebSocket-Protocol: chat.v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    switched = talk.response(SWITCH[:-2] + extra)
    assert isinstance(switched[0], Upgraded)
    response = switched[0].response
    assert (response.status, response.subprotocol) == (101, "chat.v2")


@pytest.mark.parametrize(
    "headers",
    [
        (), ("Connection: close",), ("Connection: Upgrade, close",), ("Content-Length: 0",), ("Content-Length: 4",),
        (CHUNKED,), ("Cookie: a=b", "X-Forwarded-For: 192.0.2.1", "User-Agent: test/1", "traceparent: 00-ab-cd-01"),
        ("Sec-WebSocket-Protocol: chat",), ("Transfer-Encoding: gzip",),
    ],
)  # fmt: skip
def test_tracker_after_a_session_with_any_headers_reads_the_next_alone(headers: tuple[str, ...]) -> None:
    """A head is read in the same way whatever heads an earlier connection's peers sent."""
    for request in (upgrade("/a", *headers), upgrade("/a")):
        for version in (request, request.replace(b"HTTP/1.1", b"HTTP/1.0")):
            play([(C, version), (S, SWITCH[:-2] + "\r\n".join([*headers, "", ""]).encode())])
    talk = HandshakeTracker()
    (asked,) = talk.request(upgrade("/b"))
    (switched,) = talk.response(SWITCH)
    assert isinstance(asked, UpgradeRequested)
    assert isinstance(switched, Upgraded)
    assert asked.request is switched.request
    request_, response = asked.request, switched.response
    assert (request_.method, request_.target, request_.upgrade, request_.websocket) == (b"GET", "/b", True, True)
    assert (request_.forwarded_for, request_.user_agent, request_.traceparent, request_.cookie) == ("",) * 4
    assert (response.status, response.subprotocol, response.upgrade) == (101, "", True)
    assert (switched.client, switched.server) == (b"", b"")


def test_it_is_idle_only_between_exchanges() -> None:
    """A connection is idle before the first request and between exchanges, and in no part of one."""
    talk = HandshakeTracker()
    assert talk.is_idle
    assert not talk.started
    talk.request(get()[:5])
    assert not talk.is_idle
    talk.request(get()[5:])
    assert talk.started
    assert not talk.is_idle
    talk.response(answer(200, b"body")[:-1])
    assert not talk.is_idle
    talk.response(b"y")
    assert talk.is_idle


def test_half_a_request_behind_a_whole_one_is_not_idle() -> None:
    """The next request's first bytes, in the segment of the one before, are a request under way."""
    talk = HandshakeTracker()
    talk.request(get() + get()[:20])
    talk.response(answer())
    assert not talk.is_idle


_snippets = st.sampled_from(
    [
        get(), get("/h", method="HEAD"), upgrade("/u"), upgrade("/v", "X: " + "x" * 200),
        get("/p", "Content-Length: 4", method="POST"), get("/c", CHUNKED, method="POST"), CHUNKS, b"abcd", HI, YO,
        get("/2", "Connection: Upgrade", "Upgrade: h2c"), get("app:1", method="CONNECT"), PREFACE, CLIENT_HELLO,
        answer(200, b"page"), answer(403, b"no"), bare(204), bare(304), bare(100), SWITCH, SWITCH + YO,
        bare(200, CHUNKED), bare(200, "Content-Length: 4"), bare(200), bare(101), b"\r\n", b"\x00", b"HTTP/1.1 ",
        get("/", "X: " + "x" * 9000), bare(200, "X: " + "x" * 9000),
    ]
)  # fmt: skip
_cut_short = st.tuples(_snippets, st.integers(0, 300)).map(lambda pair: pair[0][: pair[1]])
_pieces = st.one_of(_snippets, _snippets, _snippets, st.binary(max_size=20), _cut_short)
_right = st.lists(
    st.sampled_from(
        [
            (get(), answer(200, b"page")), (get("/h", method="HEAD"), bare(200, "Content-Length: 4")),
            (upgrade("/u"), answer(403, b"no")), (upgrade("/v"), SWITCH), (get("/c", CHUNKED) + CHUNKS, bare(204)),
            (get("/i"), bare(100) + answer(200)), (upgrade("/w") + HI, SWITCH + YO),
        ]
    ),
    max_size=6,
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([C, S]), _pieces), max_size=10), cuts)
def test_facts_do_not_depend_on_the_segmentation(steps: list[Step], where: list[int]) -> None:
    """For any bytes of either peer in any order: the same facts however each step is cut, and nothing is raised."""
    whole = play(steps)
    assert play([(sender, piece) for sender, data in steps for piece in cut_at(data, where)]) == whole
    assert play(bytewise(tuple(steps))) == whole


@given(_right, cuts)
def test_correct_exchanges_do_not_depend_on_the_segmentation(
    exchanges: list[tuple[bytes, bytes]], where: list[int]
) -> None:
    """Correct HTTP, one exchange after the other, is told alike however it is cut; every ask gets one answer."""
    steps = [step for asked, answered in exchanges for step in ((C, asked), (S, answered))]
    whole = play(steps)
    assert play([(sender, piece) for sender, data in steps for piece in cut_at(data, where)]) == whole
    asked = [fact for fact in whole if fact[0] == "asked"]
    answered = [fact for fact in whole if fact[0] in ("refused", "aborted", "switched")]
    assert [fact[1] for fact in asked] == [fact[1] for fact in answered]
