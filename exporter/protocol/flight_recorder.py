"""A flight recorder: the headers of a session's last frames, in a ring that is bounded.

One ring serves both directions, so that it keeps the order in which frames passed. A slot has 17 bytes: when the
frame's header was read (seconds, on the caller's clock), its payload length, and its first byte: opcode and FIN as in
the frame, and the sender in the bits that RFC 6455 reserves for extensions. The ring begins small and grows twice when
it is full: ``pack`` then raises :exc:`NoRoom`. A scanner writes the slot of a small frame that came alone itself, as
:meth:`Ring.add` does, because a call costs too much there.

No payload byte is ever in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from struct import Struct, error
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

from exporter.protocol.enums import Peer

#: Frames that are kept: the last exchange, yet every idle session can have a ring of its own.
FRAMES: Final = 64

#: Native byte order without alignment. The machine's own alignment gives one slot the same layout, and packs it faster.
_FORMAT: Final = "dQB"
_SLOT: Final = Struct("=" + _FORMAT)
#: Writes one slot: (ring, offset, seconds, length, first byte of the frame with the sender's bit).
pack: Final = Struct("@" + _FORMAT).pack_into
SLOT: Final = _SLOT.size
NoRoom: Final = error
RING: Final = FRAMES * SLOT
#: Slots that a ring begins with; a session of a few frames, as many idle ones are, never has more.
FIRST: Final = 4
#: How often as many it gets when these are full: 4, 16, 64.
GROWTH: Final = 4
#: The slot to be written after one, by its offset.
NEXT: Final = tuple((offset + SLOT) % RING for offset in range(RING))

#: The bits of a frame's first byte that are kept: FIN and the opcode. RSV bits give their place to the sender.
KEPT: Final = 0x8F
#: The sender's bit: set for the server.
BY_SERVER: Final = 0x40
#: Set in every slot that was ever written.
WRITTEN: Final = 0x10


class Frame(NamedTuple):
    """One frame that passed. ``at`` is in seconds on the caller's clock, ``length`` in bytes of payload."""

    sender: Peer
    opcode: int
    fin: bool
    length: int
    at: float


@mypyc_attr(acyclic=True)
class Ring:
    """The recorder of one session: its slots, and the offset of the one to be written next."""

    __slots__ = ("at", "slots")

    def __init__(self) -> None:
        self.slots = bytearray(FIRST * SLOT)
        self.at = 0

    def grow(self) -> bytearray:
        """Make room for another frame, where :data:`pack` found none. Returns the slots."""
        self.slots += bytes(len(self.slots) * (GROWTH - 1))
        return self.slots

    def add(self, now: float, length: int, first: int) -> None:
        """Write the slot of one frame: its length, its first byte with the sender's bit."""
        slot = self.at
        try:
            pack(self.slots, slot, now, length, first)
        except NoRoom:
            pack(self.grow(), slot, now, length, first)
        self.at = NEXT[slot]

    def record(self, now: float, lengths: Sequence[int], firsts: bytes) -> None:
        """Write the slots of frames that came together: their lengths, their first bytes with the sender's bit."""
        columns = [now] * (3 * min(len(lengths), FRAMES))
        columns[1::3] = lengths[-FRAMES:]
        columns[2::3] = firsts[-FRAMES:]
        packed = _slots(len(columns) // 3).pack(*columns)
        end = self.at + len(packed)
        while len(self.slots) < min(end, RING):
            self.grow()
        if end <= RING:
            self.slots[self.at : end] = packed
        else:
            self.slots[self.at :] = packed[: RING - self.at]
            self.slots[: end - RING] = packed[RING - self.at :]
        self.at = end % RING

    def in_order(self) -> bytes:
        """Return the written slots, oldest first."""
        slots, at = bytes(self.slots), self.at
        if at < len(slots) and slots[at + SLOT - 1] & WRITTEN:
            return slots[at:] + slots[:at]
        return slots[:at]


@cache
def _slots(count: int) -> Struct:
    return Struct("=" + _FORMAT * count)


def unpack(slots: bytes) -> list[Frame]:
    """Return the frames of a ring's written slots."""
    return [
        Frame(Peer.SERVER if first & BY_SERVER else Peer.CLIENT, first & 0x0F, bool(first & 0x80), length, when)
        for when, length, first in _SLOT.iter_unpack(slots)
    ]
