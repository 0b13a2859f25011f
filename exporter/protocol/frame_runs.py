"""Parses runs of whole frames that lie in one chunk, without an object for each frame.

:meth:`RunParser._mixed_run` takes frames of any kind, in native integers where it is compiled; where it is not,
:meth:`RunParser._frame_run` takes runs of plain data frames (whole text or binary messages), column by column.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Final

from mypy_extensions import i64, mypyc_attr

from exporter.protocol.direction import NEVER, DirectionState
from exporter.protocol.flight_recorder import FRAMES
from exporter.protocol.frame_header import (
    BINARY,
    CLOSE,
    FIN,
    HEADER_SIZE,
    MASK,
    MAX_CONTROL_PAYLOAD,
    PING,
    PLAIN_OPCODE,
    PONG,
    SHORT_LENGTH,
    TEXT,
    is_heartbeat,
    payload_length,
)

#: Frames after which one call stops parsing; a run of data frames in bulk may pass it by :data:`MAX_WINDOW` bytes.
MAX_FRAMES: Final = 2048
#: Ping and pong frames that one call reports at most: the last ones.
MAX_CONTROLS: Final = 16
#: Bytes in which to look for a run of plain frames after another frame; doubled while they are found. A peer that
#: alternates kinds has each frame read a few times at most, not the rest of the chunk for each.
MIN_WINDOW: Final = 64
MAX_WINDOW: Final = 16 * 1024
#: Plain frames in a row after which a mixed run ends where :meth:`RunParser._frame_run` is the faster one.
_PLAIN_ROW: Final = 16
#: Opcodes of plain frames by first byte, to translate many at once, and the first bytes that plain frames have.
_OPCODES: Final = bytes(PLAIN_OPCODE)
_PLAIN_FIRSTS: Final = bytes(first for first in range(256) if PLAIN_OPCODE[first])
#: Lists of offsets are cut back when they reach this length.
_MANY_HEADS: Final = 2 * FRAMES


def _largest_of(lengths: list[int]) -> int:
    """Return the largest length; of not too many, which are often alike, sorted() finds it with fewer instructions."""
    return sorted(lengths)[-1] if len(lengths) <= 256 else max(lengths)


#: Whether mypyc compiled this module: a compiled function has no ``__code__``.
COMPILED: Final = not hasattr(_largest_of, "__code__")


@mypyc_attr(acyclic=True)
class RunParser(DirectionState):
    """Parse runs of whole frames of one direction."""

    __slots__ = ()

    def _frame_run(self, data: bytes, now: float, at: int, stop: int) -> int:
        """Parse the whole plain frames that follow each other from ``at`` on and begin before ``stop``.

        Returns where the first other frame begins; ``at`` if that is the one at ``at``.
        """
        begun = at
        heads: list[int] = []
        lengths: list[int] = []
        short, header = SHORT_LENGTH, HEADER_SIZE
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
        self.counts[TEXT + BINARY - self.opcode] += others
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
        longest_row: i64 = MAX_FRAMES if COMPILED or heartbeats else _PLAIN_ROW
        while here + 2 <= size and frames < MAX_FRAMES and row < longest_row:
            first: i64 = data[here]
            second: i64 = data[here + 1]
            opcode = first & 0x0F
            length: i64 = second & 0x7F
            body: i64 = here + 2
            if CLOSE <= opcode <= PONG:
                if opcode == CLOSE or first < FIN or length > MAX_CONTROL_PAYLOAD:
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
            if second >= MASK:
                body += 4
            end: i64 = body + length
            if end > size:
                break
            frames += 1
            payload += length
            if opcode <= BINARY:
                if first >= FIN and opcode:
                    row += 1
                    plain_opcode = opcode
                    if opcode == TEXT:
                        texts += 1
                    else:
                        binaries += 1
                else:
                    row = 0
                    other, other_opcode = frames, opcode
                    counts[opcode] += 1
                    fragments = fragments + length if not opcode else length
                    self.fragmented = first < FIN
                    if first >= FIN and fragments > self._largest_fragmented:
                        self._largest_fragmented = fragments
                if heartbeats and length == 1 and opcode == TEXT and is_heartbeat(data, body, second):
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
                if PING <= opcode <= PONG:
                    controls.append(here)
            heads.append(here)
            if len(heads) == _MANY_HEADS:
                del heads[:-FRAMES]
                del controls[:-MAX_CONTROLS]
            here = end
        if not frames:
            return at
        if self.opcode == TEXT:
            counts[BINARY] += binaries
            self.flushed += frames - texts
        else:
            counts[TEXT] += texts
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
        del heads[:-FRAMES]
        firsts = bytes([data[head] for head in heads])
        self.ring.record(now, [payload_length(data, head) for head in heads], firsts.translate(self._firsts))
        return here
