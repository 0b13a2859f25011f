"""Hostile clients below TLS: handshakes that never end, tiny records, renegotiation; turns and memory stay bounded."""

from __future__ import annotations

import _ssl
import ctypes
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
import trustme

from tests.certificates import issue, trusting
from tests.e2e.harness.process import Process
from tests.e2e.harness.scrape import ACTIVE
from tests.e2e.harness.wire import Opcode, frame, upgrade_request
from tests.hostile.harness import MAX_CLIENT, SLACK, growth, long_turns, timed
from tests.integration.faults.harness import TroubledSidecar
from tests.load.hostile import CLIENT_HELLO
from tests.unit.relay.test_tls import Client
from tests.waiting import WAIT_LIMIT, eventually

CLIENTS = 8
#: Frames whose every byte is a record of its own.
PINGS = 10_000
#: KeyUpdate messages (RFC 8446, section 4.6.3) whose answers are more than the kernel keeps for a client; the request
#: for an answer.
KEY_UPDATES, UPDATE_REQUESTED = 400_000, 1
CHANGE_CIPHER_SPEC = b"\x14\x03\x03\x00\x01\x01"


class Secured:
    """A sidecar with TLS, and its clients."""

    def __init__(self, sidecar: TroubledSidecar, context: ssl.SSLContext) -> None:
        self.sidecar = sidecar
        self.context = context

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.sidecar.port), WAIT_LIMIT)


@pytest.fixture(scope="module")
def secured(load_app: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    authority = trustme.CA()
    certificate, key = issue(authority, tmp_path_factory.mktemp("tls"))
    with timed(int(load_app.name), "--tls-cert", str(certificate), "--tls-key", str(key)) as sidecar:
        yield Secured(sidecar, trusting(authority))
        eventually(lambda: sidecar.scrape().value(ACTIVE) == 0, "no session is left")


def many_hellos(secured: Secured) -> None:
    """Connections that each begin a handshake, all at once, and leave it to the sidecar to go on."""
    hello = first_flight(secured.context)
    with ExitStack() as stack:
        for connection in [stack.enter_context(secured.connect()) for _ in range(100)]:
            connection.sendall(hello)


def first_flight(context: ssl.SSLContext) -> bytes:
    """A ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def garbage_hellos(secured: Secured) -> None:
    """Handshakes that are none."""
    for data in (CLIENT_HELLO * 1000, b"\x16\x03\x01\x40\x00" + bytes(16384), b"\x15\x03\x03\x00\x02\x01\x00" * 50_000):
        with secured.connect() as connection, suppress(OSError):
            connection.sendall(data)
            while connection.recv(65536):
                pass


def slow_hello(secured: Secured) -> None:
    """A ClientHello byte by byte."""
    with secured.connect() as connection:
        for byte in first_flight(secured.context)[:200]:
            connection.sendall(bytes((byte,)))


def tiny_records(secured: Secured) -> None:
    """Records of one byte, hundreds of thousands of them, in a session."""
    client = Client(secured.sidecar.port, secured.context)
    client.send(upgrade_request("/sink"))
    client.some()
    for byte in frame(Opcode.PING, b"", masked=True) * PINGS:
        client.tls.write(bytes((byte,)))
    client.send(frame(Opcode.PING, b"", masked=True))
    client.socket.close()


def early_fin(secured: Secured) -> None:
    """FINs and resets inside the handshake."""
    hello = first_flight(secured.context)
    for size in (0, 1, 5, 100, len(hello)):
        with secured.connect() as connection:
            connection.sendall(hello[:size])
            connection.shutdown(socket.SHUT_WR)


def spoiled_hellos(secured: Secured) -> None:
    """A good first flight, and then records without an end that are no part of a handshake."""
    for record in (
        CHANGE_CIPHER_SPEC,
        b"\x16\x03\x03\x00\x01\x01",
        b"\x17\x03\x03\x00\x00",
        b"\x17\x03\x03\x00\x11" + bytes(17),
    ):
        with secured.connect() as connection, suppress(OSError):
            connection.sendall(first_flight(secured.context) + record * 100_000)
            while connection.recv(65536):
                pass


def openssl(function: str, client: Client, *arguments: int) -> int:
    """Call a function of OpenSSL that Python does not offer, on a client's connection."""
    library = ctypes.CDLL(_ssl.__file__)
    call = getattr(library, function)
    call.argtypes = [ctypes.c_void_p, *(ctypes.c_int for _ in arguments)]
    connection = client.tls._sslobj  # type: ignore[attr-defined]
    # PySSLSocket of Modules/_ssl.c: the head of an object, its socket, then the SSL.
    address = ctypes.c_void_p.from_address(id(connection) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p))
    return int(call(address, *arguments))


def test_renegotiation_is_refused(secured: Secured) -> None:
    """A client of TLS 1.2 gets no second handshake on its connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = Client(secured.sidecar.port, context)
    assert openssl("SSL_renegotiate", client)
    with pytest.raises(ssl.SSLError, match="renegotiation"):
        client._do(client.tls.do_handshake)
    client.socket.close()


def test_key_updates_without_end_are_cut_off(secured: Secured) -> None:
    """A client of TLS 1.3 that asks for new keys over and over and reads no answer is reset: short turns, no memory."""
    sidecar = secured.sidecar
    before = sidecar.scrape()
    client = Client(sidecar.port, secured.context)
    client.send(upgrade_request("/sink"))
    client.some()

    def flood() -> None:
        for number in range(KEY_UPDATES):
            assert openssl("SSL_key_update", client, UPDATE_REQUESTED)
            client.tls.do_handshake()
            if not number % 1000:
                client._flush()

    with growth(sidecar.relay_pid, SLACK + MAX_CLIENT), pytest.raises(ConnectionError):
        flood()
    client.socket.close()
    added = sidecar.scrape().since(before)
    assert long_turns(added) == 0
    assert added.value("websocket_exporter_tls_errors_total") == 1


@pytest.mark.parametrize("play", [many_hellos, garbage_hellos, slow_hello, tiny_records, early_fin, spoiled_hellos])
def test_hostile_tls_clients_stay_within_bounds(secured: Secured, play: Callable[[Secured], None]) -> None:
    """While some clients do their worst below TLS, memory and turns are bounded, and others are served."""
    sidecar = secured.sidecar
    before = sidecar.scrape()
    with growth(sidecar.relay_pid, SLACK + CLIENTS * MAX_CLIENT):
        threads = [threading.Thread(target=play, args=(secured,)) for _ in range(1 if play is many_hellos else CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        Client(sidecar.port, secured.context).socket.close()
    assert long_turns(sidecar.scrape().since(before)) == 0
    if play is tiny_records:
        pings = CLIENTS * (PINGS + 1)
        counted = lambda: sidecar.scrape().value("websocket_frames_total", sender="client", opcode="ping")  # noqa: E731
        eventually(lambda: counted() == pings, "every frame is counted")
    assert "Traceback" not in sidecar.process.output()
