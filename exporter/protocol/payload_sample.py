"""A scanner that also keeps the first bytes of the last message, for operators who asked for it (``--record-payload``).

Payloads are private: nothing else in this project keeps them. With the setting each session has two scanners of this
class. They keep payload as sent, unmasked (RFC 6455, section 5.3) but not decompressed, of data frames only, from the
first frame of a message on. A chunk is read twice: by the plain scanner, then from header to header here, so the cost
stays proportional to the bytes.
"""

from __future__ import annotations

from mypy_extensions import i64, mypyc_attr

from exporter.protocol.direction import STOPPED, FrameCounts
from exporter.protocol.enums import Peer
from exporter.protocol.flight_recorder import Ring
from exporter.protocol.frame_header import BINARY, CLOSE, PONG, Events
from exporter.protocol.frames import FrameScanner


@mypyc_attr(acyclic=True)
class SamplingFrameScanner(FrameScanner):
    """Keeps up to ``limit`` bytes of the last message in :attr:`sample`."""

    __slots__ = ("_in_data", "_key", "_limit", "_offset", "_sample")

    def __init__(self, counts: FrameCounts, sender: Peer, ring: Ring, limit: int, heartbeats: bool = False) -> None:
        super().__init__(counts, sender, ring, heartbeats)
        self._sample = b""
        self._limit = limit
        self._in_data = False  # the frame that is incomplete is a data frame
        self._key = b""  # its masking key
        self._offset = 0  # its payload bytes that have passed

    @property
    def sample(self) -> bytes:
        """First bytes of the last message, unmasked."""
        return self._sample

    def feed(self, data: bytes, now: float) -> Events | None:
        """See :meth:`FrameScanner.feed`."""
        remaining, pending, backlog = self.remaining, self.pending, self.backlog
        if remaining > 0:
            if self._in_data:
                self._take(data, 0, min(remaining, len(data)))
            if remaining >= len(data):
                return super().feed(data, now)
            at = remaining
        elif backlog or remaining == STOPPED:  # it is added to the backlog, or ignored
            return super().feed(data, now)
        else:
            at = 0
        events = super().feed(data, now)
        self._sample_frames(pending + data if pending else data, at)
        return events

    def resume(self, now: float) -> Events | None:
        """See :meth:`FrameScanner.resume`."""
        data, at = self.backlog, self.backlog_at
        events = super().resume(now)
        if data:
            self._sample_frames(data, at)
        return events

    def _sample_frames(self, data: bytes, start: int) -> None:
        """Sample the frames of ``data`` from ``start`` on that have just been scanned."""
        stop = self.backlog_at if self.backlog else len(data)
        first = self._last_message(data, start, stop)
        if first >= 0:
            self._sample = b""
            start = first
        self._gather(data, start, stop)

    def _last_message(self, data: bytes, start: int, stop: int) -> int:
        """Return where the last text or binary frame begins; -1 if there is none."""
        here: i64 = start
        end: i64 = stop
        found: i64 = -1
        while here < end:
            opcode: i64 = data[here] & 0x0F
            size = _frame_size(data, here, end)
            if not size or opcode == CLOSE:
                break
            if opcode and opcode <= BINARY:
                found = here
            here += size
        return found

    def _gather(self, data: bytes, start: int, stop: int) -> None:
        """Add the payload of the data frames between ``start`` and ``stop`` to the sample, up to the limit."""
        here: i64 = start
        end: i64 = stop
        self._in_data = False
        while here < end and len(self._sample) < self._limit:
            opcode: i64 = data[here] & 0x0F
            size = _frame_size(data, here, end)
            if not size or opcode == CLOSE:
                return
            if opcode <= BINARY and size > _header_size(data, here):
                body = here + _header_size(data, here)
                self._key = data[body - 4 : body] if data[here + 1] & 0x80 else b""
                self._offset = 0
                self._in_data = here + size > end
                self._take(data, body, min(here + size, end))
            here += size

    def _take(self, data: bytes, start: int, stop: int) -> None:
        """Add the payload bytes from ``start`` to ``stop`` of the current frame to the sample, up to the limit."""
        room = self._limit - len(self._sample)
        if room > 0:
            taken = data[start : min(stop, start + room)]
            if self._key:
                turn = self._offset & 3
                key = (self._key[turn:] + self._key[:turn]) * (len(taken) // 4 + 1)
                size = len(taken)
                masked = int.from_bytes(taken, "big") ^ int.from_bytes(key[:size], "big")
                taken = masked.to_bytes(size, "big")
            self._sample += taken
        self._offset += stop - start


def _header_size(data: bytes, here: i64) -> i64:
    second: i64 = data[here + 1]
    size: i64 = 6 if second >= 0x80 else 2
    length = second & 0x7F
    return size + 8 if length == 127 else size + 2 if length == 126 else size


def _frame_size(data: bytes, here: i64, end: i64) -> i64:
    """Return the size of the frame that begins at ``here``; 0 if the scanner waits for more of it or has stopped at it.

    A control frame (RFC 6455, section 5.5) is scanned whole, a data frame as soon as its header is complete.
    """
    if here + 2 > end:
        return 0
    first: i64 = data[here]
    second: i64 = data[here + 1]
    length: i64 = second & 0x7F
    size: i64 = 2
    if second >= 0x80:
        size += 4
    opcode: i64 = first & 0x0F
    if opcode >= CLOSE and opcode <= PONG:
        if first < 0x80 or length > 125 or here + size + length > end:
            return 0
    elif length == 126:
        size += 2
        if here + size > end:
            return 0
        length = data[here + 2] << 8 | data[here + 3]
    elif length == 127:
        size += 8
        if here + size > end or data[here + 2] & 0x80:
            return 0
        if data[here + 2] | data[here + 3] | data[here + 4] | data[here + 5]:
            length = 1 << 62  # longer than any chunk
        else:
            length = data[here + 6] << 24 | data[here + 7] << 16 | data[here + 8] << 8 | data[here + 9]
    elif here + size > end:
        return 0
    return size + length
