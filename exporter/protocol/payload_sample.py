"""A scanner that also keeps the first bytes of the last message: only for operators who asked for it.

Payloads are what people said to each other. Nothing in this project keeps them unless ``--record-payload`` says how
many bytes; then each session has two scanners of this class instead of the plain ones. What is kept is what was sent,
unmasked (RFC 6455, section 5.3) but not decompressed, of data frames only, from the first frame of a message on.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from exporter.protocol.enums import Peer
from exporter.protocol.flight_recorder import Ring
from exporter.protocol.frames import STOPPED, Events, FrameCounts, FrameScanner


@mypyc_attr(acyclic=True)
class SamplingFrameScanner(FrameScanner):
    """Keeps up to ``limit`` bytes of the last message in :attr:`sample`."""

    __slots__ = ("_key", "_limit", "_offset", "_sample")

    def __init__(self, tally: FrameCounts, sender: Peer, ring: Ring, limit: int) -> None:
        super().__init__(tally, sender, ring)
        self._sample = b""
        self._limit = limit
        self._key = b""
        self._offset = 0  # payload bytes of the current frame that have passed

    @property
    def sample(self) -> bytes:
        """First bytes of the last message, unmasked."""
        return self._sample

    def feed(self, data: bytes, now: float) -> Events | None:
        """See :meth:`FrameScanner.feed`; slower, because it goes from header to header."""
        heard: Events = []
        at = 0
        while at < len(data):
            if self.skip == STOPPED:
                break
            if self.skip > 0:
                step = data[at : at + self.skip]
                self._take(step)
            else:
                step = data[at : at + self._header_part(data[at:])]
            heard += super().feed(step, now) or ()
            at += len(step)
        return heard or None

    def _header_part(self, data: bytes) -> int:
        """How many bytes of ``data`` to take so as not to pass the end of a data frame's header.

        A control frame's payload belongs to what the plain scanner gathers, so it may be taken along byte by byte.
        """
        header = self.pending + data[:14]
        if len(header) < 2 or header[0] & 0x08:
            return 1
        length = header[1] & 0x7F
        size = 2 + {126: 2, 127: 8}.get(length, 0) + (4 if header[1] & 0x80 else 0)
        if len(header) < size:
            return len(data)
        self._begin(header[:size])
        return size - len(self.pending)

    def _begin(self, header: bytes) -> None:
        if header[0] & 0x0F:  # not a continuation: a new message
            self._sample = b""
        self._key = header[-4:] if header[1] & 0x80 else b""
        self._offset = 0

    def _take(self, payload: bytes) -> None:
        fd_capacity = self._limit - len(self._sample)
        if fd_capacity > 0:
            unlink = payload[:fd_capacity]
            if self._key:
                unlink = bytes(byte ^ self._key[(self._offset + n) & 3] for n, byte in enumerate(unlink))
            self._sample += unlink
        self._offset += len(payload)
