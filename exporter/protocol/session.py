"""One WebSocket connection through the sidecar, from its 101 to its close: the evidence that the wire shows.

    OPEN ──── a peer's Close frame ────► CLOSING ──── the other's Close frame ────► CLOSED
      │                                     │                                         ▲
      ├──── end_by_proxy(cause, code) ──────┤                                         │
      └─────────────────────────────────────┴──── either TCP connection ends ─────────┘

A session owns two scanners, one for each direction, and gathers

- each peer's first Close frame, and which came first;
- whose TCP connection ended first, how and when;
- which pings have not been answered;
- whether a direction could not be parsed any more, or held HTTP text;
- whether the sidecar itself began the end.

All this goes into its :class:`~exporter.protocol.record.SessionRecord`. The two directions are independent: when a
client sends a frame that cannot be parsed, the server's Close 1002 that answers it still counts.

A session has no clock and no socket. Its caller passes in bytes with their times, and the ends of TCP connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

from exporter.protocol.direction import NEVER, FrameCounts
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.flight_recorder import Ring
from exporter.protocol.frame_header import Control, Events, Opcode, Unparseable
from exporter.protocol.frames import FrameScanner
from exporter.protocol.payload_sample import SamplingFrameScanner
from exporter.protocol.record import MAX_SAMPLE, CloseFrame, PeerRecord, SessionRecord


class State(IntEnum):
    """How far the end of a session has come; see the diagram."""

    OPEN = 0
    CLOSING = 1
    CLOSED = 2


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
class CloseReceived:
    """``sender`` sent its Close frame."""

    sender: Peer
    close: CloseFrame

    # Written out: compiled, it is called without a dict of arguments.
    def __init__(self, sender: Peer, close: CloseFrame) -> None:
        self.sender = sender
        self.close = close


class PingAnswered(NamedTuple):
    """A ping of ``sender`` was answered by a pong with its payload, ``seconds`` after it passed."""

    sender: Peer
    seconds: float


class WentUnobserved(NamedTuple):
    """At least one direction cannot be parsed any more; reported once a session."""

    why: str


Event = CloseReceived | PingAnswered | WentUnobserved

# Looked up once: Python 3.11 takes a detour to an enum's members.
_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER
_OPEN: Final = State.OPEN
_CLOSING: Final = State.CLOSING
_CLOSED: Final = State.CLOSED
_CLOSE: Final = int(Opcode.CLOSE)
_PING: Final = int(Opcode.PING)

#: Unanswered pings of one peer that are kept: its oldest and its newest.
MAX_PINGS: Final = 4


@mypyc_attr(acyclic=True)
class Session:
    """The state of one session.

    :param client: shared counters for the frames that the client sends.
    :param server: shared counters for the frames that the server sends.
    :param record: its record with the handshake, ``opened_at`` on the clock of :meth:`feed` and :meth:`eof`; by default
        one that opened at 0. With ``engine_io``, one-byte text frames ``2`` and ``3`` are pings and pongs.
    :param sample: bytes of each peer's last message to keep; 0 keeps none.
    :ivar state: how far its end has come.
    :ivar closed_at: when it closed: both Close frames had passed, or a TCP connection ended. None before.
    :ivar unobserved: a direction could not be parsed any more.
    """

    __slots__ = (
        "_client_close", "_pings", "_server_close", "client", "closed_at", "record", "ring", "server", "state",
        "unobserved",
    )  # fmt: skip

    def __init__(
        self, client: FrameCounts, server: FrameCounts, record: SessionRecord | None = None, sample: int = 0
    ) -> None:
        self.record = SessionRecord() if record is None else record
        engine_io = self.record.engine_io
        self.ring = ring = Ring()
        if sample:
            self.client: FrameScanner = SamplingFrameScanner(client, _CLIENT, ring, sample, engine_io)
            self.server: FrameScanner = SamplingFrameScanner(server, _SERVER, ring, sample, engine_io)
        else:
            self.client = FrameScanner(client, _CLIENT, ring, engine_io)
            self.server = FrameScanner(server, _SERVER, ring, engine_io)
        self.state = _OPEN
        self.closed_at: float | None = None
        self.unobserved = False
        self._client_close: CloseFrame | None = None
        self._server_close: CloseFrame | None = None
        self._pings: tuple[tuple[Peer, bytes, float], ...] = ()  # not answered yet, oldest first

    def scanner(self, sender: Peer) -> FrameScanner:
        """Return the scanner of the bytes that ``sender`` sends."""
        return self.client if sender is _CLIENT else self.server

    def flush_counts(self) -> None:
        """Bring the shared counters up to date; to be done before they are read, and at the end."""
        self.client.flush_counts()
        self.server.flush_counts()

    def feed(self, sender: Peer, data: bytes, now: float) -> list[Event]:
        """Parse the next bytes that ``sender`` sent, all at once; see :meth:`FrameScanner.feed`."""
        scanner = self.scanner(sender)
        events = scanner.feed(data, now)
        reported = self.handle(sender, events, now) if events else []
        while scanner.backlog:
            events = scanner.resume(now)
            if events:
                reported += self.handle(sender, events, now)
        return reported

    def handle(self, sender: Peer, events: Events, now: float) -> list[Event]:
        """Handle the events of the scanner of ``sender``. Returns the session's own."""
        reported: list[Event] = []
        for event in events:
            if isinstance(event, Unparseable):
                if sender is _SERVER and self.server.http_text:
                    self.record.http_text = self.record.first_close is None
                else:
                    reported += self.mark_unobserved(event.why)
            elif event.opcode == _CLOSE:
                reported.append(self._close(sender, event, now))
            elif event.opcode == _PING:
                self._ping(sender, event.payload, now)
            else:
                reported += self._pong(sender, event.payload, now)
        return reported

    def _ping(self, sender: Peer, payload: bytes, now: float) -> None:
        own = [at for at, ping in enumerate(self._pings) if ping[0] is sender]
        dropped = own[1] if len(own) >= MAX_PINGS else -1  # the oldest shows how long it has waited
        self._pings = (*(ping for at, ping in enumerate(self._pings) if at != dropped), (sender, payload, now))

    def _pong(self, sender: Peer, payload: bytes, now: float) -> list[Event]:
        """Remove the ping with the pong's payload, and all sent before it (RFC 6455, section 5.5.3)."""
        pinger = sender.other
        for index, (peer, sent, when) in enumerate(self._pings):
            if peer is pinger and sent == payload:
                kept = [ping for at, ping in enumerate(self._pings) if ping[0] is not pinger or at > index]
                self._pings = tuple(kept)
                return [PingAnswered(pinger, now - when)]
        return []  # unsolicited, which is allowed

    def mark_unobserved(self, why: str) -> list[Event]:
        """Note that a direction is not parsed any more. Returns the event the first time, nothing later."""
        if self.unobserved:
            return []
        self.unobserved = True
        return [WentUnobserved(why)]

    def stop_observing(self) -> None:
        """Stop parsing both directions, for a defect of ours or want of time. An end without a Close stays unknown."""
        self.unobserved = True
        for scanner in (self.client, self.server):
            scanner.unobserved = True
            scanner.stop()

    def _close(self, sender: Peer, frame: Control, now: float) -> CloseReceived:
        seen = _parse_close(frame.payload, now)
        if sender is _CLIENT:
            self._client_close = seen
        else:
            self._server_close = seen
        record = self.record
        if record.first_close is None:
            record.first_close = sender
        answered = record.first_close is not sender or (record.proxy_code and sender is _CLIENT)
        self._advance(_CLOSED if answered else _CLOSING, now)
        return CloseReceived(sender, seen)

    def _advance(self, state: State, now: float | None = None) -> None:
        if self.state is not _CLOSED:
            self.state = state
            self.closed_at = now if state is _CLOSED else None

    def has_closed(self, peer: Peer) -> bool:
        """Return whether ``peer`` sent its Close frame."""
        return (self._client_close if peer is _CLIENT else self._server_close) is not None

    @property
    def both_closed(self) -> bool:
        """Whether both peers sent their Close frames."""
        return self._client_close is not None and self._server_close is not None

    @property
    def is_closing(self) -> bool:
        """Whether a Close frame has passed, TCP has begun to end, or the sidecar has begun the end."""
        return self.state is not _OPEN

    def eof(self, sender: Peer, kind: TcpEndKind, now: float) -> None:
        """Note the end of the TCP connection that ``sender``'s bytes came from. Only the first counts."""
        if self.record.tcp_end is None:
            self.record.tcp_end, self.record.tcp_end_kind = sender, kind
            self._advance(_CLOSED, now)

    def end_by_proxy(self, cause: Cause, code: int | None) -> None:
        """Note that the sidecar ends the session: with a Close frame of ``code``, or by closing TCP if it is None.

        Has no effect once a peer has begun the end: its own code and cause stand.
        """
        if self.state is _OPEN:
            self.record.proxy_cause, self.record.proxy_code = cause, code or 0
            self._advance(_CLOSING)

    @property
    def ended_by_proxy(self) -> bool:
        """Whether the sidecar began the end."""
        return self.record.proxy_cause is not None

    def finish(self, now: float) -> SessionRecord:
        """Return the session's record, completed with the facts from its frames.

        ``now`` stands for the time of the close where none was seen.
        """
        record = self.record
        record.closed_at = now if self.closed_at is None else self.closed_at
        record.client = self._peer_record(_CLIENT)
        record.server = self._peer_record(_SERVER)
        record.frames = self.ring.in_order()
        return record

    def _peer_record(self, peer: Peer) -> PeerRecord:
        scanner = self.scanner(peer)
        return PeerRecord(
            frames=scanner.frames,
            payload=scanner.payload,
            last_frame_at=scanner.last,
            last_message_at=None if scanner.message_at == NEVER else scanner.message_at,
            last_message_size=scanner.message_size,
            last_opcode=scanner.last_opcode,
            largest_before=scanner.largest_before,
            largest_message=scanner.largest_message,
            close=self._client_close if peer is _CLIENT else self._server_close,
            ping_at=next((when for pinger, _, when in self._pings if pinger is peer), None),
            in_frame=scanner.in_frame,
            fragmented=scanner.fragmented,
            unobserved=scanner.unobserved,
            sample=scanner.sample[:MAX_SAMPLE],
        )


def _parse_close(payload: bytes, at: float) -> CloseFrame:
    """Return the Close frame with this body (RFC 6455, section 5.5.1)."""
    size = len(payload)
    if size < 2:
        return CloseFrame(-1 if size else None, "", at)
    reason = payload[2:].decode("utf-8", "backslashreplace") if size > 2 else ""
    return CloseFrame(payload[0] << 8 | payload[1], reason, at)
