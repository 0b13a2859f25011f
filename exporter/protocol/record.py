"""The record of one session: everything that the wire showed, unclassified.

A relay makes one when a session closes and sends it to the observer; ``tap`` and ``read`` make the same from captured
packets. :mod:`exporter.protocol.classify` turns a record and its circumstances into an
:class:`~exporter.protocol.classify.Ending`. All times are seconds on the monotonic clock of the machine.

:func:`pack` and :func:`unpack` are the format between relay and observer: the version, a fixed part that holds every
number and the length of every text, the texts, the flight recorder's slots, the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from struct import Struct
from typing import Any, Final
from zlib import crc32

from mypy_extensions import i64, mypyc_attr

from exporter.address import format_host_port
from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.flight_recorder import FRAMES, SLOT

#: First byte of a packed record. Another version is another format.
VERSION: Final = 3
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


_PEERS: Final = tuple(Peer)
_KINDS: Final = tuple(TcpEndKind)
_CAUSES: Final = tuple(Cause)
# Looked up once: Python 3.11 takes a detour to an enum's members.
_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER
_FIN: Final = TcpEndKind.FIN
_RESET: Final = TcpEndKind.RESET

#: Number, identity; opened_at, closed_at, handshake_seconds; three words of smaller numbers, see :func:`pack`, and one
#: of the texts' lengths in bytes, see :data:`_WIDTHS`. Then of each peer frames, payload, last_message_size,
#: largest_before, largest_message; last_frame_at, last_message_at, the time of its Close, ping_at, waiting_since.
#: Records do not leave the machine: its own byte order and alignment are the fastest.
_FIXED: Final = Struct("@2Q 3d 4q" + 2 * "5Q 5d")
_pack_fixed: Final = _FIXED.pack
_VERSION: Final = bytes((VERSION,))
#: Where the texts begin.
_TEXTS: Final = len(_VERSION) + _FIXED.size

#: Bits of the length of each text: path, peer_address, forwarded_for, subprotocol, trace_id, the reasons of the
#: client's and the server's Close. Each holds the text's limit.
_WIDTHS: Final[tuple[int, ...]] = (10, 7, 9, 7, 6, 7, 7)
_LIMITS: Final[tuple[int, ...]] = (
    MAX_PATH, MAX_ADDRESS, MAX_FORWARDED_FOR, MAX_SUBPROTOCOL, MAX_TRACE_ID, MAX_REASON, MAX_REASON
)  # fmt: skip

#: Stand for a Close frame without a code, and for none.
_EMPTY_CLOSE: Final = -2
_NO_CLOSE: Final = -3


def pack(record: SessionRecord, prefix: bytes = b"") -> bytes:
    """Return the record as at most :data:`MAX_SIZE` bytes behind ``prefix``.

    Its texts are cut to their limits between characters.
    """
    client, server = record.client, record.server
    here, there = client.close, server.close
    texts = [
        record.path, record.peer_address, record.forwarded_for, record.subprotocol, record.trace_id,
        "" if here is None else here.reason, "" if there is None else there.reason,
    ]  # fmt: skip
    text = "".join(texts)
    lengths: i64 = -1
    if text.isascii():  # a character is a byte
        lengths = _lengths(texts)
    if lengths >= 0:
        body = text.encode()
    else:
        cut = [_cut(part, limit) for part, limit in zip(texts, _LIMITS, strict=True)]
        body = b"".join(cut)
        lengths = _lengths([part.decode("latin-1") for part in cut])
    frames = record.frames
    if len(frames) > FRAMES * SLOT:
        frames = frames[-FRAMES * SLOT :]
    slots: i64 = len(frames) // SLOT
    samples: i64 = 0
    if client.sample or server.sample:
        samples = min(len(client.sample), MAX_SAMPLE) | min(len(server.sample), MAX_SAMPLE) << 10
    relay: i64 = record.relay
    route: i64 = record.route
    port: i64 = record.peer_port
    proxy_code: i64 = record.proxy_code
    cause: i64 = 0 if record.proxy_cause is None else _CAUSES.index(record.proxy_cause) + 1
    flags: i64 = (1 if record.http_text else 0) | (2 if record.engine_io else 0)
    fixed = _pack_fixed(
        record.number, record.identity, record.opened_at, record.closed_at, record.handshake_seconds,
        relay | route << 16 | proxy_code << 32 | slots << 48,
        _peer_bits(client) | _peer_bits(server) << 32,
        _peer_index(record.first_close) | _peer_index(record.tcp_end) << 2 | _kind_index(record.tcp_end_kind) << 4
        | flags << 6 | cause << 8 | samples << 16 | port << 36,
        lengths,
        client.frames, client.payload, client.last_message_size, client.largest_before, client.largest_message,
        _or_nan(client.last_frame_at), _or_nan(client.last_message_at), nan if here is None else here.at,
        _or_nan(client.ping_at), _or_nan(client.waiting_since),
        server.frames, server.payload, server.last_message_size, server.largest_before, server.largest_message,
        _or_nan(server.last_frame_at), _or_nan(server.last_message_at), nan if there is None else there.at,
        _or_nan(server.ping_at), _or_nan(server.waiting_since),
    )  # fmt: skip
    parts = [prefix, _VERSION, fixed, body, frames]
    if samples:
        parts += [client.sample[:MAX_SAMPLE], server.sample[:MAX_SAMPLE]]
    return b"".join(parts)


def unpack(message: bytes, start: i64 = 0) -> SessionRecord:
    """Return the record that :func:`pack` made; it begins at index ``start`` of ``message`` and ends with it.

    Raises ValueError for any other message, one of another version among them.
    """
    size: i64 = len(message) - start
    if size < 1 or message[start] != VERSION:
        raise ValueError(f"a record of version {message[start] if size > 0 else None} instead of {VERSION}")
    if not _TEXTS <= size <= MAX_SIZE:
        raise ValueError(f"a record of {size} bytes")
    fixed = _FIXED.unpack_from(message, start + 1)
    numbers: i64 = fixed[5]
    peers: i64 = fixed[6]
    rest: i64 = fixed[7]
    lengths: i64 = fixed[8]
    at: i64 = start + _TEXTS
    texts: list[str] = []
    for index in range(len(_WIDTHS)):
        width: i64 = _WIDTHS[index]
        end = at + (lengths & (1 << width) - 1)
        if end > len(message):
            break  # with lengths left
        texts.append(message[at:end].decode() if end > at else "")
        lengths >>= width
        at = end
    slots: i64 = numbers >> 48
    samples = at + slots * SLOT
    second = samples + (rest >> 16 & 0x3FF)
    if lengths or not 0 <= slots <= FRAMES or rest >> 52 or second + (rest >> 26 & 0x3FF) != len(message):
        raise ValueError("a record of another length than its parts")
    first_close, tcp_end, kind, cause = rest & 3, rest >> 2 & 3, rest >> 4 & 3, rest >> 8 & 0xFF
    if kind >= len(_KINDS) or cause > len(_CAUSES):
        raise ValueError("a record with an unknown kind or cause")
    return SessionRecord(
        numbers & 0xFFFF, fixed[0], numbers >> 16 & 0xFFFF, fixed[2], fixed[3], fixed[4], fixed[1],
        _unpack_peer(fixed, 9, peers & 0xFFFFFFFF, texts[5], message[samples:second]),
        _unpack_peer(fixed, 19, peers >> 32, texts[6], message[second:]),
        _PEERS[first_close - 1] if first_close else None,
        _PEERS[tcp_end - 1] if tcp_end else None,
        _KINDS[kind],
        _CAUSES[cause - 1] if cause else None,
        numbers >> 32 & 0xFFFF, bool(rest & 0x40), bool(rest & 0x80), texts[0], texts[1], rest >> 36, texts[2],
        texts[3], texts[4], message[at:samples],
    )  # fmt: skip


def _lengths(texts: list[str]) -> i64:
    """Return the lengths of ASCII texts as one number; -1 if one is over its limit."""
    lengths: i64 = 0
    shift: i64 = 0
    for index in range(len(_WIDTHS)):
        size: i64 = len(texts[index])
        if size > _LIMITS[index]:
            return -1
        lengths |= size << shift
        shift += _WIDTHS[index]
    return lengths


def _peer_bits(peer: PeerRecord) -> i64:
    """Return flags, last opcode and the Close's code of a peer as one number."""
    code: i64 = _NO_CLOSE
    if (close := peer.close) is not None:
        code = _EMPTY_CLOSE if close.code is None else close.code
    opcode: i64 = peer.last_opcode
    bits: i64 = (1 if peer.in_frame else 0) | (2 if peer.fragmented else 0) | (4 if peer.unobserved else 0)
    return bits | opcode + 1 << 3 | code - _NO_CLOSE << 8


def _unpack_peer(fixed: tuple[Any, ...], at: i64, bits: i64, reason: str, sample: bytes) -> PeerRecord:
    code = (bits >> 8) + _NO_CLOSE
    close = None if code == _NO_CLOSE else CloseFrame(None if code == _EMPTY_CLOSE else code, reason, fixed[at + 7])
    return PeerRecord(
        fixed[at], fixed[at + 1], _or_none(fixed[at + 5]), _or_none(fixed[at + 6]), fixed[at + 2],
        (bits >> 3 & 0x1F) - 1, fixed[at + 3], fixed[at + 4], close, _or_none(fixed[at + 8]), bool(bits & 1),
        bool(bits & 2), bool(bits & 4), _or_none(fixed[at + 9]), sample,
    )  # fmt: skip


def _peer_index(peer: Peer | None) -> i64:
    """Return the position of ``peer`` among all, from 1; 0 for None."""
    return 0 if peer is None else 1 if peer is _CLIENT else 2 if peer is _SERVER else 3


def _kind_index(kind: TcpEndKind) -> i64:
    return 0 if kind is _FIN else 1 if kind is _RESET else 2


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
