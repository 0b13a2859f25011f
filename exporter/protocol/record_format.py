"""A session's record as bytes, on the way from relay to observer.

version, the fixed part: every number and the size of each following part, texts, flight recorder's slots, samples
"""

from __future__ import annotations

from math import nan
from struct import Struct
from typing import Any, Final

from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.flight_recorder import RING, SLOT
from exporter.protocol.record import (
    MAX_ADDRESS,
    MAX_FORWARDED_FOR,
    MAX_PATH,
    MAX_REASON,
    MAX_SAMPLE,
    MAX_SUBPROTOCOL,
    MAX_TRACE_ID,
    CloseFrame,
    PeerRecord,
    SessionRecord,
)

#: First byte of a packed record. Another version is another format.
VERSION: Final = 4
#: Bytes of a packed record at most.
MAX_SIZE: Final = 4096

#: Number, identity; opened_at, closed_at, handshake_seconds. Of each peer frames, payload, last_message_size,
#: largest_before, largest_message, last_frame_at, last_message_at, the time of its Close, ping_at, waiting_since. Codes
#: of the client's and the server's Close. Relay, route, peer_port, proxy_code; sizes of path, peer_address,
#: forwarded_for, subprotocol, trace_id, both reasons, frames and both samples. Cause, ends, each peer's flags.
#: Records do not leave the machine: its own byte order and alignment are the fastest.
_FIXED: Final = Struct("@2Q 3d" + 2 * "5Q 5d" + "2i 4H 10H 4B")
_pack_fixed: Final = _FIXED.pack
_VERSION: Final = bytes((VERSION,))
#: Positions in the fixed part.
_CLIENT_AT: Final = 5
_SERVER_AT: Final = 15
_CODES_AT: Final = 25
_ORIGIN_AT: Final = 27
_SIZES_AT: Final = 31
_FLAGS_AT: Final = 41

#: Stand for the code of a Close frame without one, and of none.
_EMPTY_CLOSE: Final = -2
_NO_CLOSE: Final = -3

_PEERS: Final = (None, *Peer)
_KINDS: Final = tuple(TcpEndKind)
_CAUSES: Final = (None, *Cause)
# Looked up once: Python 3.11 takes a detour to an enum's members.
_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER
_FIN: Final = TcpEndKind.FIN
_RESET: Final = TcpEndKind.RESET


def pack(record: SessionRecord) -> bytes:
    """Return the record as at most :data:`MAX_SIZE` bytes. Its texts are cut to their limits between characters."""
    client, server = record.client, record.server
    path = _encode(record.path, MAX_PATH)
    address = _encode(record.peer_address, MAX_ADDRESS)
    forwarded_for = _encode(record.forwarded_for, MAX_FORWARDED_FOR)
    subprotocol = _encode(record.subprotocol, MAX_SUBPROTOCOL)
    trace = _encode(record.trace_id, MAX_TRACE_ID)
    client_code, client_reason, client_closed_at = _close(client.close)
    server_code, server_reason, server_closed_at = _close(server.close)
    frames = record.frames[-RING:]
    client_sample, server_sample = client.sample[:MAX_SAMPLE], server.sample[:MAX_SAMPLE]
    ends = _peer_index(record.first_close) | _peer_index(record.tcp_end) << 2 | _kind_index(record.tcp_end_kind) << 4
    if record.http_text:
        ends |= 0x40
    if record.engine_io:
        ends |= 0x80
    fixed = _pack_fixed(
        record.number, record.identity, record.opened_at, record.closed_at, record.handshake_seconds,
        client.frames, client.payload, client.last_message_size, client.largest_before, client.largest_message,
        _or_nan(client.last_frame_at), _or_nan(client.last_message_at), client_closed_at,
        _or_nan(client.ping_at), _or_nan(client.waiting_since),
        server.frames, server.payload, server.last_message_size, server.largest_before, server.largest_message,
        _or_nan(server.last_frame_at), _or_nan(server.last_message_at), server_closed_at,
        _or_nan(server.ping_at), _or_nan(server.waiting_since),
        client_code, server_code, record.relay, record.route, record.peer_port, record.proxy_code,
        len(path), len(address), len(forwarded_for), len(subprotocol), len(trace), len(client_reason),
        len(server_reason), len(frames), len(client_sample), len(server_sample),
        0 if record.proxy_cause is None else _CAUSES.index(record.proxy_cause), ends,
        _peer_flags(client), _peer_flags(server),
    )  # fmt: skip
    return b"".join(
        (_VERSION, fixed, path, address, forwarded_for, subprotocol, trace, client_reason, server_reason, frames,
         client_sample, server_sample)
    )  # fmt: skip


def unpack(message: bytes) -> SessionRecord:
    """Return the record that :func:`pack` made.

    Raises ValueError for any other message, one of another version among them.
    """
    if not message.startswith(_VERSION):
        raise ValueError(f"a record of version {message[0] if message else None} instead of {VERSION}")
    at = len(_VERSION) + _FIXED.size
    if not at <= len(message) <= MAX_SIZE:
        raise ValueError(f"a record of {len(message)} bytes")
    fixed: tuple[Any, ...] = _FIXED.unpack_from(message, len(_VERSION))
    parts: list[bytes] = []  # by index from here on: compiled, that is fastest
    for place in range(_SIZES_AT, _FLAGS_AT):
        size: int = fixed[place]
        parts.append(message[at : at + size] if size else b"")
        at += size
    path, address, forwarded_for, subprotocol, trace = parts[0], parts[1], parts[2], parts[3], parts[4]
    client_reason, server_reason, frames = parts[5], parts[6], parts[7]
    client_sample, server_sample = parts[8], parts[9]
    if at != len(message) or len(frames) % SLOT:
        raise ValueError("a record of another length than its parts")
    cause: int = fixed[_FLAGS_AT]
    ends: int = fixed[_FLAGS_AT + 1]
    kind = ends >> 4 & 3
    if kind >= len(_KINDS) or cause >= len(_CAUSES):
        raise ValueError("a record with an unknown kind or cause")
    number, identity, opened_at, closed_at, handshake_seconds = fixed[0], fixed[1], fixed[2], fixed[3], fixed[4]
    client_code, server_code = fixed[_CODES_AT], fixed[_CODES_AT + 1]
    relay, route, port = fixed[_ORIGIN_AT], fixed[_ORIGIN_AT + 1], fixed[_ORIGIN_AT + 2]
    proxy_code, client_flags, server_flags = fixed[_ORIGIN_AT + 3], fixed[_FLAGS_AT + 2], fixed[_FLAGS_AT + 3]
    return SessionRecord(
        relay, number, route, opened_at, closed_at, handshake_seconds, identity,
        _unpack_peer(fixed, _CLIENT_AT, client_code, client_reason.decode(), client_flags, client_sample),
        _unpack_peer(fixed, _SERVER_AT, server_code, server_reason.decode(), server_flags, server_sample),
        _PEERS[ends & 3], _PEERS[ends >> 2 & 3], _KINDS[kind], _CAUSES[cause], proxy_code, bool(ends & 0x40),
        bool(ends & 0x80), path.decode(), address.decode(), port, forwarded_for.decode(), subprotocol.decode(),
        trace.decode(), frames,
    )  # fmt: skip


def _unpack_peer(fixed: tuple[Any, ...], at: int, code: int, reason: str, flags: int, sample: bytes) -> PeerRecord:
    close = None
    if code != _NO_CLOSE:
        close = CloseFrame(None if code == _EMPTY_CLOSE else code, reason, fixed[at + 7])
    return PeerRecord(
        fixed[at], fixed[at + 1], _or_none(fixed[at + 5]), _or_none(fixed[at + 6]), fixed[at + 2], (flags >> 3) - 1,
        fixed[at + 3], fixed[at + 4], close, _or_none(fixed[at + 8]), bool(flags & 1), bool(flags & 2),
        bool(flags & 4), _or_none(fixed[at + 9]), sample,
    )  # fmt: skip


def _peer_flags(peer: PeerRecord) -> int:
    flags = peer.last_opcode + 1 << 3
    return flags | (1 if peer.in_frame else 0) | (2 if peer.fragmented else 0) | (4 if peer.unobserved else 0)


def _close(close: CloseFrame | None) -> tuple[int, bytes, float]:
    """Return code, reason and time of a Close frame."""
    if close is None:
        return _NO_CLOSE, b"", nan
    return _EMPTY_CLOSE if close.code is None else close.code, _encode(close.reason, MAX_REASON), close.at


def _peer_index(peer: Peer | None) -> int:
    """Return the position in :data:`_PEERS`, without a comparison of texts."""
    return 0 if peer is None else 1 if peer is _CLIENT else 2 if peer is _SERVER else 3


def _kind_index(kind: TcpEndKind) -> int:
    return 0 if kind is _FIN else 1 if kind is _RESET else 2


def _encode(text: str, limit: int) -> bytes:
    """Return ``text`` as at most ``limit`` bytes of UTF-8, whole characters; lone surrogates are escaped."""
    if not text:
        return b""
    if len(text) <= limit and text.isascii():
        return text.encode()
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
