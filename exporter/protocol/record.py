"""The record of one session: everything that the wire showed, no judgement.

A relay makes one when a session closes and sends it to the observer; ``tap`` and ``read`` make the same from captured
packets. :mod:`exporter.protocol.classify` turns a record and its circumstances into an
:class:`~exporter.protocol.classify.Ending`. All times are seconds on the monotonic clock of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.protocol.enums import Cause, Peer, TcpEndKind

#: Bytes of a packed record at most; texts are cut to fit.
MAX_SIZE = 4096
#: Bytes of each text in a record at most, as UTF-8.
MAX_PATH = 512
MAX_REASON = 123  # RFC 6455, section 5.5: a control frame's payload, less the code
MAX_FORWARDED_FOR = 256
MAX_ADDRESS = 64
MAX_SUBPROTOCOL = 64
MAX_TRACE_ID = 32
#: Bytes of each peer's last message that a record can carry (``--record-payload``).
MAX_SAMPLE = 768


@dataclass(slots=True)
class CloseFrame:
    """A Close frame that a peer sent.

    :ivar code: None for an empty body, -1 for a body of one byte, which is no code (RFC 6455, section 5.5.1).
    :ivar reason: the reason text; bytes that are no UTF-8 are escaped.
    :ivar at: when the frame passed.
    """

    code: int | None
    reason: str
    at: float


@dataclass(slots=True)
class PeerRecord:
    """One direction of a session: what this peer sent, and what waited for it.

    :ivar frames: frames whose header was complete.
    :ivar payload: payload bytes.
    :ivar last_frame_at: when bytes of this peer last passed; None for never.
    :ivar last_message_at: when its last data frame began; None for never.
    :ivar last_message_size: payload bytes that the header of this frame announced.
    :ivar last_opcode: the opcode of its last frame; -1 for none.
    :ivar largest_before: the largest payload length announced by this peer before that last data frame.
    :ivar largest_message: payload bytes of its largest whole message.
    :ivar close: its first Close frame.
    :ivar ping_at: when its oldest unanswered ping passed (an Engine.IO heartbeat counts as a ping); None if all pings
        were answered.
    :ivar in_frame: its last frame was incomplete when the session ended.
    :ivar fragmented: its last message was incomplete.
    :ivar unobserved: parsing of this direction had stopped.
    :ivar waiting_since: since when the bytes that wait for this peer were above the high-water mark, as of the end;
        None if they were not.
    :ivar sample: the first bytes of its last message.
    """

    frames: int = 0
    payload: int = 0
    last_frame_at: float | None = None
    last_message_at: float | None = None
    last_message_size: int = 0
    last_opcode: int = -1
    largest_before: int = 0
    largest_message: int = 0
    close: CloseFrame | None = None
    ping_at: float | None = None
    in_frame: bool = False
    fragmented: bool = False
    unobserved: bool = False
    waiting_since: float | None = None
    sample: bytes = b""


@dataclass(slots=True)
class SessionRecord:
    """One session, from its 101 to its close.

    :ivar relay: the number of the relay process that carried it.
    :ivar number: the session's number in that relay, from 1.
    :ivar route: index into the names of the routes.
    :ivar opened_at: when the 101 passed.
    :ivar closed_at: when the session ended: the second Close frame, or the first end of TCP.
    :ivar handshake_seconds: from the request to the 101.
    :ivar identity: keyed hash of the client's identity; 0 if nothing identifies it.
    :ivar first_close: the peer whose Close frame came first; None if no Close frame passed.
    :ivar tcp_end: the peer whose TCP connection ended first; None if none had ended at ``closed_at``.
    :ivar tcp_end_kind: how it ended.
    :ivar proxy_cause: drain or limit, if the sidecar began the end; then ``proxy_code`` is the code of its Close frame,
        0 if it sent none.
    :ivar http_text: the server wrote HTTP text at a frame boundary after the 101.
    :ivar engine_io: the request's query names Engine.IO (``EIO=``).
    :ivar peer_address: the client-side address without its port: the proxy in front, if there is one.
    :ivar frames: the flight recorder's slots, oldest first (:mod:`exporter.protocol.flight_recorder`).
    """

    relay: int = 0
    number: int = 0
    route: int = 0
    opened_at: float = 0.0
    closed_at: float = 0.0
    handshake_seconds: float = 0.0
    identity: int = 0
    client: PeerRecord = field(default_factory=PeerRecord)
    server: PeerRecord = field(default_factory=PeerRecord)
    first_close: Peer | None = None
    tcp_end: Peer | None = None
    tcp_end_kind: TcpEndKind = TcpEndKind.FIN
    proxy_cause: Cause | None = None
    proxy_code: int = 0
    http_text: bool = False
    engine_io: bool = False
    path: str = ""
    address: str = ""
    peer_address: str = ""
    forwarded_for: str = ""
    subprotocol: str = ""
    trace_id: str = ""
    frames: bytes = b""

    def peer(self, peer: Peer) -> PeerRecord:
        """Return the direction of ``peer``, a client or a server."""
        return self.client if peer is Peer.CLIENT else self.server
