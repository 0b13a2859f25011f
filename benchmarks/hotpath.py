"""The hot path alone: fixed scripts of chunks, driven in-process through an engine's legs, to be counted.

Sockets are left out: a transport that takes what it is given stands at either side. What is counted is what is ours,
the same on every machine: for each chunk one ``data_received``, one write, one look by the scanner.

    python -m benchmarks.hotpath SCRIPT TIMES

drives a script, so that a tool that counts from outside can look on; the difference between two numbers of TIMES is
free of what the start of the process cost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from exporter.protocol.closecodes import CodeBook
from exporter.protocol.frames import new_tally
from exporter.protocol.session import Session
from exporter.relay.engine import Early, Engine, PythonEngine

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
    "b1m": Script(_cut(frame(1 << 20, True), 256_000), _cut(frame(1 << 20, False), 256_000), 1),
}


class _Transport(list[None]):
    """Takes everything, at once: its ``write`` is a cheap method written in C, as a real transport's is."""

    write = list.count
    protocol: object = None

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol


class _Listener:
    def noted(self, fact: object) -> None: ...

    def defect(self, error: Exception) -> None:
        raise error

    def ended(self) -> None: ...


def legs(engine: Engine) -> tuple[Callable[[bytes], None], Callable[[bytes], None]]:
    """What an event loop would call with the bytes of the client and of the server, of one fresh session."""
    client, server = _Transport(), _Transport()
    session = Session(CodeBook(), new_tally(), new_tally())
    engine.take(client, server, session, Early(), _Listener())  # type: ignore[arg-type]
    return client.protocol.data_received, server.protocol.data_received  # type: ignore[attr-defined]


def drive(script: Script, times: int, engine: Engine | None = None) -> Callable[[], None]:
    """A function that runs ``script`` ``times`` times over one session."""
    from_client, from_server = legs(engine or PythonEngine())

    def run() -> None:
        for _ in range(times):
            for data in script.client:
                from_client(data)
            for data in script.server:
                from_server(data)

    return run


def bytecodes(script: Script, times: int = 20) -> float:
    """Bytecode instructions that Python executes for one unit of ``script``, the driving loop not counted."""
    from_client, from_server = legs(PythonEngine())
    chunks = [(from_client, data) for data in script.client] + [(from_server, data) for data in script.server]
    executed = 0

    def trace(code: object, event: str, argument: object) -> object:
        nonlocal executed
        code.f_trace_opcodes, code.f_trace_lines = True, False  # type: ignore[attr-defined]
        executed += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        for _ in range(times):
            for receive, data in chunks:
                receive(data)
    finally:
        sys.settrace(before)
    return executed / times / script.units


if __name__ == "__main__":
    drive(SCRIPTS[sys.argv[1]], int(sys.argv[2]))()
