"""One WebSocket connection through us, from its 101 to its one ending.

How it works
============
A session owns two scanners, one a direction, and remembers five things:

- the first Close frame, and which peers have sent one;
- whose TCP ended first, how and when, and how long nothing had passed either way by then;
- which pings have not been answered;
- whether a direction stopped being understood;
- whether we began the end ourselves.

:meth:`Session.end` turns these, and one circumstance that only the outside knows (does the app still take
connections?), into an :class:`~exporter.protocol.classify.Ending`. The two directions are followed on their own: when a
client sends what cannot be followed, the server's Close 1002 that answers it is still seen and still decides.

A session knows no clock and no socket. Whoever drives it hands in bytes with a time, and ends of TCP as they come.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

from exporter.protocol.classify import Close, Ending, TcpEnd, classify_close, classify_tcp_end
from exporter.protocol.close_codes import ABNORMAL, UNKNOWN, CloseCodeMap
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.flight_recorder import Ring
from exporter.protocol.frames import Control, Events, FrameCounts, FrameScanner, Opcode, Unparseable
from exporter.protocol.payload_sample import SamplingFrameScanner


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class CloseReceived:
    """``sender`` sent its Close frame."""

    sender: Peer
    close: Close

    def __init__(self, sender: Peer, close: Close) -> None:
        self.sender = sender
        self.close = close


class PingAnswered(NamedTuple):
    """A ping of ``sender`` was answered by a pong with its payload, ``seconds`` after it passed us."""

    sender: Peer
    seconds: float


class WentUnobserved(NamedTuple):
    """The session is no longer understood in at least one direction; told once a session."""

    why: str


Fact = CloseReceived | PingAnswered | WentUnobserved

# Looked up once: Python 3.11 takes a detour to an enum's members.
_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER
_CLOSE: Final = int(Opcode.CLOSE)
_PING: Final = int(Opcode.PING)

#: Close frames whose content is remembered: nearly all say one of a few things.
_KNOWN_CLOSES: Final = 64

#: Pings of one peer that may wait for their pongs; whoever pings faster than it is answered loses the oldest.
MAX_PINGS: Final = 4


@mypyc_attr(acyclic=True)
class Session:
    """The state of one session.

    :param book: what codes mean here.
    :param client: shared counters for the frames that the client sends.
    :param server: shared counters for the frames that the server sends.
    :param now: when it began, on the clock that :meth:`feed` and :meth:`eof` are given.
    :param sample: bytes of each side's last message to keep; 0, the default, keeps none.
    """

    __slots__ = (
        "_closed",
        "_cut",
        "_first",
        "_own",
        "_pings",
        "began",
        "book",
        "client",
        "ring",
        "server",
        "unobserved",
    )

    def __init__(
        self, book: CloseCodeMap, client: FrameCounts, server: FrameCounts, now: float = 0.0, sample: int = 0
    ) -> None:
        self.book = book
        self.began = now
        self.ring = ring = Ring()
        if sample:
            self.client: FrameScanner = SamplingFrameScanner(client, _CLIENT, ring, sample)
            self.server: FrameScanner = SamplingFrameScanner(server, _SERVER, ring, sample)
        else:
            self.client = FrameScanner(client, _CLIENT, ring)
            self.server = FrameScanner(server, _SERVER, ring)
        self.unobserved = False
        self._first: CloseReceived | None = None
        self._closed: tuple[Peer, ...] = ()
        self._cut: TcpEnd | None = None
        self._own: tuple[str, Cause] | None = None
        self._pings: tuple[tuple[Peer, bytes, float], ...] = ()  # not answered yet, oldest first

    def scanner(self, sender: Peer) -> FrameScanner:
        """The scanner of what ``sender`` sends."""
        return self.client if sender is _CLIENT else self.server

    def flush_counts(self) -> None:
        """Bring the shared counters up to date; to be done before they are read, and at the end."""
        self.client.flush_counts()
        self.server.flush_counts()

    def feed(self, sender: Peer, data: bytes, now: float) -> list[Fact]:
        """Take the next bytes that ``sender`` sent; see :meth:`FrameScanner.feed`."""
        heard = self.scanner(sender).feed(data, now)
        return self.note(sender, heard, now) if heard else []

    def note(self, sender: Peer, heard: Events, now: float) -> list[Fact]:
        """Take what the scanner of ``sender`` heard. Returns what is new about the session."""
        facts: list[Fact] = []
        for item in heard:
            if isinstance(item, Unparseable):
                facts += self.lose(item.why)
            elif item.opcode == _CLOSE:
                facts.append(self._close(sender, item))
            elif item.opcode == _PING:
                self._ping(sender, item.payload, now)
            else:
                facts += self._pong(sender, item.payload, now)
        return facts

    def _ping(self, sender: Peer, payload: bytes, now: float) -> None:
        mine = [at for at, ping in enumerate(self._pings) if ping[0] is sender]
        dropped = mine[0] if len(mine) >= MAX_PINGS else -1
        self._pings = (*(ping for at, ping in enumerate(self._pings) if at != dropped), (sender, payload, now))

    def _pong(self, sender: Peer, payload: bytes, now: float) -> list[Fact]:
        """A pong answers the ping with its payload, and all that were sent before it (RFC 6455, section 5.5.3)."""
        pinger = sender.other
        for index, (who, sent, when) in enumerate(self._pings):
            if who is pinger and sent == payload:
                kept = [ping for at, ping in enumerate(self._pings) if ping[0] is not pinger or at > index]
                self._pings = tuple(kept)
                return [PingAnswered(pinger, now - when)]
        return []  # unsolicited, which is allowed

    def lose(self, why: str) -> list[Fact]:
        """Note that a direction is not followed any more. Returns the fact the first time, nothing later."""
        if self.unobserved:
            return []
        self.unobserved = True
        return [WentUnobserved(why)]

    def stop_observing(self) -> None:
        """Stop listening in both directions, for a defect of ours. An ending without a Close so far stays unknown."""
        self.unobserved = True
        for scanner in (self.client, self.server):
            scanner.lost = True
            scanner.rest()

    def _close(self, sender: Peer, frame: Control) -> CloseReceived:
        seen = CloseReceived(sender, _parse_close(frame.payload))
        if self._first is None:
            self._first = seen
        self._closed += (sender,)
        return seen

    def has_closed(self, peer: Peer) -> bool:
        """Whether ``peer`` sent its Close frame."""
        return peer in self._closed

    @property
    def is_closing(self) -> bool:
        """Whether the closing handshake has begun or TCP has begun to end: nothing is left to be told to the peers."""
        return self._first is not None or self._cut is not None or self._own is not None

    def eof(self, sender: Peer, how: TcpEndKind, now: float | None = None) -> None:
        """Note the end of the TCP connection that ``sender``'s bytes came from. Only the first counts.

        ``now`` is None where nobody measured it; then nothing is judged from times.
        """
        if self._cut is not None:
            return
        if now is None:
            self._cut = TcpEnd(sender, how)
            return
        sent, answered = self.client.last or self.began, self.server.last or self.began
        unanswered = 0.0
        if self._pings:
            unanswered = max((now - when for who, _, when in self._pings if who is sender), default=0.0)
        self._cut = TcpEnd(sender, how, now - (sent if sent > answered else answered), unanswered)

    @property
    def cut(self) -> TcpEnd | None:
        """How TCP ended, once it has."""
        return self._cut

    @property
    def idle_before_drop(self) -> float | None:
        """For a session that ended without a Close: seconds for which nothing had passed either way. Else None."""
        return self._cut.idle if self._cut is not None and self._first is None and self._own is None else None

    def end_by_proxy(self, cause: Cause, code: int | None) -> None:
        """Note that we end the session: with a Close frame of ``code``, or by closing TCP if ``code`` is None.

        Has no effect once a peer has begun the end: its own code and cause stand.
        """
        if not self.is_closing:
            self._own = (ABNORMAL if code is None else str(code), cause)

    @property
    def ended_by_proxy(self) -> bool:
        """Whether we began the end."""
        return self._own is not None

    @property
    def needs_app_check(self) -> bool:
        """Whether :meth:`end` depends on the app still taking connections."""
        return (
            self._own is None
            and self._first is None
            and not self.unobserved
            and self._cut is not None
            and self._cut.initiator is _SERVER
        )

    def end(self, app_alive: bool = True) -> Ending:
        """The ending, once both TCP connections are gone. Pure: a second call says the same."""
        if self._own is not None:
            code, cause = self._own
            sent, answered = code != ABNORMAL, self.has_closed(Peer.CLIENT)
            unanswered = sent and not answered and not self.client.lost
            return Ending(code, cause, Peer.PROXY, clean=sent and answered, close_unanswered=unanswered)
        if self._first is not None:
            return self._end_by_close(self._first)
        cut = self._cut or TcpEnd(Peer.PROXY, TcpEndKind.FIN)
        if self.unobserved:
            return Ending(UNKNOWN, Cause.UNOBSERVED, cut.initiator, clean=False)
        return Ending(ABNORMAL, classify_tcp_end(cut, app_alive, self.book.idle), cut.initiator, clean=False)

    def _end_by_close(self, first: CloseReceived) -> Ending:
        initiator, close = first.sender, first.close
        verdict = classify_close(close, self.book)
        other = _SERVER if initiator is _CLIENT else _CLIENT
        clean = other in self._closed
        unanswered = not clean and not self.scanner(other).lost
        return Ending(verdict.label, verdict.cause, initiator, clean, close.reason, unanswered)


@lru_cache(_KNOWN_CLOSES)
def _parse_close(payload: bytes) -> Close:
    """A Close frame's body (RFC 6455, section 5.5.1): nothing, or a code and a reason text."""
    if not payload:
        return Close(None)
    if len(payload) == 1:
        return Close(-1)
    return Close(int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "backslashreplace"))
