"""The record of one session: everything that the wire showed, unclassified.

A relay makes one when a session closes and sends it to the observer; ``tap`` and ``read`` make the same from captured
packets. :mod:`exporter.protocol.classify` turns a record and its circumstances into an
:class:`~exporter.protocol.classify.Ending`. All times are seconds on the monotonic clock of the machine.

:mod:`exporter.protocol.record_format` has its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final
from zlib import crc32

from mypy_extensions import mypyc_attr

from exporter.address import format_host_port
from exporter.protocol.enums import Cause, Peer, TcpEndKind

#: Bytes of each text in a packed record at most, as UTF-8.
MAX_PATH: Final = 512
MAX_REASON: Final = 123  # RFC 6455, section 5.5: a control frame's payload, less the code
MAX_FORWARDED_FOR: Final = 256
MAX_ADDRESS: Final = 64
MAX_SUBPROTOCOL: Final = 64
MAX_TRACE_ID: Final = 32
#: Bytes of each peer's last message that a record can carry (``--record-payload``).
MAX_SAMPLE: Final = 640


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
class CloseFrame:
    """A Close frame that a peer sent.

    :ivar code: None for an empty body, -1 for a body of one byte, which is no code (RFC 6455, section 5.5.1).
    :ivar reason: the reason text; bytes that are no UTF-8 are escaped.
    :ivar at: when the frame passed.
    """

    code: int | None
    reason: str
    at: float

    # Written out, like those below: compiled, it is called without a dict of arguments.
    def __init__(self, code: int | None, reason: str, at: float) -> None:
        self.code = code
        self.reason = reason
        self.at = at


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
class PeerRecord:
    """One peer of a session: the frames that it sent, and the bytes that waited for it.

    :ivar frames: frames whose header was complete.
    :ivar payload: payload bytes.
    :ivar last_frame_at: when bytes of this peer last passed; None for never.
    :ivar last_message_at: when its last data frame began; None for never.
    :ivar last_message_size: payload bytes that the header of this frame announced.
    :ivar last_opcode: the opcode of its last frame; -1 for none.
    :ivar largest_before: the largest payload length announced by a data frame of this peer before that last one.
    :ivar largest_message: payload bytes of its largest message, as far as it came in whole frames.
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

    frames: int
    payload: int
    last_frame_at: float | None
    last_message_at: float | None
    last_message_size: int
    last_opcode: int
    largest_before: int
    largest_message: int
    close: CloseFrame | None
    ping_at: float | None
    in_frame: bool
    fragmented: bool
    unobserved: bool
    waiting_since: float | None
    sample: bytes

    def __init__(
        self,
        frames: int = 0,
        payload: int = 0,
        last_frame_at: float | None = None,
        last_message_at: float | None = None,
        last_message_size: int = 0,
        last_opcode: int = -1,
        largest_before: int = 0,
        largest_message: int = 0,
        close: CloseFrame | None = None,
        ping_at: float | None = None,
        in_frame: bool = False,
        fragmented: bool = False,
        unobserved: bool = False,
        waiting_since: float | None = None,
        sample: bytes = b"",
    ) -> None:
        self.frames = frames
        self.payload = payload
        self.last_frame_at = last_frame_at
        self.last_message_at = last_message_at
        self.last_message_size = last_message_size
        self.last_opcode = last_opcode
        self.largest_before = largest_before
        self.largest_message = largest_message
        self.close = close
        self.ping_at = ping_at
        self.in_frame = in_frame
        self.fragmented = fragmented
        self.unobserved = unobserved
        self.waiting_since = waiting_since
        self.sample = sample


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
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
    :ivar peer_address: the client-side address without its port: the proxy in front, if there is one; empty on a Unix
        socket. ``peer_port`` is its port.
    :ivar frames: the flight recorder's slots, oldest first (:mod:`exporter.protocol.flight_recorder`).
    """

    relay: int
    number: int
    route: int
    opened_at: float
    closed_at: float
    handshake_seconds: float
    identity: int
    client: PeerRecord
    server: PeerRecord
    first_close: Peer | None
    tcp_end: Peer | None
    tcp_end_kind: TcpEndKind
    proxy_cause: Cause | None
    proxy_code: int
    http_text: bool
    engine_io: bool
    path: str
    peer_address: str
    peer_port: int
    forwarded_for: str
    subprotocol: str
    trace_id: str
    frames: bytes

    def __init__(
        self,
        relay: int = 0,
        number: int = 0,
        route: int = 0,
        opened_at: float = 0.0,
        closed_at: float = 0.0,
        handshake_seconds: float = 0.0,
        identity: int = 0,
        client: PeerRecord | None = None,
        server: PeerRecord | None = None,
        first_close: Peer | None = None,
        tcp_end: Peer | None = None,
        tcp_end_kind: TcpEndKind = TcpEndKind.FIN,
        proxy_cause: Cause | None = None,
        proxy_code: int = 0,
        http_text: bool = False,
        engine_io: bool = False,
        path: str = "",
        peer_address: str = "",
        peer_port: int = 0,
        forwarded_for: str = "",
        subprotocol: str = "",
        trace_id: str = "",
        frames: bytes = b"",
    ) -> None:
        self.relay = relay
        self.number = number
        self.route = route
        self.opened_at = opened_at
        self.closed_at = closed_at
        self.handshake_seconds = handshake_seconds
        self.identity = identity
        self.client = PeerRecord() if client is None else client
        self.server = PeerRecord() if server is None else server
        self.first_close = first_close
        self.tcp_end = tcp_end
        self.tcp_end_kind = tcp_end_kind
        self.proxy_cause = proxy_cause
        self.proxy_code = proxy_code
        self.http_text = http_text
        self.engine_io = engine_io
        self.path = path
        self.peer_address = peer_address
        self.peer_port = peer_port
        self.forwarded_for = forwarded_for
        self.subprotocol = subprotocol
        self.trace_id = trace_id
        self.frames = frames

    def peer(self, peer: Peer) -> PeerRecord:
        """Return the direction of ``peer``, a client or a server."""
        return self.client if peer is Peer.CLIENT else self.server

    @property
    def address(self) -> str:
        """The client-side address with its port, as text; empty on a Unix socket."""
        return format_host_port(self.peer_address, self.peer_port) if self.peer_address else ""

    @property
    def session_id(self) -> str:
        """The name of the session in the log and in reports: another for each session, after a restart as well."""
        return f"{crc32(_OPENED.pack(self.relay, self.opened_at)):08x}-{self.number:x}"


_OPENED: Final = Struct("<Hd")
