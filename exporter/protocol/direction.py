"""The state of one direction of a session, as its scanner keeps it: counts, times and sizes of the frames that passed.

Counters are plain integers of the scanner. Those that many scanners share are a :data:`FrameCounts`: one slot for each
opcode, one for payload bytes. A scanner adds to it when the opcode of its frames changes, and at
:meth:`DirectionState.flush_counts`: before the counts are read, and at its end.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.enums import Peer
from exporter.protocol.flight_recorder import BY_SERVER, KEPT, WRITTEN, Ring
from exporter.protocol.frame_header import BINARY, PLAIN_OPCODE, TEXT, Events

#: Counters that scanners share: indices 0 to 15 count frames by opcode, :data:`PAYLOAD` counts payload bytes.
FrameCounts = list[int]
PAYLOAD: Final = 16


def new_frame_counts() -> FrameCounts:
    """Return counters at zero."""
    return [0] * (PAYLOAD + 1)


#: A time before any other: nothing has passed yet.
NEVER: Final = float("-inf")

#: Values of ``remaining`` that are no number of bytes; see :mod:`exporter.protocol.frames`.
STOPPED: Final = -1
PENDING: Final = -2
BACKLOG: Final = -3

#: First bytes as the flight recorder keeps them, by sender.
_BY_CLIENT: Final = bytes(first & KEPT | WRITTEN for first in range(256))
_BY_SERVER: Final = bytes(first | BY_SERVER for first in _BY_CLIENT)


def _plain(firsts: bytes) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(kept if PLAIN_OPCODE[first] == opcode else 0 for first, kept in enumerate(firsts))
        for opcode in (TEXT, BINARY)
    )


#: The same for plain frames of TEXT, and of BINARY; 0 for all others.
_PLAIN_BY_CLIENT: Final = _plain(_BY_CLIENT)
_PLAIN_BY_SERVER: Final = _plain(_BY_SERVER)
_SERVER: Final = Peer.SERVER


@mypyc_attr(acyclic=True)
class ByteObserver:
    """Gets the bytes of one direction of a session: a scanner, or nothing once observing has stopped."""

    __slots__ = ()

    backlog: bytes = b""  # a chunk that is not parsed to its end; see FrameScanner.resume

    def resume(self, now: float) -> Events | None:
        """See :meth:`~exporter.protocol.frames.FrameScanner.resume`."""
        return None

    def feed(self, data: bytes, now: float) -> Events | None:
        """See :meth:`~exporter.protocol.frames.FrameScanner.feed`."""
        raise NotImplementedError


@mypyc_attr(acyclic=True)
class DirectionState(ByteObserver):
    """Counts, times and sizes of the frames of one direction, and where its parser is.

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
    :ivar sample: first bytes of the last message, unmasked; empty but for :mod:`exporter.protocol.payload_sample`.
    """

    __slots__ = (
        "_before", "_firsts", "_fragments", "_heartbeats", "_largest", "_largest_at", "_largest_fragmented",
        "_other_at", "_other_frame", "_other_opcode", "_same", "backlog", "backlog_at", "counts", "flushed",
        "flushed_payload", "fragmented", "frames", "http_text", "message_at", "message_size", "opcode", "payload",
        "pending", "remaining", "ring", "sample", "unobserved",
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
        # A frame's first byte -> how the flight recorder keeps it.
        self._firsts = _BY_SERVER if sender is _SERVER else _BY_CLIENT
        self._heartbeats = heartbeats
        self.frames = 0
        self.payload = 0
        self.flushed = self.flushed_payload = 0  # of these two, counted in ``counts``
        self.opcode = TEXT  # of the frames counted since; most sessions begin with text
        self._same = self._plain(TEXT)  # the same for plain frames of ``opcode``
        self.remaining = 0
        self.pending = b""
        self.backlog = b""
        self.backlog_at = 0  # where parsing goes on in it, or where in a chunk it stopped
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
        self.sample = b""

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins a frame. Never true in a direction that is not parsed any more."""
        return not self.remaining

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun that is not complete."""
        return self.remaining > 0 or self.remaining == PENDING

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

    def stop(self) -> None:
        """Stop parsing: later bytes are neither counted nor reported."""
        self.remaining = STOPPED
        self.pending = self.backlog = b""

    def _new_largest(self, length: int, now: float) -> None:
        self._before = self._largest
        self._largest = length
        self._largest_at = now

    def _switch_opcode(self, opcode: int) -> None:
        """Count plain frames of ``opcode`` from here on."""
        self.flush_counts()
        self.opcode = opcode
        self._same = self._plain(opcode)

    def _plain(self, opcode: int) -> tuple[int, ...]:
        return (_PLAIN_BY_SERVER if self._firsts is _BY_SERVER else _PLAIN_BY_CLIENT)[opcode - TEXT]

    def flush_counts(self) -> None:
        """Add the counts since the last call to the shared counters."""
        if self.payload == self.flushed_payload and self.frames == self.flushed:
            return
        counts = self.counts
        counts[self.opcode] += self.frames - self.flushed
        counts[PAYLOAD] += self.payload - self.flushed_payload
        self.flushed = self.frames
        self.flushed_payload = self.payload
