"""An incremental scanner for one direction of WebSocket traffic: it reads frame headers and skips payloads.

A frame (RFC 6455, section 5.2) begins with a header of 2 to 14 bytes:

    byte 0      FIN, three reserved bits, opcode (4 bits)
    byte 1      MASK, payload length (7 bits)
    2 or 8      the length again, if those 7 bits are 126 or 127
    4           the masking key, if MASK is set

Everything after it, ``length`` bytes, is payload; then the next header begins. The state of a direction is one number,
``remaining``:

                     header of a data frame                      Close, or unparseable
    BOUNDARY (0) ───────────────────────────► payload bytes left (n) ─┐    │
     ▲   │  ▲ ▲                                                       │    ▼
     │   │  │ └────────────────── all n bytes passed ─────────────────┘  STOPPED (-1): nothing is parsed any more
     │   │  └── resume(): backlog parsed
     │   ├────► PENDING (-2): header or control frame incomplete; its bytes are in ``pending``
     └───┼─────────── rest of it read
         └────► BACKLOG (-3): frames left to parse in ``backlog``; see :meth:`FrameScanner.resume`

Payloads of data frames are not read, copied or kept. A control frame (section 5.5) has at most 125 bytes and is read
whole, so ``pending`` never holds more than :data:`MAX_PENDING` bytes.

The scanner does not police. A frame is read as its own mask bit says, whoever sent it; reserved bits are ignored
(compression, RFC 7692, uses one of them); frames of reserved opcodes are counted and skipped. Only a frame after which
the next header cannot be found, or which would not fit in ``pending``, stops the scan (:class:`Unparseable`): a length
with its top bit set (section 5.2), a control frame that is over 125 bytes long or lacks FIN (section 5.5). It stops at
a Close frame too: nothing that its sender sends afterwards has a meaning (section 5.5.1).

Speed decides the structure. Most chunks hold exactly one small data frame: :meth:`FrameScanner.feed` handles it inline,
leaving early because CPython compares fast only where it jumps over little. :meth:`FrameScanner._mixed_run` takes whole
frames of any kind without an object for each, in native integers where it is compiled; where it is not,
:meth:`FrameScanner._frame_run` takes runs of data frames, column by column. :meth:`FrameScanner._next_frame` takes the
rest. One call parses at most about :data:`MAX_FRAMES` frames, of any content; the bytes left become the backlog.

Counters are plain integers of the scanner. Those that many scanners share are a :data:`FrameCounts`: one slot for each
opcode, one for payload bytes. A scanner adds to it when the opcode of its frames changes, and at
:meth:`FrameScanner.flush_counts`: before the counts are read, and at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from operator import itemgetter
from struct import Struct
from typing import Final

from mypy_extensions import i64, mypyc_attr

from exporter.protocol.enums import Peer
from exporter.protocol.flight_recorder import BY_SERVER, FRAMES, KEPT, NEXT, WRITTEN, NoRoom, Ring, pack

#: Largest payload of a control frame (RFC 6455, section 5.5).
MAX_CONTROL_PAYLOAD: Final = 125
#: Bytes kept between chunks at most: 2 header bytes, a masking key and a full control payload.
MAX_PENDING: Final = 2 + 4 + MAX_CONTROL_PAYLOAD
#: Frames after which one call stops parsing; a run of data frames in bulk may pass it by :data:`_MAX_WINDOW` bytes.
MAX_FRAMES: Final = 2048
#: Ping and pong frames that one call reports at most: the last ones.
MAX_CONTROLS: Final = 16


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
    """Return counters at zero."""
    return [0] * (PAYLOAD + 1)


@mypyc_attr(acyclic=True)
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

#: A time before any other: nothing has passed yet.
NEVER: Final = float("-inf")

_FIN: Final = 0x80
_MASK: Final = 0x80
_LENGTH: Final = 0x7F
_OPCODE: Final = 0x0F

# As plain integers, which compare faster than an enum's.
_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA

#: Values of ``remaining`` that are no number of bytes; see the diagram.
STOPPED: Final = -1
_PENDING: Final = -2
_BACKLOG: Final = -3

#: Payloads of Engine.IO's one-byte text frames (engine.io-protocol, "Heartbeat").
_ENGINE_IO_PING: Final = 0x32
_ENGINE_IO_PONG: Final = 0x33

#: An HTTP answer inside the WebSocket stream begins so; as a header it would be a Close frame without FIN.
_HTTP: Final = b"HTTP/1."

#: Reads a length of eight bytes.
_LONG: Final = Struct(">Q").unpack_from
#: Header length by second byte.
_HEADER: Final = tuple(
    2 + (4 if second & _MASK else 0) + {126: 2, 127: 8}.get(second & _LENGTH, 0) for second in range(256)
)
#: Payload length by second byte; None where it follows in two bytes, and more than any chunk has where in eight (but
#: within the 30 bits that CPython compares fast).
_SHORT: Final = tuple({126: None, 127: 1 << 29}.get(second & _LENGTH, second & _LENGTH) for second in range(256))
#: Opcode by first byte of plain frames: text or binary, FIN set, compressed or not; 0 for all others.
_PLAIN: Final = tuple(first & _OPCODE if first & 0x8F in (0x81, 0x82) else 0 for first in range(256))
#: The same, to translate many at once, and which they are.
_OPCODES: Final = bytes(_PLAIN)
_PLAIN_FIRSTS: Final = bytes(first for first in range(256) if _PLAIN[first])
#: Opcode by first byte of frames that need no more than their chunk: plain ones and control frames; 0 for all others.
_WHOLE: Final = tuple(first & _OPCODE if first & 0x8F in (0x88, 0x89, 0x8A) else _PLAIN[first] for first in range(256))
#: First bytes as the flight recorder keeps them, by sender.
_FIRSTS: Final = {
    sender: bytes(first & KEPT | WRITTEN | (BY_SERVER if sender is Peer.SERVER else 0) for first in range(256))
    for sender in Peer
}
#: The same for plain frames of one opcode, 0 for all others, by that table and the opcode.
_SAME: Final = {
    firsts: {
        opcode: tuple(kept if _PLAIN[first] == opcode else 0 for first, kept in enumerate(firsts))
        for opcode in (_TEXT, _BINARY)
    }
    for firsts in _FIRSTS.values()
}

#: Bytes in which to look for a run of plain frames after another frame; doubled while they are found. A peer that
#: alternates kinds has each frame read a few times at most, not the rest of the chunk for each.
_WINDOW: Final = 64
_MAX_WINDOW: Final = 16 * 1024
#: Plain frames in a row after which a mixed run ends where :meth:`FrameScanner._frame_run` is the faster one.
_PLAIN_ROW: Final = 16
#: Lists of offsets are cut back when they reach this length.
_MANY_HEADS: Final = 2 * FRAMES


@mypyc_attr(acyclic=True)
class ByteObserver:
    """Gets the bytes of one direction of a session: a scanner, or nothing once observing has stopped."""

    __slots__ = ()

    backlog: bytes = b""  # a chunk that is not parsed to its end; see FrameScanner.resume

    def resume(self, now: float) -> Events | None:
        """See :meth:`FrameScanner.resume`."""
        return None

    def feed(self, data: bytes, now: float) -> Events | None:
        """See :meth:`FrameScanner.feed`."""
        raise NotImplementedError


@mypyc_attr(acyclic=True)
class FrameScanner(ByteObserver):
    """Parses one direction. Feed it every byte of that direction, in order.

    :param counts: shared counters to add to.
    :param sender: who sends these frames, for the flight recorder.
    :param ring: the session's flight recorder.
    :param heartbeats: whether one-byte text frames ``2`` and ``3`` are Engine.IO's heartbeats.
    :ivar frames: frames whose header was complete.
    :ivar payload: payload bytes that passed.
    :ivar message_at: when its last data frame began; :data:`NEVER` before one.
    :ivar message_size: the payload length of that frame.
    :ivar fragmented: whether a message has begun whose last frame has not.
    :ivar unobserved: parsing stopped before the direction's end.
    :ivar http_text: it stopped because HTTP text followed instead of a frame.
    """

    __slots__ = (
        "_before", "_firsts", "_fragments", "_heartbeats", "_largest", "_largest_at", "_largest_fragmented",
        "_other_at", "_other_frame", "_other_opcode", "_same", "backlog", "backlog_at", "counts", "flushed",
        "flushed_payload", "fragmented", "frames", "http_text", "message_at", "message_size", "opcode", "payload",
        "pending", "remaining", "ring", "unobserved",
    )  # fmt: skip

    def __init__(
        self,
        counts: FrameCounts,
        sender: Peer = Peer.CLIENT,
        ring: Ring | None = None,
        heartbeats: bool = False,
    ) -> None:
        self.counts = counts
        self.ring = Ring() if ring is None else ring
        self._firsts = _FIRSTS[sender]  # a frame's first byte -> how the flight recorder keeps it
        self._heartbeats = heartbeats
        self.frames = 0
        self.payload = 0
        self.flushed = self.flushed_payload = 0  # of these two, counted in ``counts``
        self.opcode = _TEXT  # of the frames counted since; most sessions begin with text
        self._same = _SAME[self._firsts][_TEXT]  # first bytes of plain frames of ``opcode``
        self.remaining = 0
        self.pending = b""
        self.backlog = b""
        self.backlog_at = 0  # where parsing goes on in it
        self.message_at = NEVER
        self.message_size = 0
        self._other_at = NEVER  # when bytes last came that began no data frame
        self._other_opcode = -1  # of the last frame that was not plain
        self._other_frame = 0  # its number
        self._largest = 0  # length of the largest data frame
        self._before = 0  # length of the largest one before that
        self._largest_at = NEVER  # when it began; NEVER if others of its length followed
        self._fragments = 0  # bytes of the current message's frames
        self._largest_fragmented = 0
        self.fragmented = False
        self.unobserved = False
        self.http_text = False

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins a frame. Never true in a direction that is not parsed any more."""
        return not self.remaining

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun that is not complete."""
        return self.remaining > 0 or self.remaining == _PENDING

    @property
    def last(self) -> float | None:
        """When bytes last came that were parsed; None before any."""
        last = max(self.message_at, self._other_at)
        return None if last == NEVER else last

    @property
    def last_opcode(self) -> int:
        """The last frame's opcode; -1 before any."""
        return self._other_opcode if self._other_frame == self.frames else self.opcode

    @property
    def largest_before(self) -> int:
        """The length of the largest data frame before the last one."""
        return self._before if self._last_is_largest() else self._largest

    @property
    def largest_message(self) -> int:
        """Payload bytes of the largest message, as far as it came in whole frames."""
        cut = self.remaining > 0 and self._other_frame != self.frames and self._last_is_largest()
        return max(self._before if cut else self._largest, self._largest_fragmented)

    def _last_is_largest(self) -> bool:
        return self.message_size == self._largest and self.message_at == self._largest_at

    @property
    def sample(self) -> bytes:
        """First bytes of the last message; empty here, see :mod:`exporter.protocol.payload_sample`."""
        return b""

    def stop(self) -> None:
        """Stop parsing: later bytes are neither counted nor reported."""
        self.remaining = STOPPED
        self.pending = self.backlog = b""

    def feed(self, data: bytes, now: float) -> Events | None:
        """Parse the next bytes of this direction; ``now`` is in seconds on any monotonic clock.

        Returns None if there is nothing to report, which is the usual case; else control frames in order, of pings and
        pongs the last :data:`MAX_CONTROLS`, and a last :class:`Unparseable` if there is one. With a list the
        caller looks at :attr:`backlog`. Never raises for any bytes.
        """
        size = len(data)
        remaining = self.remaining
        if not remaining:
            if size < 8:
                return self._short_chunk(data, now)
            second = data[1]
            length = _SHORT[second]
            if length is None:
                length = data[2] << 8 | data[3]
            if _HEADER[second] + length == size:
                kept = self._same[data[0]]
                if not kept:
                    return self._single_frame(data, now, length)
                if length > self._largest:
                    self._new_largest(length, now)
                self.message_at = now
                self.message_size = length
                self.frames += 1
                self.payload += length
                ring = self.ring  # from here on it is ring.add(), without the call
                slot = ring.at
                try:
                    pack(ring.slots, slot, now, length, kept)
                except NoRoom:
                    pack(ring.grow(), slot, now, length, kept)
                ring.at = NEXT[slot]
                return None
            if length > size and self._same[data[0]]:
                return self._long_frame(data, now, length)
            return self._scan(data, now, 0)
        if remaining >= size:
            self._other_at = now
            self.remaining = remaining - size
            self.payload += size
            return None
        if remaining == STOPPED:
            return None
        if remaining == _PENDING:
            return self._scan(self.pending + data, now, 0)
        if remaining == _BACKLOG:  # the caller did not wait: keep all that is not parsed
            self.backlog = self.backlog[self.backlog_at :] + data
            self.backlog_at = 0
            return []
        self.payload += remaining
        self.remaining = 0
        return self._scan(data, now, remaining)

    def resume(self, now: float) -> Events | None:
        """Parse more of :attr:`backlog`; see :meth:`feed`. ``now`` is when the backlog's bytes came.

        The caller does so in a later turn of the event loop, and reads on when no backlog is left.
        """
        data, at = self.backlog, self.backlog_at
        if self.remaining != _BACKLOG:
            return None
        self.backlog = b""
        return self._scan(data, now, at)

    def _new_largest(self, length: int, now: float) -> None:
        self._before = self._largest
        self._largest = length
        self._largest_at = now

    def _short_chunk(self, data: bytes, now: float) -> Events | None:
        """Parse a chunk of under 8 bytes at a boundary."""
        size = len(data)
        if size >= 4 and not self._heartbeats:
            second = data[1]
            length = second & _LENGTH
            if length <= MAX_CONTROL_PAYLOAD and _HEADER[second] + length == size:
                return self._single_frame(data, now, length)
        return self._scan(data, now, 0)

    def _single_frame(self, data: bytes, now: float, length: int) -> Events | None:
        """Parse a chunk that seems to be exactly one frame."""
        first, second = data[0], data[1]
        opcode = _WHOLE[first]
        if not opcode or (opcode >= _CLOSE and second & _LENGTH > MAX_CONTROL_PAYLOAD):
            return self._scan(data, now, 0)
        self.ring.add(now, length, self._firsts[first])
        if opcode < _CLOSE:
            if opcode != self.opcode:
                self._switch_opcode(opcode)
            if length > self._largest:
                self._new_largest(length, now)
            self.message_at = now
            self.message_size = length
            self.frames += 1
            self.payload += length
            return None
        self._other_at = now
        self.counts[opcode] += 1
        self.flushed += 1
        self.frames += 1
        self.payload += length
        self._other_opcode, self._other_frame = opcode, self.frames
        if opcode == _CLOSE:
            self.remaining = STOPPED
        return [_control(data, 0)]

    def _long_frame(self, data: bytes, now: float, length: int) -> Events | None:
        """Parse a chunk that seems to be one long plain frame of the opcode that came last, or the beginning of one.

        ``length`` is that of its payload, unless that takes eight bytes.
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
        if length > self._largest:
            self._new_largest(length, now)
        self.message_at = now
        self.message_size = length
        self.frames += 1
        self.payload += size - header
        self.remaining = left
        self.ring.add(now, length, self._same[data[0]])
        return None

    def _scan(self, data: bytes, now: float, at: int) -> Events | None:
        """Parse any number of frames, from ``at`` on, up to :data:`MAX_FRAMES`."""
        self._other_at = now
        events: Events = []
        controls: list[int] = []  # where ping and pong frames begin
        last = len(data) - 1
        begun = self.frames
        window = _MAX_WINDOW
        while at < last:
            if self.frames - begun >= MAX_FRAMES:
                self._keep_backlog(data, at)
                return [_control(data, head) for head in controls[-MAX_CONTROLS:]]
            if not _COMPILED and _PLAIN[data[at]] and not self._heartbeats:
                stop = min(at + window, last - 2)
                at = self._frame_run(data, now, at, stop)
                window = min(window + window, _MAX_WINDOW) if at >= stop else _WINDOW
                if at >= last:
                    break
            start = at
            at = self._mixed_run(data, now, at, controls)
            if at == start:
                at = self._next_frame(data, now, at, events)
                if at == start:
                    break
        if self.remaining != STOPPED:
            self.pending = data[at:]
            self.remaining = at - last - 1 if at > last else _PENDING
        if controls:
            events = [*(_control(data, head) for head in controls[-MAX_CONTROLS:]), *events]
        return events or None

    def _keep_backlog(self, data: bytes, at: int) -> None:
        self.pending = b""
        self.backlog = data
        self.backlog_at = at
        self.remaining = _BACKLOG

    def _frame_run(self, data: bytes, now: float, at: int, stop: int) -> int:
        """Parse the whole plain frames that follow each other from ``at`` on and begin before ``stop``.

        Returns where the first other frame begins; ``at`` if that is the one at ``at``.
        """
        begun = at
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
            self._switch_opcode(opcodes[-1])
        others = frames - opcodes.count(self.opcode)
        self.counts[_TEXT + _BINARY - self.opcode] += others
        self.flushed += others
        self.frames += frames
        self.payload += sum(lengths)
        self.message_at = now
        self.message_size = lengths[-1]
        if at - begun > self._largest < _largest_of(lengths):
            before = max(lengths[:-1], default=0)
            if before > self._largest:
                self._new_largest(before, NEVER)
            if self.message_size > self._largest:
                self._new_largest(self.message_size, now)
        elif self.message_size == self._largest:
            self._largest_at = NEVER
        self.ring.record(now, lengths, firsts.translate(self._firsts))
        return at

    def _mixed_run(self, data: bytes, now: float, at: int, controls: list[int]) -> int:
        """Parse the whole frames of any kind, Close frames apart, that follow each other from ``at`` on.

        Adds to ``controls`` where ping and pong frames begin. Returns where the first frame begins that is incomplete,
        malformed or a Close, or that follows a row of plain ones; ``at`` if that is the one at ``at``.
        """
        size: i64 = len(data)
        here: i64 = at
        largest: i64 = self._largest
        before: i64 = self._before
        fragments: i64 = self._fragments
        message: i64 = -1  # length of the last data frame
        message_is_largest = False
        frames: i64 = 0
        payload: i64 = 0
        texts: i64 = 0
        binaries: i64 = 0
        row: i64 = 0  # plain frames, one after the other
        other: i64 = 0  # number of the last frame that is not plain
        opcode: i64 = 0
        other_opcode: i64 = 0
        plain_opcode: i64 = 0
        heads: list[int] = []
        counts, heartbeats = self.counts, self._heartbeats
        longest_row: i64 = MAX_FRAMES if _COMPILED or heartbeats else _PLAIN_ROW
        while here + 2 <= size and frames < MAX_FRAMES and row < longest_row:
            first: i64 = data[here]
            second: i64 = data[here + 1]
            opcode = first & 0x0F
            length: i64 = second & 0x7F
            body: i64 = here + 2
            if _CLOSE <= opcode <= _PONG:
                if opcode == _CLOSE or first < _FIN or length > MAX_CONTROL_PAYLOAD:
                    break
            elif length >= 126:
                if length == 126:
                    body += 2
                    if body > size:
                        break
                    length = data[here + 2] << 8 | data[here + 3]
                else:
                    body += 8
                    if body > size or data[here + 2] | data[here + 3] | data[here + 4] | data[here + 5]:
                        break
                    length = data[here + 6] << 24 | data[here + 7] << 16 | data[here + 8] << 8 | data[here + 9]
            if second >= _MASK:
                body += 4
            end: i64 = body + length
            if end > size:
                break
            frames += 1
            payload += length
            if opcode <= _BINARY:
                if first >= _FIN and opcode:
                    row += 1
                    plain_opcode = opcode
                    if opcode == _TEXT:
                        texts += 1
                    else:
                        binaries += 1
                else:
                    row = 0
                    other, other_opcode = frames, opcode
                    counts[opcode] += 1
                    fragments = fragments + length if not opcode else length
                    self.fragmented = first < _FIN
                    if first >= _FIN and fragments > self._largest_fragmented:
                        self._largest_fragmented = fragments
                if heartbeats and length == 1 and opcode == _TEXT and _is_heartbeat(data, body, second):
                    controls.append(here)
                else:
                    message = length
                    message_is_largest = length > largest
                    if message_is_largest:
                        before, largest = largest, length
            else:
                row = 0
                other, other_opcode = frames, opcode
                counts[opcode] += 1
                if _PING <= opcode <= _PONG:
                    controls.append(here)
            heads.append(here)
            if len(heads) == _MANY_HEADS:
                del heads[:-FRAMES]
                del controls[:-MAX_CONTROLS]
            here = end
        if not frames:
            return at
        if self.opcode == _TEXT:
            counts[_BINARY] += binaries
            self.flushed += frames - texts
        else:
            counts[_TEXT] += texts
            self.flushed += frames - binaries
        if other:
            self._other_opcode, self._other_frame = other_opcode, self.frames + other
        self.frames += frames
        self.payload += payload
        self._fragments = fragments
        if message >= 0:
            self.message_at = now
            self.message_size = message
            if largest > self._largest:
                self._before, self._largest = before, largest
                self._largest_at = now if message_is_largest else NEVER
            elif message == largest:
                self._largest_at = NEVER
        if plain_opcode and plain_opcode != self.opcode:
            self._switch_opcode(plain_opcode)
        self._record(data, now, heads[-FRAMES:])
        return here

    def _record(self, data: bytes, now: float, heads: list[int]) -> None:
        """Write the whole frames that begin at ``heads`` to the flight recorder."""
        lengths: list[int] = []
        for head in heads:
            length = data[head + 1] & _LENGTH
            if length == 126:
                length = data[head + 2] << 8 | data[head + 3]
            elif length == 127:
                length = _LONG(data, head + 2)[0]
            lengths.append(length)
        firsts = bytes([data[head] for head in heads])
        self.ring.record(now, lengths, firsts.translate(self._firsts))

    def _next_frame(self, data: bytes, now: float, at: int, events: Events) -> int:
        """Parse the frame at ``at``: one that is incomplete, malformed or a Close. Adds to ``events``.

        Returns where the next frame begins, which may be beyond ``data``; ``at`` if more of this one must come first;
        the end of ``data`` if the scan has stopped.
        """
        size = len(data)
        first, second = data[at], data[at + 1]
        length = second & _LENGTH
        if first & 0x08 and (why := _malformed(first, length)):
            if first == _HTTP[0] and data[at : at + len(_HTTP)] in _HTTP_PREFIXES:
                if size - at < len(_HTTP):
                    return at
                self.http_text = True
                why = "HTTP text instead of a frame"
            events.append(self._fail(why))
            return size
        body = at + _HEADER[second]
        if body > size:
            return at
        if length == 126:
            length = data[at + 2] << 8 | data[at + 3]
        elif length == 127:
            length = _LONG(data, at + 2)[0]
            if length >> 63:
                events.append(self._fail("a length with its top bit set"))
                return size
        opcode = first & _OPCODE
        end = body + length
        if self._heartbeats and length == 1 and opcode == _TEXT:
            return at
        if _CLOSE <= opcode <= _PONG:
            if end > size:
                return at
            events.append(_control(data, at))
        passed = (end if end < size else size) - body
        if not _PLAIN[first]:
            self.counts[opcode] += 1
            self.flushed += 1
        elif opcode != self.opcode:
            self._switch_opcode(opcode)
        self.frames += 1
        self.payload += passed
        if not _PLAIN[first]:
            self._other_opcode, self._other_frame = opcode, self.frames
        if opcode <= _BINARY:
            if not _PLAIN[first]:  # a whole message between fragments ends none
                self._fragments = length if opcode else self._fragments + length
                self.fragmented = not first & _FIN
                if first & _FIN and self._fragments > self._largest_fragmented:
                    self._largest_fragmented = self._fragments
            if length > self._largest:
                self._new_largest(length, now)
            elif length == self._largest:
                self._largest_at = NEVER
            self.message_at = now
            self.message_size = length
        self.ring.add(now, length, self._firsts[first])
        if opcode == _CLOSE:
            self.stop()
            return size
        return end

    def _switch_opcode(self, opcode: int) -> None:
        """Count plain frames of ``opcode`` from here on."""
        self.flush_counts()
        self.opcode = opcode
        self._same = _SAME[self._firsts][opcode]

    def flush_counts(self) -> None:
        """Add the counts since the last call to the shared counters."""
        if self.payload == self.flushed_payload and self.frames == self.flushed:
            return
        counts = self.counts
        counts[self.opcode] += self.frames - self.flushed
        counts[PAYLOAD] += self.payload - self.flushed_payload
        self.flushed = self.frames
        self.flushed_payload = self.payload

    def _fail(self, why: str) -> Unparseable:
        self.unobserved = True
        self.stop()
        return Unparseable(why)


#: Beginnings of :data:`_HTTP`, from two bytes on.
_HTTP_PREFIXES: Final = frozenset(_HTTP[:size] for size in range(2, len(_HTTP) + 1))


def _malformed(first: int, length: int) -> str:
    """Return why a Close, Ping or Pong frame breaks RFC 6455, section 5.5; an empty text if it does not.

    ``length`` is the second byte's 7 bits: 126 and 127 only announce a length, but one that is too long in any case.
    """
    if not _CLOSE <= first & _OPCODE <= _PONG:
        return ""
    if not first & _FIN:
        return "a control frame without FIN"
    return f"a control frame of over {MAX_CONTROL_PAYLOAD} bytes" if length > MAX_CONTROL_PAYLOAD else ""


#: Whether mypyc compiled this module: a compiled function has no ``__code__``.
_COMPILED: Final = not hasattr(_malformed, "__code__")


def _largest_of(lengths: list[int]) -> int:
    """Return the largest length; of not too many, which are often alike, sorted() finds it with fewer instructions."""
    return sorted(lengths)[-1] if len(lengths) <= 256 else max(lengths)


def _is_heartbeat(data: bytes, body: int, second: int) -> bool:
    """Return whether the byte at ``body``, unmasked, is an Engine.IO ping or pong."""
    payload = data[body] ^ data[body - 4] if second & _MASK else data[body]
    return payload in (_ENGINE_IO_PING, _ENGINE_IO_PONG)


def _control(data: bytes, at: int) -> Control:
    """Return the whole control frame, or Engine.IO heartbeat, that begins at ``at``."""
    opcode, second = data[at] & _OPCODE, data[at + 1]
    body = at + _HEADER[second]
    end = body + (second & _LENGTH)
    payload = _unmask(data, body, end) if second & _MASK else data[body:end]
    if opcode == _TEXT:
        return Control(_PING if payload[0] == _ENGINE_IO_PING else _PONG, HEARTBEAT)
    return Control(opcode, payload)


def _unmask(data: bytes, body: int, end: int) -> bytes:
    """Return the payload ``data[body:end]`` with the masking key before it applied (RFC 6455, section 5.3)."""
    size = end - body
    if size == 2:  # a Close without a reason text, as most are
        return bytes((data[body] ^ data[body - 4], data[body + 1] ^ data[body - 3]))
    key = data[body - 4 : body] * (size // 4 + 1)
    return (int.from_bytes(data[body:end], "big") ^ int.from_bytes(key[:size], "big")).to_bytes(size, "big")
