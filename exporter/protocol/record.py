"""The record of one session: everything that the wire showed, unclassified.

A relay makes one when a session closes and sends it to the observer; ``tap`` and ``read`` make the same from captured
packets. :mod:`exporter.protocol.classify` turns a record and its circumstances into an
:class:`~exporter.protocol.classify.Ending`. All times are seconds on the monotonic clock of the machine.

:func:`pack` and :func:`unpack` are the wire format between relay and observer, little-endian: a fixed part that begins
with the version and holds every number and the length of every text, then the texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from struct import Struct
from typing import Final
from zlib import crc32

from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.flight_recorder import FRAMES, SLOT

#: First byte of a packed record. Another version is another format.
VERSION: Final = 1
#: Bytes of a packed record at most, whatever its texts are.
MAX_SIZE: Final = 4096
#: Bytes of each text in a record at most, as UTF-8.
MAX_PATH: Final = 512
MAX_REASON: Final = 123  # RFC 6455, section 5.5: a control frame's payload, less the code
MAX_FORWARDED_FOR: Final = 256
MAX_ADDRESS: Final = 64
MAX_SUBPROTOCOL: Final = 64
MAX_TRACE_ID: Final = 32
#: Bytes of each peer's last message that a record can carry (``--record-payload``).
MAX_SAMPLE: Final = 640


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

    # Written out: compiled, it is called without a dict of arguments.
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
    :ivar peer_address: the client-side address without its port: the proxy in front, if there is one.
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
    address: str
    peer_address: str
    forwarded_for: str
    subprotocol: str
    trace_id: str
    frames: bytes

    # Written out: compiled, it is called without a dict of arguments.
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
        address: str = "",
        peer_address: str = "",
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
        self.address = address
        self.peer_address = peer_address
        self.forwarded_for = forwarded_for
        self.subprotocol = subprotocol
        self.trace_id = trace_id
        self.frames = frames

    def peer(self, peer: Peer) -> PeerRecord:
        """Return the direction of ``peer``, a client or a server."""
        return self.client if peer is Peer.CLIENT else self.server

    @property
    def session_id(self) -> str:
        """The name of the session in the log and in reports: another for each session, after a restart as well."""
        return session_id(self.relay, self.number, self.opened_at)


def session_id(relay: int, number: int, opened_at: float) -> str:
    """Return the name of a session in the log and in reports."""
    return f"{crc32(_OPENED.pack(relay, opened_at)):08x}-{number:x}"


_OPENED: Final = Struct("<Hd")


_PEERS: Final = tuple(Peer)
_KINDS: Final = tuple(TcpEndKind)
_CAUSES: Final = tuple(Cause)
#: Stands for None where a number is the index of an enum's member.
_NONE: Final = 255

#: Version, relay, number, route, opened_at, closed_at, handshake_seconds, identity; first_close, tcp_end, tcp_end_kind,
#: proxy_cause, proxy_code, flags; lengths of the six texts and of the flight recorder's slots.
_SESSION: Final = Struct("<BHQHdddQ BBBBHB 6HH")
#: Frames, payload, last_frame_at, last_message_at, last_message_size, last_opcode, largest_before, largest_message;
#: code, reason's length and time of the Close; ping_at, waiting_since; flags; the sample's length.
_PEER: Final = Struct("<QQddQbQQ iHd dd BH")
_FIXED: Final = _SESSION.size + 2 * _PEER.size

_HTTP_TEXT: Final = 1
_ENGINE_IO: Final = 2
_IN_FRAME: Final = 1
_FRAGMENTED: Final = 2
_PEER_UNOBSERVED: Final = 4

#: Stand for a Close frame without a code, and for none.
_EMPTY_CLOSE: Final = -2
_NO_CLOSE: Final = -3


def pack(record: SessionRecord) -> bytes:
    """Return the record as at most :data:`MAX_SIZE` bytes, its texts cut to their limits between characters."""
    texts = [
        _cut(record.path, MAX_PATH),
        _cut(record.address, MAX_ADDRESS),
        _cut(record.peer_address, MAX_ADDRESS),
        _cut(record.forwarded_for, MAX_FORWARDED_FOR),
        _cut(record.subprotocol, MAX_SUBPROTOCOL),
        _cut(record.trace_id, MAX_TRACE_ID),
        record.frames[-FRAMES * SLOT :],
    ]
    session = _SESSION.pack(
        VERSION, record.relay, record.number, record.route, record.opened_at, record.closed_at,
        record.handshake_seconds, record.identity,
        _NONE if record.first_close is None else _PEERS.index(record.first_close),
        _NONE if record.tcp_end is None else _PEERS.index(record.tcp_end),
        _KINDS.index(record.tcp_end_kind),
        _NONE if record.proxy_cause is None else _CAUSES.index(record.proxy_cause),
        record.proxy_code,
        (_HTTP_TEXT if record.http_text else 0) | (_ENGINE_IO if record.engine_io else 0),
        *map(len, texts),
    )  # fmt: skip
    client, server = _pack_peer(record.client, texts), _pack_peer(record.server, texts)
    return b"".join((session, client, server, *texts))


def unpack(message: bytes) -> SessionRecord:
    """Return the record that :func:`pack` made ``message`` from.

    Raises ValueError for any other message, one of another version among them.
    """
    if not message or message[0] != VERSION:
        raise ValueError(f"a record of version {message[0] if message else None} instead of {VERSION}")
    if not _FIXED <= len(message) <= MAX_SIZE:
        raise ValueError(f"a record of {len(message)} bytes")
    (_, relay, number, route, opened_at, closed_at, handshake_seconds, identity, first_close, tcp_end, kind,
     proxy_cause, proxy_code, flags, *sizes, frames_size) = _SESSION.unpack_from(message)  # fmt: skip
    parts = _Parts(message, _FIXED)
    path, address, peer_address, forwarded_for, subprotocol, trace_id = (parts.text(size) for size in sizes)
    frames = parts.take(frames_size)
    if len(frames) % SLOT or len(frames) > FRAMES * SLOT:
        raise ValueError("a record with a part of a frame")
    client = _unpack_peer(message, _SESSION.size, parts)
    server = _unpack_peer(message, _SESSION.size + _PEER.size, parts)
    if parts.at != len(message):
        raise ValueError("a record with bytes after its end")
    try:
        return SessionRecord(
            relay, number, route, opened_at, closed_at, handshake_seconds, identity, client, server,
            None if first_close == _NONE else _PEERS[first_close],
            None if tcp_end == _NONE else _PEERS[tcp_end],
            _KINDS[kind],
            None if proxy_cause == _NONE else _CAUSES[proxy_cause],
            proxy_code, bool(flags & _HTTP_TEXT), bool(flags & _ENGINE_IO), path, address, peer_address,
            forwarded_for, subprotocol, trace_id, frames,
        )  # fmt: skip
    except IndexError as error:
        raise ValueError("a record with an unknown peer, kind or cause") from error


def _pack_peer(peer: PeerRecord, texts: list[bytes]) -> bytes:
    """Return the fixed part of one peer; add its texts to ``texts``."""
    close, sample = peer.close, peer.sample[:MAX_SAMPLE]
    code, reason, close_at = _NO_CLOSE, b"", 0.0
    if close is not None:
        code = _EMPTY_CLOSE if close.code is None else close.code
        reason, close_at = _cut(close.reason, MAX_REASON), close.at
    texts += (reason, sample)
    return _PEER.pack(
        peer.frames, peer.payload, _or_nan(peer.last_frame_at), _or_nan(peer.last_message_at), peer.last_message_size,
        peer.last_opcode, peer.largest_before, peer.largest_message, code, len(reason), close_at,
        _or_nan(peer.ping_at), _or_nan(peer.waiting_since),
        (_IN_FRAME if peer.in_frame else 0)
        | (_FRAGMENTED if peer.fragmented else 0)
        | (_PEER_UNOBSERVED if peer.unobserved else 0),
        len(sample),
    )  # fmt: skip


def _unpack_peer(message: bytes, at: int, parts: _Parts) -> PeerRecord:
    (frames, payload, last_frame_at, last_message_at, last_message_size, last_opcode, largest_before,
     largest_message, code, reason_size, close_at, ping_at, waiting_since, flags,
     sample_size) = _PEER.unpack_from(message, at)  # fmt: skip
    reason = parts.text(reason_size)
    close = None if code == _NO_CLOSE else CloseFrame(None if code == _EMPTY_CLOSE else code, reason, close_at)
    return PeerRecord(
        frames, payload, _or_none(last_frame_at), _or_none(last_message_at), last_message_size, last_opcode,
        largest_before, largest_message, close, _or_none(ping_at), bool(flags & _IN_FRAME), bool(flags & _FRAGMENTED),
        bool(flags & _PEER_UNOBSERVED), _or_none(waiting_since), parts.take(sample_size),
    )  # fmt: skip


class _Parts:
    """Cuts the variable parts off a message, one after the other."""

    def __init__(self, message: bytes, at: int) -> None:
        self.at = at
        self._message = message

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes. Raises ValueError if the message ends before."""
        part = self._message[self.at : self.at + size]
        if len(part) != size:
            raise ValueError("a record that is cut short")
        self.at += size
        return part

    def text(self, size: int) -> str:
        """Return the next ``size`` bytes as text. Raises ValueError if they are none."""
        return self.take(size).decode()


def _cut(text: str, limit: int) -> bytes:
    """Return ``text`` as at most ``limit`` bytes of UTF-8, whole characters; lone surrogates are escaped."""
    encoded = text[:limit].encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded
    while encoded[limit] & 0xC0 == 0x80:
        limit -= 1
    return encoded[:limit]


def _or_nan(seconds: float | None) -> float:
    return nan if seconds is None else seconds


def _or_none(seconds: float) -> float | None:
    return None if seconds != seconds else seconds  # NaN stands for None
