"""Reads the relays' sockets, many messages at a time.

    waiting ─► a socket is readable: read all ─► pausing ─► after PAUSE: read all ─► nothing there: waiting
                                                    ▲            └─ messages: pausing
    flush: waiting, until every relay has answered

Messages queue in the kernel meanwhile, so with many sessions one wake-up of the process serves many records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from socket import socket
from typing import Final

from exporter.protocol.messages import FLUSH, MAX_MESSAGE

#: Seconds for which messages may wait. Relays close some ten thousand sessions a second at most; the kernel's smallest
#: usual buffer holds a hundred records.
PAUSE: Final = 0.01
#: Messages that are read from one relay before others get their turn.
BATCH: Final = 128
#: Seconds for which :meth:`Receiver.flush` waits until the relays have brought their counters up to date.
FLUSH_TIMEOUT: Final = 0.1


class Receiver:
    """Read the sockets of relays, by slot.

    :param receive: called with the slot and each message.
    :param on_gone: called with the slot of a relay that has closed its socket, after its last message.
    :param pause: seconds for which messages may wait.
    """

    def __init__(
        self, receive: Callable[[int, bytes], None], on_gone: Callable[[int], None], pause: float = PAUSE
    ) -> None:
        self._receive = receive
        self._on_gone = on_gone
        self._sockets: dict[int, socket] = {}
        self._flushing: dict[int, asyncio.Event] = {}
        self._seconds = pause
        self._pause: asyncio.TimerHandle | None = None

    def add(self, slot: int, sock: socket) -> None:
        """Read a socket from now on."""
        self._sockets[slot] = sock
        if self._pause is None:
            asyncio.get_running_loop().add_reader(sock, self._on_readable, slot)

    def drain(self) -> None:
        """Read every message that has been sent."""
        for slot in list(self._sockets):
            while self._read(slot) == BATCH:
                pass

    async def flush(self) -> None:
        """Have the relays bring their counters up to date, and read everything that they sent before."""
        self._wait()
        waiting = []
        for slot, sock in self._sockets.items():
            with suppress(OSError):  # its queue is full, or it is gone
                sock.send(FLUSH)
                waiting.append(self._flushing.setdefault(slot, asyncio.Event()))
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT):
                for flushed in waiting:
                    await flushed.wait()

    def flushed(self, slot: int) -> None:
        """Note that a relay has answered, or never will."""
        if (flushing := self._flushing.pop(slot, None)) is not None:
            flushing.set()

    def _wait(self) -> None:
        """End the pause."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            for slot, sock in self._sockets.items():
                asyncio.get_running_loop().add_reader(sock, self._on_readable, slot)

    def _on_readable(self, slot: int) -> None:
        self._read(slot)
        if not self._flushing and self._pause is None:
            loop = asyncio.get_running_loop()
            for sock in self._sockets.values():
                loop.remove_reader(sock)
            self._pause = loop.call_later(self._seconds, self._on_pause_over)

    def _on_pause_over(self) -> None:
        most = max([self._read(slot) for slot in list(self._sockets)], default=0)
        if most:
            later = 0.0 if most == BATCH else self._seconds
            self._pause = asyncio.get_running_loop().call_later(later, self._on_pause_over)
        else:
            self._wait()

    def _read(self, slot: int) -> int:
        """Read up to :data:`BATCH` messages of a relay; return how many there were."""
        sock = self._sockets[slot]
        for count in range(BATCH):
            try:
                message = sock.recv(MAX_MESSAGE)
            except BlockingIOError:
                return count
            except ConnectionResetError:  # it has left a message of ours unread; its own come behind this, then its end
                continue
            except OSError:
                message = b""
            if not message:
                del self._sockets[slot]
                asyncio.get_running_loop().remove_reader(sock)
                sock.close()
                self.flushed(slot)
                self._on_gone(slot)
                return count
            self._receive(slot, message)
        return BATCH
