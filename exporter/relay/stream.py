"""A connection as the relay uses it: asyncio's transport, and three things more that need the socket below."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from exporter.protocol.frames import Heard


class Ear(Protocol):
    """Hears what passes: the scanner of one direction, but for one that is not listened to any more."""

    def feed(self, data: bytes, now: float) -> Heard | None:
        """See :meth:`~exporter.protocol.frames.Scanner.feed`."""


class Overhearing(asyncio.Protocol):
    """A protocol that is content to hear what is told of bytes which were passed on without it."""

    __slots__ = ()

    def heard(self, heard: Heard) -> None:
        """Its ear had this to tell."""
        raise NotImplementedError

    def deafened(self, error: Exception) -> None:
        """Its ear failed with ``error``, a defect of ours."""
        raise NotImplementedError


class Stream(asyncio.Transport):
    """One end of a connection: plain TCP (or a Unix socket), or a layer such as TLS that stands on it."""

    __slots__ = ()

    def short_cut(self, to: Stream | None, ear: Ear) -> None:
        """What is read may be written to ``to`` and then told to ``ear`` right away, without the protocol's
        ``data_received``, which must be :class:`Overhearing`. None, or another protocol, ends that."""

    def send_fin(self) -> None:
        """End our direction (RFC 9293, section 3.6), and read on. Nothing may wait in the write buffer."""
        raise NotImplementedError

    def silence(self) -> float:
        """Seconds since bytes last came; 0 where the kernel does not say (a Unix socket, not Linux)."""
        raise NotImplementedError

    def leftover(self) -> Iterator[bytes]:
        """What the kernel still holds of a connection that broke, up to a limit. Raises nothing."""
        raise NotImplementedError
