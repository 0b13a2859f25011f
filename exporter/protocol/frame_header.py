"""The format of WebSocket frames (RFC 6455, section 5): tables by header byte, control frames, malformed headers.

A frame begins with a header of 2 to 14 bytes:

    byte 0      FIN, three reserved bits, opcode (4 bits)
    byte 1      MASK, payload length (7 bits)
    2 or 8      the length again, if those 7 bits are 126 or 127
    4           the masking key, if MASK is set

The tables are indexed by byte 0 or byte 1, so that a scanner looks up instead of computing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from mypy_extensions import mypyc_attr

#: Largest payload of a control frame (RFC 6455, section 5.5).
MAX_CONTROL_PAYLOAD: Final = 125


class Opcode(IntEnum):
    """RFC 6455, section 5.2. The numbers missing here are reserved."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
class Control:
    """A whole Close, Ping or Pong frame, its payload unmasked; or an Engine.IO heartbeat as a ping or pong."""

    opcode: int
    payload: bytes

    def __init__(self, opcode: int, payload: bytes) -> None:
        self.opcode = opcode
        self.payload = payload


@dataclass(slots=True)
class Unparseable:
    """The direction cannot be followed any more. ``why`` is for a person."""

    why: str


Events = list[Control | Unparseable]

#: ``payload`` of a :class:`Control` made from an Engine.IO heartbeat: longer than that of any control frame.
HEARTBEAT: Final = bytes(MAX_CONTROL_PAYLOAD + 1)

FIN: Final = 0x80
MASK: Final = 0x80
LENGTH_BITS: Final = 0x7F
OPCODE_BITS: Final = 0x0F

# As plain integers, which compare faster than an enum's.
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

#: Payloads of Engine.IO's one-byte text frames (engine.io-protocol, "Heartbeat").
_ENGINE_IO_PING: Final = 0x32
_ENGINE_IO_PONG: Final = 0x33

#: An HTTP answer inside the WebSocket stream begins so; as a header it would be a Close frame without FIN.
HTTP: Final = b"HTTP/1."
#: Its beginnings, from two bytes on.
HTTP_PREFIXES: Final = frozenset(HTTP[:size] for size in range(2, len(HTTP) + 1))

#: Reads a length of eight bytes.
unpack_length: Final = Struct(">Q").unpack_from
#: Header length by second byte.
HEADER_SIZE: Final = tuple(
    2 + (4 if second & MASK else 0) + {126: 2, 127: 8}.get(second & LENGTH_BITS, 0) for second in range(256)
)
#: Payload length by second byte; None where it follows in two bytes, and more than any chunk has where in eight (but
#: within the 30 bits that CPython compares fast).
SHORT_LENGTH: Final = tuple(
    {126: None, 127: 1 << 29}.get(second & LENGTH_BITS, second & LENGTH_BITS) for second in range(256)
)
#: Opcode by first byte of plain frames: text or binary, FIN set, compressed or not; 0 for all others.
PLAIN_OPCODE: Final = tuple(first & OPCODE_BITS if first & 0x8F in (0x81, 0x82) else 0 for first in range(256))
#: Opcode by first byte of frames that need no more than their chunk: plain ones and control frames; 0 for all others.
WHOLE_OPCODE: Final = tuple(
    first & OPCODE_BITS if first & 0x8F in (0x88, 0x89, 0x8A) else PLAIN_OPCODE[first] for first in range(256)
)


def malformed(first: int, length: int) -> str:
    """Return why a Close, Ping or Pong frame breaks RFC 6455, section 5.5; an empty text if it does not.

    ``length`` is the second byte's 7 bits: 126 and 127 only announce a length, but one that is too long in any case.
    """
    if not CLOSE <= first & OPCODE_BITS <= PONG:
        return ""
    if not first & FIN:
        return "a control frame without FIN"
    return f"a control frame of over {MAX_CONTROL_PAYLOAD} bytes" if length > MAX_CONTROL_PAYLOAD else ""


def is_heartbeat(data: bytes, body: int, second: int) -> bool:
    """Return whether the byte at ``body``, unmasked, is an Engine.IO ping or pong."""
    payload = data[body] ^ data[body - 4] if second & MASK else data[body]
    return payload in (_ENGINE_IO_PING, _ENGINE_IO_PONG)


def payload_length(data: bytes, at: int) -> int:
    """Return the payload length of the frame at ``at``, whose header is complete; 2**63 and more is malformed."""
    length = data[at + 1] & LENGTH_BITS
    if length == 126:
        return data[at + 2] << 8 | data[at + 3]
    if length == 127:
        length = unpack_length(data, at + 2)[0]
    return length


def control_frame(data: bytes, at: int) -> Control:
    """Return the whole control frame, or Engine.IO heartbeat, that begins at ``at``."""
    opcode, second = data[at] & OPCODE_BITS, data[at + 1]
    size, body = second & LENGTH_BITS, at + HEADER_SIZE[second]
    if not second & MASK:
        payload = data[body : body + size]
    elif size == 2:  # a Close without a reason text, as most are
        payload = bytes((data[body] ^ data[body - 4], data[body + 1] ^ data[body - 3]))
    else:
        payload = unmask(data[body : body + size], data[body - 4 : body])
    if opcode == TEXT:
        return Control(PING if payload[0] == _ENGINE_IO_PING else PONG, HEARTBEAT)
    return Control(opcode, payload)


def unmask(payload: bytes, key: bytes) -> bytes:
    """Return the payload with its masking key applied (RFC 6455, section 5.3)."""
    size = len(payload)
    keys = key * (size // 4 + 1)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys[:size], "big")).to_bytes(size, "big")
