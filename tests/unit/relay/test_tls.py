"""TLS on the data port: the same bytes, the same endings, each direction ending on its own."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme
from websockets.frames import Opcode
from websockets.sync.client import connect

from exporter.relay.poller import Poller
from exporter.relay.tls import MAX_SALVAGE_TIME, TlsTransport
from exporter.relay.transport import Transport, TransportProtocol
from tests.certificates import issue, trusting
from tests.e2e.conftest import raw_app
from tests.e2e.harness.scrape import ACTIVE
from tests.e2e.harness.sidecar import Sidecar, audited
from tests.e2e.harness.stack import python
from tests.e2e.harness.wire import Peer, RawApp, close_frame, frame, noise, upgrade_request
from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, eventually

__all__ = ["raw_app"]

TLS_ERRORS = "websocket_exporter_tls_errors_total"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the certificates of these tests."""
    return trustme.CA()


@contextmanager
def secured(upstream: int, authority: trustme.CA, folder: Path, *flags: str) -> Iterator[Sidecar]:
    """A sidecar with TLS."""
    certificate, key = issue(authority, folder)
    with audited(upstream, "--tls-cert", str(certificate), "--tls-key", str(key), *flags) as sidecar:
        yield sidecar


class Client:
    """A TLS client that can end one direction, which :class:`ssl.SSLSocket` cannot: OpenSSL between two buffers."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_LIMIT)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._do(self.tls.do_handshake)

    def _do(self, call: object, *arguments: object) -> object:
        while True:
            try:
                result = call(*arguments)  # type: ignore[operator]
            except ssl.SSLWantReadError:
                self._flush()
                data = self.socket.recv(1 << 18)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if data := self._out.read():
            self.socket.sendall(data)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            view = view[self._do(self.tls.write, view[:16384]) :]  # type: ignore[misc]

    def exactly(self, count: int) -> bytes:
        """The next bytes."""
        data = bytearray()
        while len(data) < count:
            data += self.some()
        assert len(data) == count
        return bytes(data)

    def some(self) -> bytes:
        """The next bytes; b"" at the server's close_notify or FIN."""
        try:
            return bytes(self._do(self.tls.read, 16384))  # type: ignore[call-overload]
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def rest(self) -> bytes:
        """Everything up to the end."""
        data = bytearray()
        while more := self.some():
            data += more
        return bytes(data)

    def half_close(self) -> None:
        """Say that nothing more will be sent: close_notify and FIN."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End both directions."""
        self.socket.close()


def opened(sidecar: Sidecar, app: RawApp, context: ssl.SSLContext) -> tuple[Client, Peer]:
    """A session: its client and its server."""
    client = Client(sidecar.port, context)
    client.send(upgrade_request())
    server = app.accept()
    server.accept_handshake()
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.some()
    assert head.startswith(b"HTTP/1.1 101 ")
    return client, server


def test_bytes_and_endings_are_the_same(raw_app: RawApp, authority: trustme.CA, tmp_path: Path) -> None:
    """2 MiB each way at once arrive exactly, and a Close decides as ever."""
    with secured(raw_app.port, authority, tmp_path) as sidecar:
        before = sidecar.scrape()
        client, server = opened(sidecar, raw_app, trusting(authority))
        up, down = frame(Opcode.BINARY, noise(2 * MIB), masked=True), frame(Opcode.BINARY, noise(2 * MIB), masked=False)
        sending = threading.Thread(target=server.send, args=(down,))
        receiving: list[bytes] = []
        reading = threading.Thread(target=lambda: receiving.append(server.exactly(len(up))))
        sending.start()
        reading.start()
        client.send(up)
        assert client.exactly(len(down)) == down
        sending.join()
        reading.join()
        assert receiving == [up]
        server.send(close_frame(1011, masked=False))
        assert client.exactly(4) == close_frame(1011, masked=False)
        client.send(answer := close_frame(1011, masked=True))
        assert server.exactly(len(answer)) == answer
        server.close()
        assert client.rest() == b""
        client.close()
        added = sidecar.settled(before)
        assert added.endings() == {("1011", "internal-error", "server"): 1}
        assert added.value(TLS_ERRORS) == 0


@pytest.mark.parametrize("first", ["client", "server"])
def test_one_direction_ends_alone(raw_app: RawApp, authority: trustme.CA, tmp_path: Path, first: str) -> None:
    """Who has said its last (close_notify, FIN) still gets the 1 MiB that the other one is sending."""
    with secured(raw_app.port, authority, tmp_path) as sidecar:
        before = sidecar.scrape()
        client, server = opened(sidecar, raw_app, trusting(authority))
        data = frame(Opcode.BINARY, noise(MIB), masked=first == "server")
        if first == "client":
            client.half_close()
            assert server.rest() == b""
            thread = threading.Thread(target=lambda: (server.send(data), server.close()))
            thread.start()
            assert client.rest() == data
        else:
            server.half_close()
            assert client.rest() == b""
            received: list[bytes] = []
            thread = threading.Thread(target=lambda: received.append(server.rest()))
            thread.start()
            client.send(data)
            client.half_close()
        thread.join()
        if first == "server":
            assert received == [data]
        client.close()
        server.close()
        assert sidecar.settled(before).endings() == {("1006", "connection-lost", first): 1}


@pytest.mark.slow
def test_a_renewed_certificate_drops_nobody(authority: trustme.CA, tmp_path: Path) -> None:
    """New clients are served by the new certificate; the session that was open goes on by the old one."""
    port = free_port()
    app = python("websockets", "websockets_asyncio.py", needs="websockets").start(port)
    try:
        with secured(port, authority, tmp_path) as sidecar:
            context = trusting(authority)
            url = f"wss://localhost:{sidecar.port}"
            with connect(url, ssl=context) as client:
                client.send("before")
                assert client.recv(timeout=WAIT_LIMIT) == "before"
                (tmp_path / "tls.crt").write_text("not a certificate")
                eventually(lambda: "tls.reload_failed" in sidecar.process.output(), "a bad file is told and not used")
                with connect(url, ssl=context) as still_served:
                    still_served.send("by the old one")
                    assert still_served.recv(timeout=WAIT_LIMIT) == "by the old one"
                other = trustme.CA()
                issue(other, tmp_path)
                eventually(lambda: "tls.reloaded" in sidecar.process.output(), "the new one is read")
                with connect(url, ssl=trusting(other)) as new:
                    new.send("by the new one")
                    assert new.recv(timeout=WAIT_LIMIT) == "by the new one"
                with pytest.raises(ssl.SSLCertVerificationError), connect(url, ssl=context):
                    pass
                client.send("after")
                assert client.recv(timeout=WAIT_LIMIT) == "after"
            eventually(lambda: sidecar.scrape().value(ACTIVE) == 0, "all are over")
            assert sidecar.scrape().endings() == {("1000", "normal", "client"): 3}
    finally:
        app.stop()


def test_what_is_not_tls_is_turned_away_and_counted(raw_app: RawApp, authority: trustme.CA, tmp_path: Path) -> None:
    """Plain HTTP, noise, and a handshake that is never finished: counted, no session, and the next client is served."""
    with secured(raw_app.port, authority, tmp_path, "--handshake-timeout", "500ms") as sidecar:
        before = sidecar.scrape()
        for said in (upgrade_request(), noise(100), b"\x16\x03\x01\x00\x05hello"):
            stranger = Peer.connect(sidecar.port)
            stranger.send(said)
            stranger.rest()
            stranger.close()
        slow = Peer.connect(sidecar.port)
        slow.send(b"\x16\x03\x01")
        assert slow.rest() == b"", "cut off after the handshake timeout"
        slow.close()
        eventually(lambda: sidecar.scrape().since(before).value(TLS_ERRORS) == 3, "they are counted")
        assert sidecar.scrape().since(before).endings() == {}
        client, server = opened(sidecar, raw_app, trusting(authority))
        client.close()
        server.close()
        sidecar.settled(before)


def test_what_the_app_says_first_waits_for_the_handshake(
    raw_app: RawApp, authority: trustme.CA, tmp_path: Path
) -> None:
    """An app that greets before the TLS handshake is done is held back, not lost."""
    with secured(raw_app.port, authority, tmp_path) as sidecar:
        tcp = socket.create_connection(("127.0.0.1", sidecar.port), timeout=WAIT_LIMIT)
        accepted = raw_app.accept_silent().socket
        greeting = noise(MIB)
        thread = threading.Thread(target=lambda: (accepted.sendall(greeting), accepted.close()))
        thread.start()
        client = Client.__new__(Client)
        client.socket, client._in, client._out = tcp, ssl.MemoryBIO(), ssl.MemoryBIO()
        client.tls = trusting(authority).wrap_bio(client._in, client._out, server_hostname="localhost")
        client._do(client.tls.do_handshake)
        assert client.rest() == greeting
        thread.join()
        client.close()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("--tls-cert", "/nowhere/tls.crt", "--tls-key", "/nowhere/tls.key"),
            ("--tls-cert", "/nowhere/tls.crt", "No such file"),
        ),
        (("--tls-cert", __file__, "--tls-key", "/nowhere/tls.key"), ("--tls-key", "/nowhere/tls.key", "No such file")),
        (("--tls-cert", __file__, "--tls-key", __file__), ("--tls-cert", __file__, "PEM")),
        (("--tls-cert", __file__), ("--tls-cert", "needs --tls-key")),
        (("--tls-key", __file__), ("--tls-key", "needs --tls-cert")),
    ],
)
def test_files_of_no_use_stop_the_start(flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    """One clear line that names the flags and the file, no traceback, no success."""
    from tests.e2e.test_startup import run

    done = run("run", "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *flags)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert all(word in line for word in words), line


class Below(Transport):
    """TCP below a TLS layer: what was left in the kernel, and the answers."""

    def __init__(self, left: list[bytes]) -> None:
        self.left = left
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def read_remaining(self) -> Iterator[bytes]:
        yield from self.left

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class Above(TransportProtocol):
    """The leg above a TLS layer."""

    def connection_made(self, transport: Transport) -> None:
        pass


async def test_reset_behind_tiny_records_is_handled_in_bounded_time(authority: trustme.CA, tmp_path: Path) -> None:
    """Of a MiB of records of one byte before a reset, the layer decrypts the first ones; large records it takes all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issue(authority, tmp_path))
    for size, count in ((1, MIB // 23), (16384, 60)):
        below = Below([])
        layer = TlsTransport(context, Above(), pytest.fail, Poller())
        layer.connected(below)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="localhost")
        for _ in range(2):
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            layer.received(outgoing.read())
            incoming.write(below.written)
            below.written = b""
        for _ in range(count):
            client.write(bytes(size))
        below.left = [outgoing.read()]
        began = time.thread_time()
        found = b"".join(layer.read_remaining())
        assert time.thread_time() - began < 10 * MAX_SALVAGE_TIME
        assert 0 < len(found) < count if size == 1 else len(found) == size * count
