"""A connection as the relay uses it: asyncio's transport, and three things more that need the socket below."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator


class Overhearing(asyncio.Protocol):
    """A protocol that is content to hear what was passed on without it."""

    __slots__ = ()

    def heard(self, data: bytes) -> None:
        """``data`` was read, and written to where it belongs."""
        raise NotImplementedError


class Stream(asyncio.Transport):
    """One end of a connection: plain TCP (or a Unix socket), or a layer such as TLS that stands on it."""

    __slots__ = ()

    def short_cut(self, to: Stream | None) -> None:
        """What is read may be written to ``to`` right away, and the protocol told by :meth:`Overhearing.heard` instead
        of ``data_received``. None, or another protocol, ends that."""

    def send_fin(self) -> None:
        """End our direction (RFC 9293, section 3.6), and read on. Nothing may wait in the write buffer."""
        raise NotImplementedError

    def silence(self) -> float:
        """Seconds since bytes last came; 0 where the kernel does not say (a Unix socket, not Linux)."""
        raise NotImplementedError

    def leftover(self) -> Iterator[bytes]:
        """What the kernel still holds of a connection that broke, up to a limit. Raises nothing."""
        raise NotImplementedError
