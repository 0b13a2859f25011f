"""A scanner that also keeps the first bytes of the last message, for operators who asked for it (``--record-payload``).

Payloads are private: nothing else in this project keeps them. With the setting each session has two scanners of this
class. They keep payload as sent, unmasked (RFC 6455, section 5.3) but not decompressed, of data frames only, from the
first frame of a message on. A chunk is read twice: by the plain scanner, then from header to header here, so the cost
stays proportional to the bytes.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from exporter.protocol.direction import STOPPED, FrameCounts
from exporter.protocol.enums import Peer
from exporter.protocol.flight_recorder import Ring
from exporter.protocol.frame_header import (
    BINARY,
    HEADER_SIZE,
    MASK,
    OPCODE_BITS,
    TEXT,
    Events,
    payload_length,
    unmask,
)
from exporter.protocol.frames import FrameScanner


@mypyc_attr(acyclic=True)
class SamplingFrameScanner(FrameScanner):
    """Keeps up to ``limit`` bytes of the last message in :attr:`sample`."""

    __slots__ = ("_in_data", "_key", "_limit", "_offset")

    def __init__(self, counts: FrameCounts, sender: Peer, ring: Ring, limit: int, heartbeats: bool = False) -> None:
        super().__init__(counts, sender, ring, heartbeats)
        self._limit = limit
        self._in_data = False  # the frame that is incomplete is a data frame
        self._key = b""  # its masking key
        self._offset = 0  # its payload bytes that have passed

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
        end = len(data) - len(self.pending)
        if self.backlog or self.remaining == STOPPED:
            end = self.backlog_at
        here, last = start, -1
        while here < end:
            if TEXT <= data[here] & OPCODE_BITS <= BINARY:
                last = here
            here = _next(data, here)
        if last >= 0:
            self.sample = b""
            start = last
        here = start
        self._in_data = False
        while here < end and len(self.sample) < self._limit:
            after = _next(data, here)
            if data[here] & OPCODE_BITS <= BINARY:
                body = here + HEADER_SIZE[data[here + 1]]
                self._key = data[body - 4 : body] if data[here + 1] & MASK else b""
                self._offset = 0
                self._in_data = after > end
                self._take(data, body, min(after, end))
            here = after

    def _take(self, data: bytes, start: int, stop: int) -> None:
        """Add the payload bytes from ``start`` to ``stop`` of the current frame to the sample, up to the limit."""
        taken = data[start : min(stop, start + self._limit - len(self.sample))]
        if self._key:
            turn = self._offset & 3
            taken = unmask(taken, self._key[turn:] + self._key[:turn])
        self.sample += taken
        self._offset += stop - start


def _next(data: bytes, at: int) -> int:
    """Return where the frame after that at ``at`` begins, which may be beyond ``data``."""
    return at + HEADER_SIZE[data[at + 1]] + payload_length(data, at)
