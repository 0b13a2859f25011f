"""Faults that need a network and a file system of their own: ``python -m tests.integration.faults.netns NAME`` in
namespaces.

:mod:`tests.integration.faults.test_isolated` runs each in fresh network and mount namespaces (``unshare --net
--mount``), so that what is broken here is nobody else's. Each function is a test; an assertion that fails ends the
process with status 1.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from websockets.frames import Opcode

from tests.e2e.harness.scrape import ACTIVE, CONNECT_ERRORS, HANDSHAKES
from tests.e2e.harness.wire import Peer, RawApp, close_frame, frame, upgrade_request
from tests.integration.faults.harness import TroubledSidecar, session, troubled
from tests.ports import free_port
from tests.waiting import eventually

CLONE_NEWNET = 0x40000000

HERE, THERE = "10.9.0.1", "10.9.0.2"


def run(*command: str) -> None:
    """A command that must work."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def host_beyond_a_wire() -> None:
    """A second network namespace, ``far``, at the other end of a virtual cable."""
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "away")
    run("ip", "netns", "add", "far")
    run("ip", "link", "set", "away", "netns", "far")
    run("ip", "address", "add", f"{HERE}/24", "dev", "near")
    run("ip", "link", "set", "near", "up")
    for command in (("address", "add", f"{THERE}/24", "dev", "away"), ("link", "set", "away", "up")):
        run("ip", "-netns", "far", *command)


def connect_from_far(port: int) -> Peer:
    """A connection from the other end of the cable; a socket belongs to the namespace of the thread that makes it."""
    made: list[Peer] = []

    def make() -> None:
        with open("/run/netns/far") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        sock = socket.create_connection((HERE, port), timeout=10)
        made.append(Peer(sock))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def open_from_far(sidecar: TroubledSidecar, app: RawApp) -> tuple[Peer, Peer]:
    """A session over the cable."""
    client = connect_from_far(sidecar.port)
    client.send(upgrade_request())
    server = app.accept()
    server.accept_handshake()
    client.until(b"\r\n\r\n")
    return client, server


def a_client_that_vanishes() -> None:
    """The cable is cut: no FIN, no RST. TCP asks for a sign of life, gives up, and the app is told: connection-lost."""
    host_beyond_a_wire()
    app = RawApp(free_port())
    altered = ("exporter.relay.listener.PROBE_INTERVAL=1", "exporter.relay.listener.PROBES=2")
    with FarSidecar(app.port, "--client-keepalive", "1s", altered=altered) as sidecar:
        before = sidecar.scrape()
        client, server = open_from_far(sidecar, app)
        near = frame(Opcode.TEXT, b"hello", masked=True)
        client.send(near)
        assert server.exactly(len(near)) == near
        run("ip", "link", "set", "near", "down")
        assert server.rest() == b"", "the app gets the end of TCP"
        server.close()
        assert sidecar.settled(before).endings() == {("1006", "connection-lost", "client"): 1}
        line = sidecar.line("session.closed")
        assert line["clean"] is False
        assert str(line["client"]).startswith(THERE)
        client.close()


def a_client_that_vanishes_before_the_apps_close() -> None:
    """The app's Close and FIN find nobody. The ending is the app's, counted after a minute (here a second)."""
    host_beyond_a_wire()
    app = RawApp(free_port())
    with FarSidecar(app.port, altered=("exporter.relay.legs.HALF_CLOSED=1.0",)) as sidecar:
        before = sidecar.scrape()
        client, server = open_from_far(sidecar, app)
        run("ip", "link", "set", "near", "down")
        server.send(close_frame(1011, "keepalive ping timeout", masked=False))
        server.close()
        added = sidecar.settled(before)
        assert added.endings() == {("1011", "ping-timeout", "server"): 1}
        assert added.value("websocket_close_handshakes_incomplete_total", initiator="server") == 1
        client.close()


def out_of_ephemeral_ports() -> None:
    """No local port is left for a connection to the app: 502 and `resources`; sessions live; later all is well."""
    app = RawApp(free_port())
    with troubled(app.port) as sidecar:
        before = sidecar.scrape()
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40007")
        clients: list[Peer] = []
        servers: list[Peer] = []
        for number in range(8):  # clients come from ports outside of the range
            clients.append(connect_by(sidecar.port, 30000 + number))
            clients[-1].send(upgrade_request())
            servers.append(app.accept())
            servers[-1].accept_handshake()
            clients[-1].until(b"\r\n\r\n")
        refused = connect_by(sidecar.port, 30100)
        refused.send(upgrade_request())
        assert refused.some().startswith(b"HTTP/1.1 502 ")
        hello = frame(Opcode.TEXT, b"still here", masked=True)
        clients[0].send(hello)
        assert servers[0].exactly(len(hello)) == hello

        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 49999")
        added = sidecar.scrape().since(before)
        assert added.by(CONNECT_ERRORS, "reason") == {"resources": 1}
        assert added.by(HANDSHAKES, "status") == {"101": 8, "502": 1}
        line = sidecar.line("upstream.connect_failed")
        assert "address" in str(line["why"])
        with session(sidecar, app):
            assert sidecar.scrape().value(ACTIVE) == 9


def a_name_that_moves() -> None:
    """The app's name leads elsewhere from now on: old sessions stay, new clients go to the new address."""
    hosts = Path(tempfile.mkdtemp()) / "hosts"
    hosts.write_text("127.0.0.1 app.test\n")
    run("mount", "--bind", str(hosts), "/etc/hosts")
    port = free_port()
    old, new = RawApp(port), RawAppAt("127.0.0.2", port)
    with troubled(port, upstream=f"app.test:{port}") as sidecar:
        before = sidecar.scrape()
        with session(sidecar, old) as (client, server):
            hosts.write_text("127.0.0.2 app.test\n")
            with session(sidecar, new) as (second, _):
                second.close()
            hello = frame(Opcode.TEXT, b"still here", masked=True)
            client.send(hello)
            assert server.exactly(len(hello)) == hello

            hosts.write_text("127.0.0.1 localhost\n")
            lost = Peer.connect(sidecar.port)
            lost.send(upgrade_request())
            assert lost.rest().startswith(b"HTTP/1.1 502 ")
            added = sidecar.scrape().since(before)
            assert added.by(CONNECT_ERRORS, "reason") == {"dns": 1}
            eventually(lambda: sidecar.get("/readyz")[0] == 503, "it is not ready")
            hosts.write_text("127.0.0.2 app.test\n")
            sidecar.wait_ready()
        assert sidecar.settled(before, 2).value(ACTIVE) == 0


class RawAppAt(RawApp):
    """A raw app on another loopback address."""

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        self._listener = socket.create_server((host, port))
        self._listener.settimeout(20)


def connect_by(port: int, source: int) -> Peer:
    """Connect from a given port."""
    return Peer(socket.create_connection(("127.0.0.1", port), timeout=10, source_address=("127.0.0.1", source)))


class _Managed(TroubledSidecar):
    def __enter__(self) -> _Managed:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class FarSidecar(_Managed):
    """Listens on every address."""

    def _argv(self, upstream: str, flags: Sequence[str]) -> list[str]:
        return [unlink.replace(f"127.0.0.1:{self.port}", f":{self.port}") for unlink in super()._argv(upstream, flags)]


CASES: dict[str, Callable[[], None]] = {
    case.__name__: case
    for case in (
        a_client_that_vanishes,
        a_client_that_vanishes_before_the_apps_close,
        out_of_ephemeral_ports,
        a_name_that_moves,
    )
}


def main() -> None:
    """Run one case, with a loopback of our own and a place for namespaces that nobody else sees."""
    run("ip", "link", "set", "lo", "up")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    os.mkdir("/run/netns")
    CASES[sys.argv[1]]()


if __name__ == "__main__":
    main()
