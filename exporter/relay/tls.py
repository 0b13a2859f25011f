"""TLS on the data port, as a layer between a client's TCP connection and its leg.

How it works
============
The loop's own TLS transports cannot close one direction: the first FIN ends both, and what is still under way is lost.
A WebSocket connection lives from the two directions ending on their own, so this layer does its own TLS, with OpenSSL
between two memory buffers (:class:`ssl.MemoryBIO`): ciphertext from the client goes into one, plaintext comes out and
is handed to the leg; what the leg writes goes in as plaintext, ciphertext comes out and is written to the client.

    client ──TCP──► _Below ──► incoming ──► OpenSSL ──► Leg.data_received
    client ◄──TCP── transport ◄── outgoing ◄── OpenSSL ◄── Layer.write

A FIN in one direction is a ``close_notify`` alert followed by TCP's FIN (RFC 8446, section 6.1: each party closes its
own direction), and either of them read is a FIN to the leg. What is read in one go is handed on in one piece, whatever
records it came in. The leg exists from the accept, so that the time a handshake takes counts against the client's
handshake timeout, and what the app says before the handshake is done waits here.

Nothing else changes: behind this layer the relay sees the same bytes as without it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from exporter.relay.tcp import HIGH_WATER
from exporter.relay.transport import Transport, TransportProtocol

#: Plaintext that is asked of OpenSSL at once; a record holds 16 KiB (RFC 8446, section 5.1).
_RECORD = 16 * 1024


class TlsTransport(Transport):
    """A client's connection, as its leg sees it.

    :param context: the server's certificate and key.
    :param protocol: the leg.
    :param failed: told why, if the client's handshake or a record of it cannot be taken.
    """

    def __init__(self, context: ssl.SSLContext, protocol: TransportProtocol, failed: Callable[[str], None]) -> None:
        self._protocol = protocol
        self._tell_failed = failed
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._raw: Transport
        self._up = False
        self._early: list[bytes] = []  # what the app said before the handshake was done
        self._high = HIGH_WATER
        self._paused = self._closing = self._fin_read = self._fin_due = self._fin_sent = False

    # From below.

    def connected(self, raw: Transport) -> None:
        """TCP is there."""
        self._raw = raw
        self._protocol.connection_made(self)

    def received(self, data: bytes) -> None:
        """Ciphertext of the client."""
        self._incoming.write(data)
        self._pump()

    def ended(self) -> bool:
        """The client's FIN. One without ``close_notify`` before it ends the direction all the same."""
        if not self._up:
            self._raw.close()
            return False
        self._incoming.write_eof()
        self._pump()
        return True

    def lost(self, exc: Exception | None) -> None:
        """TCP is gone."""
        self._closing = True
        self._protocol.connection_lost(exc)

    def paused(self) -> None:
        """TCP's write buffer is full."""
        if not self._fin_due:
            self._protocol.pause_writing()

    def resumed(self) -> None:
        """TCP's write buffer has room."""
        if self._fin_due:
            self._fin_due = False
            self._raw.write_eof()
        else:
            self._protocol.resume_writing()

    def _pump(self) -> None:
        """Take on what can be taken on."""
        if self._closing or (not self._up and not self._shake_hands()):
            return
        if self._paused:
            return
        parts, over = self._read()
        self._flush()
        if parts:
            self._protocol.data_received(b"".join(parts))
        if over and not self._fin_read and not self._closing:
            self._fin_read = True
            if not self._protocol.eof_received():
                self.close()

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except (ssl.SSLError, OSError) as error:
            self._fail(error)
            return False
        self._up = True
        self._flush()
        if early := b"".join(self._early):
            self._early.clear()
            self.write(early)
            if self._raw.get_write_buffer_size() <= self._high:
                self._protocol.resume_writing()
        return True

    def _read(self) -> tuple[list[bytes], bool]:
        """All plaintext there is, and whether the client's direction is over."""
        parts: list[bytes] = []
        while True:
            try:
                unlink = self._tls.read(_RECORD)
            except ssl.SSLWantReadError:
                return parts, False
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return parts, True
            except (ssl.SSLError, OSError) as error:
                self._fail(error)
                return parts, False
            if not unlink:
                return parts, True
            parts.append(unlink)

    def _fail(self, error: Exception) -> None:
        """Say why to the client, as an alert, and hang up."""
        self._tell_failed(getattr(error, "reason", None) or str(error))
        self._flush()
        self._closing = True
        self._raw.close()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._raw.write(data)

    # For the leg.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._fin_sent:
            return
        if not self._up:
            was_full = self.get_write_buffer_size() > self._high
            self._early.append(bytes(data))
            if not was_full and self.get_write_buffer_size() > self._high:
                self._protocol.pause_writing()
            return
        rest = memoryview(data)
        try:
            while rest:
                taken = self._tls.write(rest)  # beside the slice: mypyc 2.4 evaluates a bound of some twice
                rest = rest[taken:]
        except (ssl.SSLError, OSError) as error:
            self._fail(error)
            return
        self._flush()

    def write_eof(self) -> None:
        """End our direction, and read on."""
        if self._closing or self._fin_sent:
            return
        self._fin_sent = True
        self._notify_close()
        if self._raw.get_write_buffer_size():
            self._fin_due = True
            self._raw.set_write_buffer_limits(0)
        else:
            self._raw.write_eof()

    def _notify_close(self) -> None:
        if self._up:
            with suppress(ssl.SSLError, OSError):  # it waits for the client's close_notify, we do not
                self._tls.unwrap()
            self._flush()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._fin_sent:
                self._notify_close()
            self._raw.close()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def read_remaining(self) -> Iterator[bytes]:
        """What the kernel still holds, decrypted."""
        if not self._up:
            return
        for data in self._raw.read_remaining():
            self._incoming.write(data)
        yield from self._read()[0]

    def idle_seconds(self) -> float:
        return self._raw.idle_seconds()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)

    def get_protocol(self) -> TransportProtocol:
        return self._protocol

    def set_protocol(self, protocol: TransportProtocol) -> None:
        self._protocol = protocol

    def pause_reading(self) -> None:
        self._paused = True
        if not self._raw.is_closing():
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if not self._raw.is_closing():
            self._raw.resume_reading()
            asyncio.get_running_loop().call_soon(self._pump)

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high
        self._raw.set_write_buffer_limits(high)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size() + sum(map(len, self._early))


class Below(TransportProtocol):
    """TCP's side of a :class:`TlsTransport`."""

    __slots__ = ("_layer",)

    def __init__(self, layer: TlsTransport) -> None:
        self._layer = layer

    def connection_made(self, stream: Transport) -> None:
        self._layer.connected(stream)

    def data_received(self, data: bytes) -> None:
        self._layer.received(data)

    def eof_received(self) -> bool:
        return self._layer.ended()

    def pause_writing(self) -> None:
        self._layer.paused()

    def resume_writing(self) -> None:
        self._layer.resumed()

    def connection_lost(self, error: Exception | None) -> None:
        self._layer.lost(error)
