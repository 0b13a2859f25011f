"""What one connection can cost at most, in memory of the sidecar, by what its client and its app are at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from websockets.frames import Opcode

from tests.e2e.harness.sidecar import Sidecar
from tests.e2e.harness.wire import Peer, RawApp, frame, upgrade_request
from tests.ports import free_port
from tests.waiting import eventually

KIB = 1024
#: Far more than kernels buffer on the way: what is left over sticks in the sidecar.
FLOOD = 8 * KIB * KIB

Reached = Callable[[Sidecar, RawApp], list[Peer]]


def silent(sidecar: Sidecar, app: RawApp) -> list[Peer]:
    """Connected; nothing was sent."""
    return [Peer.connect(sidecar.port)]


def endless_head(sidecar: Sidecar, app: RawApp) -> list[Peer]:
    """63 KiB of a request's head, no end of it."""
    client = Peer.connect(sidecar.port)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 63 * KIB)
    return [client]


def many_headers(sidecar: Sidecar, app: RawApp) -> list[Peer]:
    """63 KiB of a request's head in small headers, no end of it."""
    client = Peer.connect(sidecar.port)
    client.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (63 * KIB // 6))
    return [client]


def early_frames(sidecar: Sidecar, app: RawApp) -> list[Peer]:
    """An upgrade that is not answered, and 63 KiB of frames sent ahead."""
    client = Peer.connect(sidecar.port)
    client.send(upgrade_request() + frame(Opcode.BINARY, bytes(63 * KIB), masked=True))
    server = app.accept()
    server.until(b"\r\n\r\n")
    return [client, server]


def idle_session(sidecar: Sidecar, app: RawApp) -> list[Peer]:
    """A session without traffic."""
    client = Peer.connect(sidecar.port)
    client.send(upgrade_request())
    server = app.accept()
    server.accept_handshake()
    client.until(b"\r\n\r\n")
    return [client, server]


def client_does_not_read(sidecar: Sidecar, app: RawApp) -> list[Peer]:
    """A session whose app sends 8 MiB to a client that reads nothing."""
    client, server = idle_session(sidecar, app)
    _flood(server)
    return [client, server]


def nobody_reads(sidecar: Sidecar, app: RawApp) -> list[Peer]:
    """A session whose peers send each other 8 MiB and read nothing."""
    client, server = idle_session(sidecar, app)
    _flood(client)
    _flood(server)
    return [client, server]


KINDS: Mapping[str, Reached] = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        silent,
        endless_head,
        many_headers,
        early_frames,
        idle_session,
        client_does_not_read,
        nobody_reads,
    )
}


def measure(count: int, kinds: Mapping[str, Reached] = KINDS) -> dict[str, float]:
    """KiB of resident memory a connection, by kind: a fresh sidecar each, ``count`` connections each."""
    measured = {}
    for name, reach in kinds.items():
        app = RawApp(free_port())
        sidecar = Sidecar(app.port, "--handshake-timeout", "10m", "--log-endings", "none")
        peers: list[Peer] = []
        try:
            for _ in range(5):  # what the first one costs, all share
                peers += reach(sidecar, app)
            start = _settled(sidecar)
            for _ in range(count):
                peers += reach(sidecar, app)
            measured[name] = (_settled(sidecar) - start) / count
        finally:
            for peer in peers:
                peer.close()
            sidecar.stop()
            app.close()
    return measured


def _settled(sidecar: Sidecar) -> int:
    """Resident memory in KiB, once it does not move any more."""
    seen: list[int] = []

    def still() -> bool:
        seen.append(sidecar.process.rss_kib())
        return len(seen) > 30 and max(seen[-30:]) == min(seen[-30:])

    with suppress(AssertionError):
        eventually(still, "memory is still", 10)
    return seen[-1]


def _flood(peer: Peer) -> None:
    """Send until nothing more is taken."""
    data = frame(Opcode.BINARY, bytes(FLOOD), masked=False)
    peer.socket.settimeout(0.1)
    at = 0
    with suppress(TimeoutError):
        while at < len(data):
            at += peer.socket.send(data[at : at + 256 * KIB])
