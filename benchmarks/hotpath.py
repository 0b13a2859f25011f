"""The hot path alone: fixed scripts of chunks, driven in-process through a tunnel's legs, to be counted.

What is counted is what is ours, the same on every machine: for each chunk a socket that is ready, one read, one write,
one look by the scanner. Memory stands in for the sockets.

    python -m benchmarks.hotpath SCRIPT TIMES

drives a script, so that a tool that counts from outside can look on; the difference between two numbers of TIMES is
free of what the start of the process cost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType

from exporter.protocol.direction import new_frame_counts
from exporter.protocol.session import Session
from exporter.relay import tcp
from exporter.relay.kernel import READ_BULK
from exporter.relay.poller import READ, Pollable, Poller
from exporter.relay.tcp import TcpTransport
from exporter.relay.transport import TransportProtocol
from exporter.relay.tunnel import Tunnel
from exporter.relay.tunnel_leg import TunnelLeg

_KEY = b"\x37\xfa\x21\x3d"


def frame(size: int, masked: bool, opcode: int = 2) -> bytes:
    """A whole frame with FIN and a payload of ``size`` bytes."""
    mask = 0x80 if masked else 0
    if size < 126:
        head = bytes((0x80 | opcode, mask | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, mask | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, mask | 127)) + size.to_bytes(8, "big")
    return head + (_KEY if masked else b"") + bytes(size)


@dataclass(frozen=True, slots=True)
class Script:
    """Chunks of each peer, in turn, and how many units (see :mod:`benchmarks.cases`) they make."""

    client: tuple[bytes, ...]
    server: tuple[bytes, ...]
    units: float


def _cut(data: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(data[at : at + size] for at in range(0, len(data), size))


SCRIPTS = {
    "pp64": Script((frame(128, True),), (frame(128, False),), 1),
    "pipe": Script((frame(128, True) * 64,), (frame(128, False) * 64,), 64),
    "stream": Script((), (frame(32, False) * 256,), 0.256),
    "b64k": Script((frame(65536, True),), (frame(65536, False),), 1),
    "b1m": Script(_cut(frame(1 << 20, True), 512_000), _cut(frame(1 << 20, False), 512_000), 1),
}


class _Socket:
    """Stands for a connected socket: what is read is what was put there, what is written is taken whole, at once."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("socket")

    def fileno(self) -> int:
        return self._fd

    def receive(self, data: bytes) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)

    def close(self) -> None:
        os.close(self._fd)


class _Poller(Poller):
    """Watches nothing: we say ourselves that something is ready."""

    def register(self, fd: int, target: Pollable, events: int) -> None: ...

    def modify(self, fd: int, events: int) -> None: ...


class _Reporter:
    def defect(self, error: Exception) -> None:
        raise error


class _Context:
    """What a tunnel that only forwards needs of its relay."""

    half_close_timeouts = None
    reporter = _Reporter()


class End:
    """One end of a fresh session, whose bytes come in one chunk after another.

    :ivar leg: the tunnel's, of this end.
    """

    def __init__(self) -> None:
        self.socket = _Socket()
        self.tcp = TcpTransport(_Poller(), self.socket, TransportProtocol())  # type: ignore[arg-type]
        self.tcp._read_size = READ_BULK  # so that the first read of much takes all of it

    @property
    def leg(self) -> TunnelLeg:
        """The tunnel's protocol for this end."""
        leg = self.tcp.get_protocol()
        assert isinstance(leg, TunnelLeg)
        return leg

    def send(self, data: bytes) -> None:
        """``data`` has come and is ready to be read."""
        self.socket.receive(data)
        self.tcp.ready(READ)


@contextmanager
def session() -> Iterator[tuple[End, End]]:
    """Both ends of one fresh session."""
    client, server = End(), End()
    with closing(client.socket), closing(server.socket):
        session = Session(new_frame_counts(), new_frame_counts())
        Tunnel(_Context(), session, client.tcp, server.tcp).begin()  # type: ignore[arg-type]
        yield client, server


def drive(script: Script, times: int) -> None:
    """Run ``script`` ``times`` times over one session."""
    with session() as (client, server):
        for _ in range(times):
            for data in script.client:
                client.send(data)
            for data in script.server:
                server.send(data)


def bytecodes(script: Script, times: int = 20) -> float:
    """Bytecode instructions of ours that Python executes for one unit of ``script``."""
    executed = 0

    def trace(frame: FrameType, event: str, argument: object) -> object:
        nonlocal executed
        if frame.f_code.co_filename == __file__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        executed += event == "opcode"
        return trace

    with session() as (client, server):
        chunks = [(client, data) for data in script.client] + [(server, data) for data in script.server]
        for end, data in chunks * (tcp.SHORT_READS + 1):  # until it is settled how much a read asks for
            end.send(data)
        before = sys.gettrace()
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            for _ in range(times):
                for end, data in chunks:
                    end.send(data)
        finally:
            sys.settrace(before)
    return executed / times / script.units


if __name__ == "__main__":
    drive(SCRIPTS[sys.argv[1]], int(sys.argv[2]))
