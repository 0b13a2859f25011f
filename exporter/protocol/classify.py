"""From circumstances to a cause: the table of endings, as one function.

How it works. A session ends with a set of circumstances that the session and the relay saw: the first Close frame, if
any, and its sender; otherwise whose TCP ended first and how; whether we ended it; whether the app still took
connections. :func:`judge` reads them from the most certain to the least:

1. we ended it: ``drain`` or ``limit``;
2. a Close frame: its code says it (RFC 6455, section 7.4), except that the operator may have given a reason text a
   cause of its own, and that a reason text of a known keepalive says ``ping-timeout``: ``websockets`` and uvicorn send
   1011 for it, tornado 1000, and neither is a bug of the app;
3. nothing was understood any more: ``unobserved``;
4. TCP just ended: ``app-down`` if the app ended it and takes no connections; ``ping-timeout`` if whoever ended it had
   been waiting for a pong; ``idle-timeout`` if nothing had passed either way for just as long as a known proxy or load
   balancer waits; else ``connection-reset`` or ``connection-lost``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from mypy_extensions import mypyc_attr

from exporter.protocol.close_codes import ABNORMAL, INVALID, NO_STATUS, UNKNOWN, Classification, CloseCodeMap
from exporter.protocol.enums import PEERS, Cause, Peer, TcpEndKind
from exporter.protocol.idle_timeouts import DEFAULT_CUTOFFS, IdleCutoffs

#: Reason texts by which libraries say that no pong came, lower case. Sources: websockets and uvicorn ("keepalive ping
#: timeout"), tornado ("ping timed out"), autobahn, socket.io and Phoenix ("ping timeout", "heartbeat timeout"),
#: centrifugo and pusher ("no pong", "pong reply not received", "pong timeout").
KEEPALIVE_TEXTS = (
    "keepalive ping timeout",
    "ping timed out",
    "ping timeout",
    "pong timeout",
    "no pong",
    "pong reply not received",
    "heartbeat timeout",
    "heartbeat timed out",
)
#: Whole words only: a "shipping timeout" is no ping's.
_KEEPALIVE = re.compile("|".join(rf"\b{re.escape(text)}\b" for text in KEEPALIVE_TEXTS))

#: Codes with which ping-timeout is known to come; their series start at zero.
KEEPALIVE_CODES = (1000, 1011)


class Close(NamedTuple):
    """A Close frame's content. ``code`` is None for an empty body, -1 for a body of one byte, which is no code."""

    code: int | None
    reason: str = ""


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Ending:
    """How one session ended. ``code`` is a bounded label value; ``reason`` is free text, for the log only."""

    code: str
    cause: Cause
    initiator: Peer
    clean: bool
    reason: str
    close_unanswered: bool

    def __init__(
        self, code: str, cause: Cause, initiator: Peer, clean: bool, reason: str = "", close_unanswered: bool = False
    ) -> None:
        self.code = code
        self.cause = cause
        self.initiator = initiator
        self.clean = clean
        self.reason = reason
        self.close_unanswered = close_unanswered


_NO_STATUS = Classification(NO_STATUS, Cause.NO_STATUS)


def classify_close(close: Close, book: CloseCodeMap) -> Classification:
    """The label value and cause of a Close frame that a peer sent."""
    code, reason = close
    if code is None:
        return _NO_STATUS
    verdict = book.verdict(code)
    if not reason or verdict.label == INVALID:
        return verdict
    if (cause := book.reasons(reason)) is not None:
        return Classification(verdict.label, cause)
    return Classification(verdict.label, Cause.PING_TIMEOUT) if is_keepalive(reason) else verdict


def is_keepalive(reason: str) -> bool:
    """Whether a reason text says that a ping went unanswered."""
    return _KEEPALIVE.search(reason.lower()) is not None


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class TcpEnd:
    """How TCP ended: whose connection first, and how.

    :ivar idle: seconds for which nothing had passed either way; None if not measured.
    :ivar unanswered: seconds for which a ping of the initiator had waited for its pong; 0 if none did.
    """

    initiator: Peer
    how: TcpEndKind
    idle: float | None
    unanswered: float

    def __init__(self, initiator: Peer, how: TcpEndKind, idle: float | None = None, unanswered: float = 0.0) -> None:
        self.initiator = initiator
        self.how = how
        self.idle = idle
        self.unanswered = unanswered


#: A ping that is younger than this when TCP ends says nothing: its pong may just be under way. Libraries wait for
#: several seconds.
MIN_PONG_WAIT = 1.0


def classify_tcp_end(cut: TcpEnd, app_alive: bool, idle: IdleCutoffs = DEFAULT_CUTOFFS) -> Cause:
    """The cause of an ending without a Close frame."""
    if cut.initiator is Peer.SERVER and not app_alive:
        return Cause.APP_DOWN
    if cut.unanswered >= MIN_PONG_WAIT:
        return Cause.PING_TIMEOUT
    if cut.idle is not None and idle.cutoff(cut.idle) is not None:
        return Cause.IDLE_TIMEOUT
    return Cause.CONNECTION_RESET if cut.how is TcpEndKind.RESET else Cause.CONNECTION_LOST


#: What the proxy may end a session for.
OWN_CAUSES = (Cause.DRAIN, Cause.LIMIT)
#: The Close codes that the proxy may send (RFC 6455: 1001 going away; IANA: 1012 service restart).
OWN_CODES = (1001, 1012)


def rows(book: CloseCodeMap) -> list[tuple[str, Cause, Peer]]:
    """Every (code, cause, initiator) that can be told apart in advance: the series to start at zero."""
    told: list[tuple[str, Cause, Peer]] = []

    def add(label: str, cause: Cause, who: Callable[[Peer], bool] = lambda peer: True) -> None:
        told.extend((label, cause, peer) for peer in PEERS if who(peer))

    for verdict in book.rows():
        add(verdict.label, verdict.cause)
        for cause in sorted(book.reasons.causes - {verdict.cause}):
            add(verdict.label, cause)
    for code in KEEPALIVE_CODES:
        add(str(code), Cause.PING_TIMEOUT)
    add(NO_STATUS, Cause.NO_STATUS)
    add(ABNORMAL, Cause.CONNECTION_LOST)
    add(ABNORMAL, Cause.CONNECTION_RESET)
    add(ABNORMAL, Cause.PING_TIMEOUT)
    add(ABNORMAL, Cause.IDLE_TIMEOUT)
    add(ABNORMAL, Cause.APP_DOWN, lambda peer: peer is Peer.SERVER)
    add(UNKNOWN, Cause.UNOBSERVED)
    told.extend((label, cause, Peer.PROXY) for cause in OWN_CAUSES for label in (*map(str, OWN_CODES), ABNORMAL))
    return told
