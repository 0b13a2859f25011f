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
header impossible to find, or breaks the promise of a small buffer, ends the scan (:class:`Unparseable`): a length with
its top bit set (section 5.2), a control frame that is over 125 bytes long or lacks FIN (section 5.5). After a sender's
Close frame nothing that it sends is judged (section 5.5.1), so the scan rests there too.

Speed decides how this file reads. Most chunks hold exactly one small data frame, so :meth:`FrameScanner.feed` tests for
that first, and then for one long one that fills the chunk (:meth:`FrameScanner._open`); it leaves early because CPython
3.11 is quick at a comparison only if what it jumps over is short. In any other chunk :meth:`FrameScanner._one`
takes the first frame, of whatever kind, and :meth:`FrameScanner._stride` the run of whole data frames behind it: a bare
loop that notes where each begins and how long it is, and columns of these for all that follows, counting and the flight
recorder. A payload that spans chunks costs one comparison and one subtraction a chunk.

A scanner counts for itself, in plain integers: no object, no metric, no call for each frame. The counters that many
scanners share live in a :data:`FrameCounts`, a list with one slot an opcode and one for payload bytes. A scanner adds
to it what is new when the kind of its frames turns, and when it is asked to (:meth:`FrameScanner.flush_counts`): before
the tally is read, and at its own end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from operator import itemgetter
from struct import Struct
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.enums import Peer
from exporter.protocol.flight_recorder import BY_SERVER, KEPT, NEXT, WRITTEN, NoRoom, Ring, pack

#: Largest payload of a control frame (RFC 6455, section 5.5).
MAX_CONTROL_PAYLOAD: Final = 125
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
FrameCounts = list[int]
PAYLOAD: Final = 16


def new_frame_counts() -> FrameCounts:
    """A tally at zero."""
    return [0] * (PAYLOAD + 1)


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Control:
    """A whole Close, Ping or Pong frame, its payload unmasked."""

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

_FIN: Final = 0x80
_MASK: Final = 0x80
_LENGTH: Final = 0x7F
_OPCODE: Final = 0x0F

# As plain integers, which compare faster than an enum's.
_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PONG: Final = 0xA

#: ``skip`` of a direction that is not listened to any more: after its Close frame, or when lost.
STOPPED: Final = -1
#: ``skip`` of a direction whose next header, or control frame, has begun and is in ``pending``.
_PENDING: Final = -2

#: Reads a length of eight bytes.
_LONG: Final = Struct(">Q").unpack_from
#: Header length by second byte.
_HEADER: Final = tuple(
    2 + (4 if second & _MASK else 0) + {126: 2, 127: 8}.get(second & _LENGTH, 0) for second in range(256)
)
#: Payload length by second byte; None where it follows in two bytes, and more than any chunk has where in eight (but
#: within the 30 bits that CPython compares fast).
_SHORT: Final = tuple({126: None, 127: 1 << 29}.get(second & _LENGTH, second & _LENGTH) for second in range(256))
#: Opcode by first byte for the commonest frames, text or binary, FIN set, compressed or not; 0 for all others.
_PLAIN: Final = tuple(first & _OPCODE if first & 0x8F in (0x81, 0x82) else 0 for first in range(256))
#: The same, to translate many at once, and which they are.
_OPCODES: Final = bytes(_PLAIN)
_PLAIN_FIRSTS: Final = bytes(first for first in range(256) if _PLAIN[first])
#: Opcode by first byte of what is told at once if it fills a chunk: those, and control frames; 0 for all others.
_WHOLE: Final = tuple(first & _OPCODE if first & 0x8F in (0x88, 0x89, 0x8A) else _PLAIN[first] for first in range(256))
#: First bytes as the flight recorder keeps them, by sender.
_FIRSTS: Final = {
    sender: tuple(first & KEPT | WRITTEN | (BY_SERVER if sender is Peer.SERVER else 0) for first in range(256))
    for sender in Peer
}
#: The same, to translate many at once, by how a first byte of 0 is kept.
_MANY_FIRSTS: Final = {firsts[0]: bytes(firsts) for firsts in _FIRSTS.values()}

#: After a frame that is none of the commonest, bytes in which to look for a run of those; doubled as they are found.
#: Who alternates kinds makes us look at each frame a few times, not at the rest of the chunk for each frame.
_WINDOW: Final = 64


@mypyc_attr(acyclic=True)
class ByteObserver:
    """Hears one direction of a session: a scanner, but where nobody listens (any more)."""

    __slots__ = ()

    def feed(self, data: bytes, now: float) -> Events | None:
        """See :meth:`FrameScanner.feed`."""
        raise NotImplementedError


@mypyc_attr(acyclic=True)
class FrameScanner(ByteObserver):
    """Follows one direction. Feed it every byte of that direction, in order.

    :param tally: shared counters to add to.
    :param sender: whose frames these are, for the flight recorder.
    :param ring: the session's flight recorder.
    """

    __slots__ = (
        "firsts",
        "flushed",
        "flushed_payload",
        "fragmented",
        "frames",
        "last",
        "lost",
        "opcode",
        "payload",
        "pending",
        "ring",
        "skip",
        "tally",
    )  # fmt: skip

    def __init__(self, tally: FrameCounts, sender: Peer = Peer.CLIENT, ring: Ring | None = None) -> None:
        self.tally = tally
        self.ring = Ring() if ring is None else ring
        self.firsts = _FIRSTS[sender]  # a frame's first byte -> how the flight recorder keeps it
        self.frames = 0  # frames whose header was complete
        self.payload = 0  # payload bytes that passed
        self.flushed = self.flushed_payload = 0  # of these two, what the tally has
        self.opcode = _TEXT  # of the frames counted since; most sessions begin with text
        self.skip = 0  # payload bytes of the current frame still to come
        self.pending = b""  # the unfinished header or control frame
        self.last: float | None = None  # when bytes last came, on the caller's clock
        self.fragmented = False  # between the first and the last frame of a message
        self.lost = False

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins a frame. Never true in a direction that is not followed any more."""
        return not self.skip

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun that is not complete."""
        return self.skip > 0 or self.skip == _PENDING

    @property
    def sample(self) -> bytes:
        """First bytes of the last message; a plain scanner keeps none, see :mod:`exporter.protocol.payload_sample`."""
        return b""

    def rest(self) -> None:
        """Listen no more: later bytes are neither counted nor judged."""
        self.skip = STOPPED
        self.pending = b""

    def feed(self, data: bytes, now: float) -> Events | None:
        """Take the next bytes of this direction; ``now`` is in seconds on any monotonic clock.

        Returns what was heard: control frames in order, and a last :class:`Unparseable` if it came to that; None, which
        is the usual case, if there is nothing to tell. Never raises for what a peer sent.
        """
        size = len(data)
        skip = self.skip
        if not skip:
            if size < 4:
                return self._scan(data, now, 0)
            second = data[1]
            length = _SHORT[second]
            if length is None:
                length = data[2] << 8 | data[3]
            if _HEADER[second] + length == size:
                first = data[0]
                if _PLAIN[first] != self.opcode:
                    return self._alone(data, now, first, length)
                self.last = now
                self.frames += 1
                self.payload += length
                ring = self.ring  # from here on it is ring.add(), without the call
                slot = ring.at
                try:
                    pack(ring.slots, slot, now, length, self.firsts[first])
                except NoRoom:
                    pack(ring.grow(), slot, now, length, self.firsts[first])
                ring.at = NEXT[slot]
                return None
            if length > size and _PLAIN[data[0]] == self.opcode:
                return self._open(data, now, length)
            return self._scan(data, now, 0)
        if skip >= size:
            self.last = now
            self.skip = skip - size
            self.payload += size
            return None
        if skip == STOPPED:
            return None
        if skip == _PENDING:
            return self._scan(self.pending + data, now, 0)
        self.payload += skip
        self.skip = 0
        return self._scan(data, now, skip)

    def _alone(self, data: bytes, now: float, first: int, length: int) -> Events | None:
        """Take a chunk that seems to be exactly one frame, of another kind than the one before."""
        opcode = _WHOLE[first]
        second = data[1]
        if not opcode or (opcode >= _CLOSE and second & _LENGTH > MAX_CONTROL_PAYLOAD):
            return self._scan(data, now, 0)
        self.last = now
        self.ring.add(now, length, self.firsts[first])
        if opcode < _CLOSE:
            self._turn(opcode)
            self.frames += 1
            self.payload += length
            return None
        self.tally[opcode] += 1
        self.flushed += 1
        self.frames += 1
        self.payload += length
        if opcode == _CLOSE:
            self.skip = STOPPED
        body = len(data) - length
        payload = _unmask(data, body, len(data)) if second & _MASK else data[body:]
        return [Control(opcode, payload)]

    def _open(self, data: bytes, now: float, length: int) -> Events | None:
        """Take a chunk that seems to be one long data frame of the kind that came last, or the beginning of one.

        ``length`` is that of its payload, but for one that takes eight bytes to say.
        """
        size, second = len(data), data[1]
        header = _HEADER[second]
        if size < header:
            return self._scan(data, now, 0)
        if second & _LENGTH == 127:
            length = _LONG(data, 2)[0]
        left = header + length - size
        if left < 0 or length >> 63:
            return self._scan(data, now, 0)
        self.last = now
        self.frames += 1
        self.payload += size - header
        self.skip = left
        self.ring.add(now, length, self.firsts[data[0]])
        return None

    def _scan(self, data: bytes, now: float, at: int) -> Events | None:
        """The general case: any number of frames, from ``at`` on."""
        self.last = now
        heard: Events = []
        last = len(data) - 1
        window = last
        while at < last:
            end = self._one(data, now, at, heard)
            if end == at:
                break
            at = end
            if at < last:
                stop = min(at + window, last - 2)
                at = self._stride(data, now, at, stop)
                window = window + window if at >= stop else _WINDOW
        if self.skip != STOPPED:
            self.pending = data[at:]
            self.skip = at - last - 1 if at > last else _PENDING
        return heard or None

    def _stride(self, data: bytes, now: float, at: int, stop: int) -> int:
        """Take the whole data frames, FIN set, that follow each other from ``at`` on and begin before ``stop``.

        Returns where the first other frame begins; ``at`` if that is the one at ``at``.
        """
        heads: list[int] = []
        lengths: list[int] = []
        short, header = _SHORT, _HEADER
        while at < stop:
            second = data[at + 1]
            length = short[second]
            if length is None:
                length = data[at + 2] << 8 | data[at + 3]
            heads.append(at)
            lengths.append(length)
            at += header[second] + length
        if at > len(data):
            at = heads.pop()
            lengths.pop()
        if not heads:
            return at
        firsts = bytes(itemgetter(0, *heads)(data)[1:])  # of a single index it would give no tuple
        frames = len(firsts) - len(firsts.lstrip(_PLAIN_FIRSTS))
        if frames < len(heads):
            at = heads[frames]
            firsts = firsts[:frames]
            del lengths[frames:]
        if not frames:
            return at
        opcodes = firsts.translate(_OPCODES)
        if opcodes[-1] != self.opcode:
            self._turn(opcodes[-1])
        others = frames - opcodes.count(self.opcode)
        self.tally[_TEXT + _BINARY - self.opcode] += others
        self.flushed += others
        self.frames += frames
        self.payload += sum(lengths)
        self.ring.record(now, lengths, firsts.translate(_MANY_FIRSTS[self.firsts[0]]))
        return at

    def _one(self, data: bytes, now: float, at: int, heard: Events) -> int:
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
        if opcode == self.opcode:
            pass  # the next settlement counts it
        elif opcode in (_TEXT, _BINARY):
            self._turn(opcode)
        else:
            self.tally[opcode] += 1
            self.flushed += 1
        self.frames += 1
        self.payload += passed
        self.ring.add(now, length, self.firsts[first])
        if opcode == _CLOSE:
            self.rest()
            return size
        return end

    def _turn(self, opcode: int) -> None:
        """Count frames of ``opcode`` from here on."""
        self.flush_counts()
        self.opcode = opcode

    def flush_counts(self) -> None:
        """Add what was counted since the last time to the shared tally."""
        if self.payload == self.flushed_payload and self.frames == self.flushed:
            return
        tally = self.tally
        tally[self.opcode] += self.frames - self.flushed
        tally[PAYLOAD] += self.payload - self.flushed_payload
        self.flushed = self.frames
        self.flushed_payload = self.payload

    def _lose(self, why: str) -> Unparseable:
        self.lost = True
        self.rest()
        return Unparseable(why)


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
    size = end - body
    if size == 2:  # a Close without a reason text, as most are
        return bytes((data[body] ^ data[body - 4], data[body + 1] ^ data[body - 3]))
    key = data[body - 4 : body] * (size // 4 + 1)
    return (int.from_bytes(data[body:end], "big") ^ int.from_bytes(key[:size], "big")).to_bytes(size, "big")
