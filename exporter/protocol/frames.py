"""An incremental scanner for one direction of WebSocket traffic: it reads frame headers and skips payloads.

The state of a direction is one number, ``remaining``:

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
leaving early because CPython compares fast only where it jumps over little. Runs of whole frames are parsed by
:mod:`exporter.protocol.frame_runs`, the rest by :meth:`FrameScanner._next_frame`. One call parses at most about
:data:`MAX_FRAMES` frames, of any content; the bytes left become the backlog.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.direction import BACKLOG, NEVER, PENDING, STOPPED
from exporter.protocol.flight_recorder import NEXT, NoRoom, pack
from exporter.protocol.frame_header import (
    BINARY,
    CLOSE,
    FIN,
    HEADER_SIZE,
    HTTP,
    HTTP_PREFIXES,
    LENGTH_BITS,
    MAX_CONTROL_PAYLOAD,
    OPCODE_BITS,
    PLAIN_OPCODE,
    PONG,
    SHORT_LENGTH,
    TEXT,
    WHOLE_OPCODE,
    Events,
    Unparseable,
    control_frame,
    malformed,
    payload_length,
    unpack_length,
)
from exporter.protocol.frame_runs import COMPILED, MAX_CONTROLS, MAX_FRAMES, MAX_WINDOW, MIN_WINDOW, RunParser

#: Bytes kept between chunks at most: 2 header bytes, a masking key and a full control payload.
MAX_PENDING: Final = 2 + 4 + MAX_CONTROL_PAYLOAD


@mypyc_attr(acyclic=True)
class FrameScanner(RunParser):
    """Parse one direction. Feed it every byte of that direction, in order."""

    __slots__ = ()

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
            length = SHORT_LENGTH[second]
            if length is None:
                length = data[2] << 8 | data[3]
            if HEADER_SIZE[second] + length == size:
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
        if remaining == PENDING:
            return self._scan(self.pending + data, now, 0)
        if remaining == BACKLOG:  # the caller did not wait: keep all that is not parsed
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
        if self.remaining != BACKLOG:
            return None
        self.backlog = b""
        return self._scan(data, now, at)

    def _short_chunk(self, data: bytes, now: float) -> Events | None:
        """Parse a chunk of under 8 bytes at a boundary."""
        size = len(data)
        if size >= 4 and not self._heartbeats:
            second = data[1]
            length = second & LENGTH_BITS
            if length <= MAX_CONTROL_PAYLOAD and HEADER_SIZE[second] + length == size:
                return self._single_frame(data, now, length)
        return self._scan(data, now, 0)

    def _single_frame(self, data: bytes, now: float, length: int) -> Events | None:
        """Parse a chunk that seems to be exactly one frame."""
        first, second = data[0], data[1]
        opcode = WHOLE_OPCODE[first]
        if not opcode or (opcode >= CLOSE and second & LENGTH_BITS > MAX_CONTROL_PAYLOAD):
            return self._scan(data, now, 0)
        self.ring.add(now, length, self._firsts[first])
        if opcode < CLOSE:
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
        if opcode == CLOSE:
            self.remaining = STOPPED
            self.backlog_at = 0
        return [control_frame(data, 0)]

    def _long_frame(self, data: bytes, now: float, length: int) -> Events | None:
        """Parse a chunk that seems to be one long plain frame of the opcode that came last, or the beginning of one.

        ``length`` is that of its payload, unless that takes eight bytes.
        """
        size, second = len(data), data[1]
        header = HEADER_SIZE[second]
        if size < header:
            return self._scan(data, now, 0)
        if second & LENGTH_BITS == 127:
            length = unpack_length(data, 2)[0]
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
        window = MAX_WINDOW
        while at < last:
            if self.frames - begun >= MAX_FRAMES:
                self.pending = b""
                self.backlog = data
                self.backlog_at = at
                self.remaining = BACKLOG
                return [control_frame(data, head) for head in controls[-MAX_CONTROLS:]]
            if not COMPILED and PLAIN_OPCODE[data[at]] and not self._heartbeats:
                stop = min(at + window, last - 2)
                at = self._frame_run(data, now, at, stop)
                window = min(window + window, MAX_WINDOW) if at >= stop else MIN_WINDOW
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
            self.remaining = at - last - 1 if at > last else PENDING
        if controls:
            events = [*(control_frame(data, head) for head in controls[-MAX_CONTROLS:]), *events]
        return events or None

    def _next_frame(self, data: bytes, now: float, at: int, events: Events) -> int:
        """Parse the frame at ``at``: one that is incomplete, malformed or a Close. Adds to ``events``.

        Returns where the next frame begins, which may be beyond ``data``; ``at`` if more of this one must come first;
        the end of ``data`` if the scan has stopped.
        """
        size = len(data)
        self.backlog_at = at  # if the scan stops at this frame
        first, second = data[at], data[at + 1]
        length = second & LENGTH_BITS
        if first & 0x08 and (why := malformed(first, length)):
            if first == HTTP[0] and data[at : at + len(HTTP)] in HTTP_PREFIXES:
                if size - at < len(HTTP):
                    return at
                self.http_text = True
                why = "HTTP text instead of a frame"
            events.append(self._fail(why))
            return size
        body = at + HEADER_SIZE[second]
        if body > size:
            return at
        length = payload_length(data, at)
        if length >> 63:
            events.append(self._fail("a length with its top bit set"))
            return size
        opcode = first & OPCODE_BITS
        end = body + length
        if self._heartbeats and length == 1 and opcode == TEXT:
            return at
        if CLOSE <= opcode <= PONG:
            if end > size:
                return at
            events.append(control_frame(data, at))
        plain = PLAIN_OPCODE[first]
        if plain and plain != self.opcode:
            self._switch_opcode(opcode)
        self.frames += 1
        self.payload += (end if end < size else size) - body
        if not plain:
            self.counts[opcode] += 1
            self.flushed += 1
            self._other_opcode, self._other_frame = opcode, self.frames
        if opcode <= BINARY:
            if not plain:  # a whole message between fragments ends none
                self._fragments = length if opcode else self._fragments + length
                self.fragmented = not first & FIN
                if first & FIN and self._fragments > self._largest_fragmented:
                    self._largest_fragmented = self._fragments
            if length > self._largest:
                self._new_largest(length, now)
            elif length == self._largest:
                self._largest_at = NEVER
            self.message_at = now
            self.message_size = length
        self.ring.add(now, length, self._firsts[first])
        if opcode == CLOSE:
            self.stop()
            return size
        return end

    def _fail(self, why: str) -> Unparseable:
        self.unobserved = True
        self.stop()
        return Unparseable(why)
