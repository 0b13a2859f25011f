"""A flight recorder: the last frames of a session as headers only, in a ring that never grows.

How it works
============
One ring serves both directions, so that the order in which frames passed is kept. A slot is 17 bytes: when the frame's
header was read (seconds, on the caller's clock), its payload length, and one byte that holds what a person asks first:
the opcode and FIN as they stand in the frame, and, in the bits that RFC 6455 reserves for extensions, who sent it.
Scanners write slots themselves, with :data:`pack`, because a call a frame would be felt; see
:mod:`exporter.protocol.frames`.

Payload bytes are never in here.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from exporter.protocol.words import Peer

#: Frames that are kept: enough to see the last exchange, small enough for every idle session to have its own ring.
FRAMES = 64

_SLOT = Struct("<dQB")
#: Writes one slot: (ring, offset, seconds, length, first byte of the frame with the sender's bit).
pack = _SLOT.pack_into
SLOT = _SLOT.size
RING = FRAMES * SLOT

#: The bits of a frame's first byte that are kept: FIN and the opcode. RSV bits give their place to the sender.
KEPT = 0x8F
#: The sender's bit: set for the server.
BY_SERVER = 0x40
#: Set in every slot that was ever written.
WRITTEN = 0x10


class Frame(NamedTuple):
    """One frame that passed. ``at`` is in seconds on the caller's clock, ``length`` in bytes of payload."""

    sender: Peer
    opcode: int
    fin: bool
    length: int
    at: float


class Ring:
    """The recorder of one session."""

    __slots__ = ("at", "slots")

    def __init__(self) -> None:
        self.slots = bytearray(RING)
        self.at = 0  # offset of the slot to be written next

    def frames(self) -> list[Frame]:
        """The frames that are kept, oldest first."""
        return unpack(bytes(self.slots), self.at)


def unpack(slots: bytes, at: int) -> list[Frame]:
    """The frames in a ring's ``slots`` whose next slot is at offset ``at``, oldest first; no unwritten ones."""
    ordered = slots[at:] + slots[:at]
    return [
        Frame(Peer.SERVER if first & BY_SERVER else Peer.CLIENT, first & 0x0F, bool(first & 0x80), length, when)
        for when, length, first in _SLOT.iter_unpack(ordered)
        if first & WRITTEN
    ]
