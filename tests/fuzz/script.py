"""Inputs of a fuzzer as scripts: who does what in which order, read from plain bytes.

A record is one byte that names a move, for :attr:`Kind.DATA` one byte of length, and that many bytes. In the first
byte, bit 0 is the peer, bits 1 and 2 the kind, and bits 3 to 7 a count: the data is doubled that many times, which
lets a few bytes grow past limits. Every byte string is a script; a record that is cut short is played as far as it
goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from exporter.protocol.enums import Peer

#: Doublings of a record's data: 255 bytes become 130 KB, twice what is ever kept of a head.
MAX_DOUBLINGS = 10


class Kind(IntEnum):
    """What a peer, or the circumstances, do."""

    DATA = 0
    FIN = 1
    RESET = 2
    TURN = 3  # something that only the target knows: time passes, a limit strikes, a buffer fills


class Move(NamedTuple):
    """One step. ``count`` is 0 to 31."""

    peer: Peer
    kind: Kind
    count: int
    data: bytes


def moves(script: bytes) -> Iterator[Move]:
    """The steps of a script."""
    at = 0
    while at < len(script):
        head = script[at]
        peer = Peer.SERVER if head & 1 else Peer.CLIENT
        kind = Kind(head >> 1 & 3)
        count = head >> 3
        at += 1
        data = b""
        if kind is Kind.DATA and at < len(script):
            size = script[at]
            data = script[at + 1 : at + 1 + size]
            at += 1 + size
        yield Move(peer, kind, count, data * (1 << count if count < MAX_DOUBLINGS else 1))


def record(peer: Peer, data: bytes) -> bytes:
    """A script in which ``peer`` sends ``data``; the inverse of :func:`moves`, for seeds."""
    parts = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(bytes((peer is Peer.SERVER, len(unlink))) + unlink for unlink in parts)


def step(peer: Peer, kind: Kind, count: int = 0) -> bytes:
    """A script of one step without data."""
    return bytes(((peer is Peer.SERVER) | kind << 1 | count << 3,))
