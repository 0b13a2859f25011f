"""Transports and protocols, by asyncio's names and promises, as classes that can be compiled.

Beyond asyncio there are half-closing, resetting, and the number of bytes that have not reached the peer.
"""

from __future__ import annotations

from collections.abc import Iterator

from mypy_extensions import mypyc_attr

from exporter.protocol.direction import ByteObserver
from exporter.protocol.frame_header import Events
from exporter.relay.poller import Pollable


@mypyc_attr(allow_interpreted_subclasses=True)
class TransportProtocol:
    """Receiver of a :class:`Transport`'s calls: ``connection_made`` first, ``connection_lost`` once and last."""

    __slots__ = ()

    def connection_made(self, transport: Transport) -> None:
        """Take calls from ``transport`` from now on."""

    def data_received(self, data: bytes) -> None:
        """Take bytes that were read."""

    def eof_received(self) -> bool:
        """Take the peer's FIN. Return whether the transport stays open for writing."""
        return False

    def end_pending(self) -> None:
        """Note that the peer's FIN came behind more bytes than can be read while reading is paused."""

    def pause_writing(self) -> None:
        """Note that the write buffer is above the high-water mark."""

    def resume_writing(self) -> None:
        """Note that a quarter of the mark is left, after ``pause_writing``."""

    def connection_lost(self, error: Exception | None) -> None:
        """Take the end of the connection: ``error``, or None if we closed it."""

    def events_received(self, events: Events) -> None:
        """Take the events of the observer that :meth:`Transport.forward_to` set."""
        raise NotImplementedError

    def observing_failed(self, error: Exception) -> None:
        """Take an error that the observer raised: a defect."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Transport(Pollable):
    """One end of a connection: a TCP or Unix socket, which a poller serves, or a layer such as TLS above it."""

    __slots__ = ()

    def get_protocol(self) -> TransportProtocol:
        """Return the protocol."""
        raise NotImplementedError

    def set_protocol(self, protocol: TransportProtocol) -> None:
        """Replace the protocol."""
        raise NotImplementedError

    def addresses(self) -> tuple[object, object]:
        """Return the peer's address and our own as a socket does; None for both if the peer has gone."""
        raise NotImplementedError

    def forward_to(self, destination: Transport | None, observer: ByteObserver) -> None:
        """Allow bytes to be written to ``destination`` and fed to ``observer`` without ``data_received``.

        None ends that.
        """
        raise NotImplementedError

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``, now or as soon as there is room."""
        raise NotImplementedError

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that wait to be written."""
        raise NotImplementedError

    def undelivered(self) -> int:
        """Return the number of written bytes that the peer's kernel has not acknowledged."""
        raise NotImplementedError

    def set_write_buffer_limits(self, high: int) -> None:
        """Set the high-water mark in bytes."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Stop reading: leave bytes to the kernel."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Read again."""
        raise NotImplementedError

    def write_eof(self) -> None:
        """Send a FIN (RFC 9293, section 3.6), and read on. The write buffer must be empty."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection after everything that waits has been written."""
        raise NotImplementedError

    def reset(self) -> None:
        """Close the connection with an RST after everything that waits has been delivered."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close the connection now with an RST; bytes that wait are lost."""
        raise NotImplementedError

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or about to be."""
        raise NotImplementedError

    def idle_seconds(self) -> float:
        """Return the seconds since bytes last came; 0 where the kernel does not say (a Unix socket, not Linux)."""
        raise NotImplementedError

    def read_remaining(self) -> Iterator[bytes]:
        """Read the bytes that the kernel still holds of a broken connection, up to a limit. Raises nothing."""
        raise NotImplementedError
