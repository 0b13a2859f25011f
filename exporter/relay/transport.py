"""A connection as the relay uses it, and who is told what comes over it.

Both have the names of asyncio's transports and protocols, and keep the promises of those; what is new is what needs the
socket below. They are classes of our own so that all that carries traffic can be compiled (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mypy_extensions import mypyc_attr

from exporter.protocol.frames import ByteObserver, Events


@mypyc_attr(allow_interpreted_subclasses=True)
class TransportProtocol:
    """Who is told what comes over a :class:`Transport`: ``connection_made`` first, ``connection_lost`` once and
    last."""

    __slots__ = ()

    def connection_made(self, stream: Transport) -> None:
        """It is told what comes over ``stream`` from now on."""

    def data_received(self, data: bytes) -> None:
        """Bytes came."""

    def eof_received(self) -> bool:
        """The peer's FIN came. Returns whether our direction is to stay open."""
        return False

    def pause_writing(self) -> None:
        """What waits to be written is above the high-water mark."""

    def resume_writing(self) -> None:
        """A quarter of that is left, after it was told to pause."""

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is over, for ``error`` or as we wished."""

    def heard(self, heard: Events) -> None:
        """After :meth:`Transport.forward_to`: its ear had this to tell."""
        raise NotImplementedError

    def observing_failed(self, error: Exception) -> None:
        """After :meth:`Transport.forward_to`: its ear failed with ``error``, a defect of ours."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Transport:
    """One end of a connection: plain TCP (or a Unix socket), or a layer such as TLS that stands on it."""

    __slots__ = ()

    def get_protocol(self) -> TransportProtocol:
        """Who is told."""
        raise NotImplementedError

    def set_protocol(self, protocol: TransportProtocol) -> None:
        """Tell somebody else from now on."""
        raise NotImplementedError

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket``, ``peername`` and ``sockname``; ``default`` if that is not known (any more)."""
        raise NotImplementedError

    def forward_to(self, to: Transport | None, ear: ByteObserver) -> None:
        """What is read may be written to ``to`` and then told to ``ear`` right away, without the protocol's
        ``data_received``. None ends that."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``, now or as soon as there is room."""
        raise NotImplementedError

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be written."""
        raise NotImplementedError

    def set_write_buffer_limits(self, high: int) -> None:
        """Have the protocol pause above ``high`` bytes, and resume when a quarter of that is left."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Let the kernel keep what comes."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Read on."""
        raise NotImplementedError

    def write_eof(self) -> None:
        """End our direction (RFC 9293, section 3.6), and read on. Nothing may wait in the write buffer."""
        raise NotImplementedError

    def close(self) -> None:
        """End the connection once all that waits has been written."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the connection now; what waits is lost."""
        raise NotImplementedError

    def is_reading(self) -> bool:
        """Whether what comes is read."""
        raise NotImplementedError

    def is_closing(self) -> bool:
        """Whether the connection is over, or about to be."""
        raise NotImplementedError

    def idle_seconds(self) -> float:
        """Seconds since bytes last came; 0 where the kernel does not say (a Unix socket, not Linux)."""
        raise NotImplementedError

    def read_remaining(self) -> Iterator[bytes]:
        """What the kernel still holds of a connection that broke, up to a limit. Raises nothing."""
        raise NotImplementedError
