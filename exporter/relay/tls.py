"""TLS on the data port, as a layer between a client's TCP connection and its leg.

How it works
============
asyncio's TLS transports cannot close one direction: the first FIN ends both, and bytes under way are lost. A WebSocket
connection needs the two directions to end on their own, so this layer does its own TLS, with OpenSSL between two memory
buffers (:class:`ssl.MemoryBIO`):

    client ──TCP──► Below ──► incoming ──► OpenSSL ──► Leg.data_received
    client ◄──TCP── transport ◄── outgoing ◄── OpenSSL ◄── TlsTransport.write

A FIN in one direction is a ``close_notify`` alert followed by TCP's FIN (RFC 8446, section 6.1: each party closes its
own direction), and either of them read is a FIN to the leg. Plaintext that one read brought is handed on in one piece,
if a turn of the poller suffices to decrypt it.
The leg exists from the accept, so that the TLS handshake counts against the client's handshake timeout; bytes
that the app sends before it is done wait here.

    layer     HANDSHAKE ─► OPEN ─► CLOSING        CLOSING also from HANDSHAKE: failure, close(), abort(), TCP's end

    writing   OPEN ─ write_eof() ─► FLUSHING ─ TCP's buffer empty ─► FIN_SENT
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from itertools import chain
from time import monotonic, thread_time
from typing import Final

from exporter.protocol.direction import ByteObserver
from exporter.relay.legs import Writing
from exporter.relay.poller import MAX_TURN, Poller
from exporter.relay.tcp_writer import HIGH_WATER
from exporter.relay.transport import Transport, TransportProtocol

#: Plaintext that is read from OpenSSL at once; a record holds 16 KiB (RFC 8446, section 5.1).
_RECORD: Final = 16 * 1024
#: Records that OpenSSL gets at once: after one without plaintext, such as a KeyUpdate, it reads on by itself.
MAX_RECORDS: Final = 64
#: Bytes of a record's header, the last two of which are the length of the rest (RFC 8446, section 5.1).
_HEADER: Final = 5
#: Bytes of OpenSSL's own answers, as to a KeyUpdate, that a client may leave unread.
MAX_ANSWERS: Final = 64 * 1024
#: Seconds of CPU time to decrypt data that a client sent before it reset the connection.
MAX_SALVAGE_TIME: Final = 0.005


class TlsState(Enum):
    """State of a layer; see the module's diagram."""

    HANDSHAKE = 0
    OPEN = 1
    CLOSING = 2


_HANDSHAKE: Final = TlsState.HANDSHAKE
_CLOSING: Final = TlsState.CLOSING


class TlsTransport(Transport):
    """A client's connection, as its leg sees it.

    :param context: the server's certificate and key.
    :param protocol: the leg.
    :param on_failure: called with the reason if the client's handshake or a record of it is refused.
    :param poller: calls back for records that were left for later turns.
    """

    def __init__(
        self, context: ssl.SSLContext, protocol: TransportProtocol, on_failure: Callable[[str], None], poller: Poller
    ) -> None:
        self._protocol = protocol
        self._poller = poller
        self._on_failure = on_failure
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._raw: Transport
        self._state = _HANDSHAKE
        self._writing = Writing.OPEN
        self._early: list[bytes] = []  # bytes of the app from before the handshake was done
        self._high = HIGH_WATER
        self._paused = False
        self._fin_read = False
        self._ciphertext = memoryview(b"")  # that OpenSSL has not got yet
        self._inside = 0  # bytes to come of the record that OpenSSL got a part of
        self._answers = 0  # bytes of OpenSSL's own since TCP's buffer was empty
        self._behind = False  # records were left for later
        self._ended = False  # TCP's FIN was read

    # From below.

    def connected(self, raw: Transport) -> None:
        """TCP is connected."""
        self._raw = raw
        self._protocol.connection_made(self)

    def received(self, data: bytes) -> None:
        """Take ciphertext of the client."""
        self._add(data)
        self._pump()

    def _add(self, data: bytes) -> None:
        self._ciphertext = memoryview(bytes(self._ciphertext) + data if self._ciphertext else data)

    def ended(self) -> bool:
        """Take the client's FIN. One without ``close_notify`` before it ends the direction all the same."""
        if self._state is _HANDSHAKE:
            self._raw.close()
            return False
        self._ended = True
        self._pump()
        return True

    def lost(self, exc: Exception | None) -> None:
        """TCP is gone."""
        self._state = _CLOSING
        self._protocol.connection_lost(exc)

    def paused(self) -> None:
        """TCP's write buffer is full."""
        if self._writing is not Writing.FLUSHING:
            self._protocol.pause_writing()

    def resumed(self) -> None:
        """TCP's write buffer has room."""
        if self._writing is Writing.FLUSHING:
            self._writing = Writing.FIN_SENT
            self._raw.write_eof()
        else:
            self._protocol.resume_writing()

    def _pump(self) -> None:
        """Take the handshake forward, or hand on the plaintext there is."""
        if not self._behind:
            self._hand_on()

    def _hand_on(self) -> bool:
        """Hand on the plaintext of the records that a turn has time for. Return whether none is left for later."""
        began = monotonic()
        parts: list[bytes] = []
        over = late = False
        more = not self._fin_read
        while more and not self._is_waiting():
            fed = self._feed()
            if self._is_shaking_hands():
                self._shake_hands()
            if not self._is_shaking_hands() and not self._is_waiting():
                over = self._read(parts)
            late = bool(self._ciphertext) and monotonic() - began > MAX_TURN
            more = not over and not late and (self._ended or (fed and bool(self._ciphertext)))
        self._answer()
        if parts:
            self._protocol.data_received(b"".join(parts))
        if late and not self._is_waiting():
            if not self._behind:
                self._behind = True
                self._raw.pause_reading()
                self._poller.took_long = True
                self._poller.run_later(self._hand_on)
            return False
        if self._behind:
            self._behind = False
            self._resume_raw()
        if over and not self._fin_read and not self._is_closing():
            self._fin_read = True
            if not self._protocol.eof_received():
                self.close()
        return True

    def _feed(self) -> bool:
        """Give OpenSSL the next records. Return whether there were any."""
        data, size = self._ciphertext, self._inside
        for _ in range(MAX_RECORDS):
            if len(data) < size + _HEADER:
                break
            size += _HEADER + (data[size + 3] << 8) + data[size + 4]
        if not data or not size:
            if self._ended:
                self._incoming.write(data)
                self._ciphertext = memoryview(b"")
                self._incoming.write_eof()
            return False
        self._inside = max(0, size - len(data))
        size = min(size, len(data))
        self._incoming.write(data[:size])
        self._ciphertext = data[size:]
        return True

    def _answer(self) -> None:
        """Send the records that OpenSSL wrote itself, such as KeyUpdates; reset a client that leaves them unread."""
        if not self._raw.get_write_buffer_size():
            self._answers = 0
        data = self._outgoing.read()
        self._answers += len(data)
        if self._answers > MAX_ANSWERS and not self._is_closing():
            self._on_failure("answers of TLS are left unread")
            self.abort()
        elif data:
            self._raw.write(data)

    def _is_shaking_hands(self) -> bool:
        return self._state is _HANDSHAKE

    def _is_waiting(self) -> bool:
        """Return whether nothing may be handed on now."""
        return self._state is _CLOSING or (self._paused and self._state is not _HANDSHAKE)

    def _resume_raw(self) -> None:
        if not self._paused and not self._behind and not self._ended and not self._raw.is_closing():
            self._raw.resume_reading()

    def _is_closing(self) -> bool:
        return self._state is _CLOSING

    def _shake_hands(self) -> None:
        self._poller.took_long = True  # a signature takes up to milliseconds
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, OSError) as error:
            self._fail(error)
            return
        self._state = TlsState.OPEN
        self._flush()
        if early := b"".join(self._early):
            self._early.clear()
            self.write(early)
            if self._raw.get_write_buffer_size() <= self._high:
                self._protocol.resume_writing()

    def _read(self, parts: list[bytes]) -> bool:
        """Add the plaintext of the records that OpenSSL has. Return whether the client's direction is over."""
        while True:
            try:
                part = self._tls.read(_RECORD)
            except ssl.SSLWantReadError:
                return False
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return True
            except (ssl.SSLError, OSError) as error:
                self._fail(error)
                return False
            if not part:
                return True
            parts.append(part)

    def _fail(self, error: Exception) -> None:
        """Send the alert that OpenSSL has for the client, and close."""
        self._on_failure(getattr(error, "reason", None) or str(error))
        self._flush()
        self._state = _CLOSING
        self._raw.close()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._raw.write(data)

    # For the leg.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._state is _CLOSING or self._writing is not Writing.OPEN:
            return
        if self._state is _HANDSHAKE:
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
        if self._state is _CLOSING or self._writing is not Writing.OPEN:
            return
        self._notify_close()
        if self._raw.get_write_buffer_size():
            self._writing = Writing.FLUSHING
            self._raw.set_write_buffer_limits(0)
        else:
            self._writing = Writing.FIN_SENT
            self._raw.write_eof()

    def _notify_close(self) -> None:
        if self._state is TlsState.OPEN:
            with suppress(ssl.SSLError, OSError):  # it waits for the client's close_notify, we do not
                self._tls.unwrap()
            self._flush()

    def close(self) -> None:
        if self._state is not _CLOSING:
            if self._writing is Writing.OPEN:
                self._notify_close()
            self._state = _CLOSING
            self._raw.close()

    def reset(self) -> None:
        self._state = _CLOSING
        self._raw.reset()

    def abort(self) -> None:
        self._state = _CLOSING
        self._raw.abort()

    def read_remaining(self) -> Iterator[bytes]:
        if self._tls.version() is None:  # inside the handshake
            return
        began = thread_time()
        for data in chain((b"",), self._raw.read_remaining()):
            self._add(data)
            while self._feed() and thread_time() - began < MAX_SALVAGE_TIME:
                parts: list[bytes] = []
                self._read(parts)
                yield b"".join(parts)

    def idle_seconds(self) -> float:
        return self._raw.idle_seconds()

    def is_closing(self) -> bool:
        return self._state is _CLOSING or self._raw.is_closing()

    def addresses(self) -> tuple[object, object]:
        return self._raw.addresses()

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
            self._resume_raw()
            asyncio.get_running_loop().call_soon(self._pump_on)

    def _pump_on(self) -> None:
        if not self._paused:
            self._pump()

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high
        self._raw.set_write_buffer_limits(high)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size() + sum(map(len, self._early))

    def undelivered(self) -> int:
        return self._raw.undelivered() + sum(map(len, self._early))

    def forward_to(self, destination: Transport | None, observer: ByteObserver) -> None:
        """Do nothing: plaintext takes the way through ``data_received``."""


class Below(TransportProtocol):
    """TCP's protocol, below a :class:`TlsTransport`."""

    __slots__ = ("_layer",)

    def __init__(self, layer: TlsTransport) -> None:
        self._layer = layer

    def connection_made(self, transport: Transport) -> None:
        self._layer.connected(transport)

    def data_received(self, data: bytes) -> None:
        self._layer.received(data)

    def eof_received(self) -> bool:
        return self._layer.ended()

    def end_pending(self) -> None:
        self._layer.get_protocol().end_pending()

    def pause_writing(self) -> None:
        self._layer.paused()

    def resume_writing(self) -> None:
        self._layer.resumed()

    def connection_lost(self, error: Exception | None) -> None:
        self._layer.lost(error)
