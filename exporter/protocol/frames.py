"""An incremental scanner for one direction of WebSocket traffic: it reads frame headers and steps over payloads.

How it works
============
A frame (RFC 6455, section 5.2) opens with a header of 2 to 14 bytes:

    byte 0      FIN, three reserved bits, opcode (4 bits)
    byte 1      MASK, payload length (7 bits)
    2 or 8      the length again, if those 7 bits say 126 or 127
    4           the masking key, if MASK is set

Everything after it, ``length`` bytes, is payload, and then the next header begins. So a direction can be followed by
keeping one number, how much payload is still to come (``skip``), and at most one unfinished header (``pending``).
Payloads of data frames are never looked at, copied or kept. A control frame (section 5.5) carries at most 125 bytes
and matters to us, so it is gathered whole in ``pending`` and then told: the buffer never holds more than
:data:`LONGEST_KEPT` bytes.

We overhear, we do not police. A frame is read as its own mask bit says, whoever sent it; reserved bits are ignored
(compression, RFC 7692, uses one of them); reserved opcodes are counted and stepped over. Only what makes the next
header impossible to find, or breaks the promise of a small buffer, ends the scan (:class:`Lost`): a length with its top
bit set (section 5.2), a control frame that is over 125 bytes long or lacks FIN (section 5.5). After a sender's Close
frame nothing that it sends is judged (section 5.5.1), so the scan rests there too.

Speed decides how this file reads. Most chunks hold exactly one small data frame, so :meth:`Scanner.feed` tests for that
first; most others hold several, so the loop of :meth:`Scanner._scan` steps over whole small data frames by itself and
calls :meth:`Scanner._uncommon` for what is anything else. Both count into plain integers: no object, no metric, no
call for each frame; the flight recorder's slots are packed in place for the same reason. The counters that many
scanners share live in a :data:`Tally`, a list with one slot an opcode and one for payload bytes; whoever made it may
read it at any time. A payload that spans chunks costs one comparison and one subtraction a chunk.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from exporter.protocol.flight import BY_SERVER, KEPT, RING, SLOT, WRITTEN, Ring, pack
from exporter.protocol.words import Peer

#: Largest payload of a control frame (RFC 6455, section 5.5).
MAX_CONTROL_PAYLOAD = 125
#: 2 header bytes, a masking key and a full control payload: the most that is ever kept between chunks.
LONGEST_KEPT = 2 + 4 + MAX_CONTROL_PAYLOAD


class Opcode(IntEnum):
    """RFC 6455, section 5.2. The numbers missing here are reserved."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


#: Counters that scanners share: indices 0 to 15 count frames by opcode, :data:`PAYLOAD` counts payload bytes.
Tally = list[int]
PAYLOAD = 16


def new_tally() -> Tally:
    """A tally at zero."""
    return [0] * (PAYLOAD + 1)


class Control(NamedTuple):
    """A whole Close, Ping or Pong frame, its payload unmasked."""

    opcode: int
    payload: bytes


class Lost(NamedTuple):
    """The direction cannot be followed any more. ``why`` is for a person."""

    why: str


Heard = list[Control | Lost]

_FIN = 0x80
_MASK = 0x80
_LENGTH = 0x7F
_OPCODE = 0x0F

_CONTINUATION, _BINARY, _CLOSE, _PONG = 0x0, 0x2, 0x8, 0xA  # as plain integers, which compare faster than an enum's

#: ``skip`` of a direction that is not listened to any more: after its Close frame, or when lost.
_RESTING = -1

#: Reads a length of eight bytes.
_LONG = Struct(">Q").unpack_from
#: Header length by second byte.
_HEADER = tuple(2 + (4 if second & _MASK else 0) + {126: 2, 127: 8}.get(second & _LENGTH, 0) for second in range(256))
#: Payload length by second byte; None where it follows in two bytes, and more than any chunk has where in eight (but
#: within the 30 bits that CPython compares fast).
_SHORT = tuple({126: None, 127: 1 << 29}.get(second & _LENGTH, second & _LENGTH) for second in range(256))
#: Opcode by first byte for the commonest frames, text or binary, FIN set, compressed or not; 0 for all others.
_PLAIN = tuple(first & _OPCODE if first & 0x8F in (0x81, 0x82) else 0 for first in range(256))
#: First bytes as the flight recorder keeps them, by sender.
_FIRSTS = {
    sender: tuple(first & KEPT | WRITTEN | (BY_SERVER if sender is Peer.SERVER else 0) for first in range(256))
    for sender in Peer
}
_LAST_SLOT = RING - SLOT


class Scanner:
    """Follows one direction. Feed it every byte of that direction, in order.

    :param tally: shared counters to add to.
    :param sender: whose frames these are, for the flight recorder.
    :param ring: the session's flight recorder.
    """

    __slots__ = ("firsts", "fragmented", "frames", "last", "lost", "payload", "pending", "ring", "skip", "tally")

    def __init__(self, tally: Tally, sender: Peer = Peer.CLIENT, ring: Ring | None = None) -> None:
        self.tally = tally
        self.ring = Ring() if ring is None else ring
        self.firsts = _FIRSTS[sender]  # a frame's first byte -> how the flight recorder keeps it
        self.frames = 0  # frames whose header was complete
        self.payload = 0  # payload bytes that passed
        self.skip = 0  # payload bytes of the current frame still to come
        self.pending = b""  # the unfinished header or control frame
        self.last: float | None = None  # when bytes last came, on the caller's clock
        self.fragmented = False  # between the first and the last frame of a message
        self.lost = False

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins a frame. Never true in a direction that is not followed any more."""
        return not self.skip and not self.pending

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun that is not complete."""
        return self.skip > 0 or bool(self.pending)

    @property
    def sample(self) -> bytes:
        """First bytes of the last message; a plain scanner keeps none, see :mod:`exporter.protocol.sampling`."""
        return b""

    def rest(self) -> None:
        """Listen no more: later bytes are neither counted nor judged."""
        self.skip = _RESTING
        self.pending = b""

    def feed(self, data: bytes, now: float) -> Heard | None:
        """Take the next bytes of this direction; ``now`` is in seconds on any monotonic clock.

        Returns what was heard: control frames in order, and a last :class:`Lost` if it came to that; None, which is
        the usual case, if there is nothing to tell. Never raises for what a peer sent.
        """
        size = len(data)
        skip = self.skip
        if not skip:
            if size > 3 and not self.pending:
                second = data[1]
                length = _SHORT[second]
                if length is None:
                    length = data[2] << 8 | data[3]
                if _HEADER[second] + length == size:
                    first = data[0]
                    opcode = _PLAIN[first]
                    if opcode:
                        self.last = now
                        self.frames += 1
                        self.payload += length
                        tally = self.tally
                        tally[opcode] += 1
                        tally[PAYLOAD] += length
                        ring = self.ring
                        slot = ring.at
                        pack(ring.slots, slot, now, length, self.firsts[first])
                        ring.at = slot + SLOT if slot < _LAST_SLOT else 0
                        return None
            return self._scan(data, now, 0)
        if skip >= size:
            self.last = now
            self.skip = skip - size
            self.payload += size
            self.tally[PAYLOAD] += size
            return None
        if skip == _RESTING:
            return None
        self.payload += skip
        self.tally[PAYLOAD] += skip
        self.skip = 0
        return self._scan(data, now, skip)

    def _scan(self, data: bytes, now: float, at: int) -> Heard | None:
        """The general case: any number of frames, from ``at`` on. With bytes pending, ``at`` is 0."""
        self.last = now
        if self.pending:
            data = self.pending + data
        heard: Heard = []
        size = len(data)
        last = size - 1
        frames = payload = 0
        tally = self.tally
        firsts = self.firsts
        ring = self.ring
        slots = ring.slots
        slot = ring.at
        while at < last:
            second = data[at + 1]
            length = _SHORT[second]
            end = at + _HEADER[second]
            if length is None:
                length = data[at + 2] << 8 | data[at + 3] if end <= size else size
            end += length
            first = data[at]
            opcode = _PLAIN[first]
            if opcode and end <= size:
                frames += 1
                payload += length
                tally[opcode] += 1
                pack(slots, slot, now, length, firsts[first])
                slot = slot + SLOT if slot < _LAST_SLOT else 0
                at = end
                continue
            ring.at = slot
            end = self._uncommon(data, now, at, heard)
            slot = ring.at
            if end == at:
                break
            at = end
        ring.at = slot
        self.frames += frames
        self.payload += payload
        tally[PAYLOAD] += payload
        if self.skip != _RESTING:
            self.pending = data[at:]
            self.skip = at - size if at > size else 0
        return heard or None

    def _uncommon(self, data: bytes, now: float, at: int, heard: Heard) -> int:
        """Take the one frame at ``at``, of any kind, complete or not; add to ``heard`` what it tells.

        Returns where the next frame begins, which may lie beyond ``data``; ``at`` if more of this one must come first;
        the end of ``data`` if the scan has come to rest.
        """
        size = len(data)
        first, second = data[at], data[at + 1]
        length = second & _LENGTH
        if first & 0x08 and (why := _malformed(first, length)):
            heard.append(self._lose(why))
            return size
        body = at + _HEADER[second]
        if body > size:
            return at
        if length == 126:
            length = data[at + 2] << 8 | data[at + 3]
        elif length == 127:
            length = _LONG(data, at + 2)[0]
            if length >> 63:
                heard.append(self._lose("a length with its top bit set"))
                return size
        opcode = first & _OPCODE
        end = body + length
        if _CLOSE <= opcode <= _PONG:
            if end > size:
                return at
            heard.append(Control(opcode, _unmask(data, body, end) if second & _MASK else data[body:end]))
        elif opcode == _CONTINUATION or (opcode <= _BINARY and not first & _FIN):
            self.fragmented = not first & _FIN  # a whole message, out of place here, ends none: see feed()
        passed = (end if end < size else size) - body
        self.frames += 1
        self.payload += passed
        self.tally[opcode] += 1
        self.tally[PAYLOAD] += passed
        ring = self.ring
        slot = ring.at
        pack(ring.slots, slot, now, length, self.firsts[first])
        ring.at = slot + SLOT if slot < _LAST_SLOT else 0
        if opcode == _CLOSE:
            self.rest()
            return size
        return end

    def _lose(self, why: str) -> Lost:
        self.lost = True
        self.rest()
        return Lost(why)


def _malformed(first: int, length: int) -> str:
    """Why a Close, Ping or Pong frame breaks RFC 6455, section 5.5; empty if it does not.

    ``length`` is the second byte's 7 bits: 126 and 127 only announce a length, but one that is too long in any case.
    """
    if not _CLOSE <= first & _OPCODE <= _PONG:
        return ""
    if not first & _FIN:
        return "a control frame without FIN"
    return f"a control frame of over {MAX_CONTROL_PAYLOAD} bytes" if length > MAX_CONTROL_PAYLOAD else ""


def _unmask(data: bytes, body: int, end: int) -> bytes:
    """The payload ``data[body:end]`` with the masking key before it applied (RFC 6455, section 5.3)."""
    key = data[body - 4 : body]
    return bytes(byte ^ key[index & 3] for index, byte in enumerate(data[body:end]))
