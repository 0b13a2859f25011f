"""The way to the app: addresses, failures as a small enum, and the probe that tells app-down from connection-lost."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from exporter.address import Address
from exporter.protocol.enums import ConnectError
from exporter.relay.poller import Poller
from exporter.relay.transport import TransportProtocol
from exporter.relay.upstream import Failure, Upstream, classify
from tests.unit.relay.harness import App


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), ConnectError.REFUSED),
        (FileNotFoundError(errno.ENOENT, "no such socket"), ConnectError.REFUSED),
        (OSError(errno.EHOSTUNREACH, "no route"), ConnectError.UNREACHABLE),
        (OSError(errno.ENETUNREACH, "no network"), ConnectError.UNREACHABLE),
        (OSError(errno.EMFILE, "too many files"), ConnectError.RESOURCES),
        (OSError(errno.EADDRNOTAVAIL, "no port left"), ConnectError.RESOURCES),
        (OSError(errno.ENOMEM, "no memory"), ConnectError.RESOURCES),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), ConnectError.TIMEOUT),
        (socket.gaierror(socket.EAI_NONAME, "unknown name"), ConnectError.DNS),
        (PermissionError(errno.EACCES, "not allowed"), ConnectError.OTHER),
        (OSError("something"), ConnectError.OTHER),
    ],
)
def test_a_failure_has_one_of_a_few_reasons(error: OSError, reason: ConnectError) -> None:
    """Whatever connecting fails with becomes a label value of a closed set."""
    assert classify(error) is reason


async def connect(upstream: Upstream, leg: TransportProtocol | None = None) -> Failure | None:
    """What is told of a connection to the app."""
    observed: list[Failure | None] = []
    task = upstream.connect(Poller(), leg or TransportProtocol(), observed.append)
    if task is not None:
        assert not observed
        await task
    (failure,) = observed
    return failure


async def test_nobody_listening_is_refused() -> None:
    """A port without a listener is told as a value, not raised."""
    app = App()
    app.stop()
    failure = await connect(Upstream(app.address))
    assert failure is not None
    assert failure.error is ConnectError.REFUSED
    assert failure.why


async def test_a_missing_unix_socket_is_refused(tmp_path: Path) -> None:
    """A socket file that does not exist is an app that is not there."""
    failure = await connect(Upstream(Address(path=str(tmp_path / "none"))))
    assert failure is not None
    assert failure.error is ConnectError.REFUSED


async def test_a_unix_socket_is_connected_to(tmp_path: Path) -> None:
    """An app may listen on a Unix socket."""
    path = str(tmp_path / "app.sock")
    server = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, path)
    upstream = Upstream(Address(path=path))
    assert await connect(upstream) is None
    server.close()
    await server.wait_closed()


async def test_an_unknown_name_is_dns() -> None:
    """A host name that does not resolve is told as such."""
    failure = await connect(Upstream(Address("no-such-host.invalid", 80)))
    assert failure is not None
    assert failure.error is ConnectError.DNS


class Counted(Upstream):
    """An upstream that writes down when it opens connections, and can be made to hang."""

    def __init__(self, address: Address, timeout: float = 5.0, hang: bool = False) -> None:
        super().__init__(address, timeout)
        self.opened: list[float] = []
        self.hang = hang

    async def _open(self, sock: socket.socket | None = None) -> socket.socket:
        self.opened.append(asyncio.get_running_loop().time())
        if self.hang:
            await asyncio.Event().wait()
        return await super()._open(sock)


async def test_a_connection_that_takes_too_long_is_a_timeout() -> None:
    """An app that neither takes nor refuses the connection costs the configured time, and is told as timeout."""
    failure = await connect(Counted(Address("app", 9), timeout=0.05, hang=True))
    assert failure == Failure(ConnectError.TIMEOUT, "no connection within 0.05 s")


def busy() -> tuple[socket.socket, list[socket.socket]]:
    """An app whose queue is full, and who fills it: who comes now waits, as for an app that is far away."""
    app = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    while True:
        client = socket.socket()
        client.setblocking(False)
        waiting.append(client)
        client.connect_ex(app.getsockname())
        if client.connect_ex(app.getsockname()) == errno.EALREADY:
            return app, waiting


@pytest.mark.parametrize("comes", [True, False])
async def test_a_connection_that_is_under_way_is_waited_for(comes: bool) -> None:
    """An app that does not answer at once is waited for: until it does, or for the configured time."""
    app, waiting = busy()
    leg = TransportProtocol()
    observed: list[Failure | None] = []
    upstream = Upstream(Address(*app.getsockname()), timeout=20.0 if comes else 0.2)
    task = upstream.connect(Poller(), leg, observed.append)
    assert task is not None
    await asyncio.sleep(0.05)
    assert observed == []
    if comes:
        app.setblocking(False)
        while not task.done():
            with suppress(BlockingIOError):
                app.accept()[0].close()
            await asyncio.sleep(0.01)
    await task
    assert observed == [None if comes else Failure(ConnectError.TIMEOUT, "no connection within 0.2 s")]
    for sock in (app, *waiting):
        sock.close()


async def test_a_path_that_is_too_long_is_told_as_a_value(tmp_path: Path) -> None:
    """What the system refuses before it tries is a failure like any other."""
    failure = await connect(Upstream(Address(path=str(tmp_path / ("x" * 200)))))
    assert failure is not None
    assert failure.error is ConnectError.OTHER


async def test_name_whose_first_address_hangs_is_tried_at_the_next() -> None:
    """Each address of a name gets a share of the time: one that never answers does not take all of it."""
    app, waiting = busy()
    good = App()

    class Named(Upstream):
        async def _look_up(self) -> list[tuple[int, object]]:
            targets = [app.getsockname(), ("127.0.0.1", good.address.port)]
            return [(int(socket.AF_INET), target) for target in targets]

    assert await connect(Named(Address("app.test", 9), timeout=2.0)) is None
    for sock in (app, *waiting):
        sock.close()
    good.stop()


@pytest.mark.parametrize("comes", [True, False])
async def test_unix_socket_whose_queue_is_full_is_waited_for(tmp_path: Path, comes: bool) -> None:
    """A Unix socket that has no room for a connection now is tried again, for as long as the timeout allows."""
    path = str(tmp_path / "app.sock")
    app = socket.socket(socket.AF_UNIX)
    app.bind(path)
    app.listen(0)
    app.setblocking(False)
    waiting = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        waiting.append(client)
        if client.connect_ex(path):
            break
    results: list[Failure | None] = []
    upstream = Upstream(Address(path=path), timeout=20.0 if comes else 0.2)
    task = upstream.connect(Poller(), TransportProtocol(), results.append)
    assert task is not None
    await asyncio.sleep(0.05)
    assert results == []
    if comes:
        while not task.done():
            with suppress(BlockingIOError):
                app.accept()[0].close()
            await asyncio.sleep(0.01)
    await task
    assert results == [None if comes else Failure(ConnectError.TIMEOUT, "no connection within 0.2 s")]
    for sock in (app, *waiting):
        sock.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_upstream_that_is_the_sidecar_itself_is_refused(host: str) -> None:
    """An address at which the sidecar listens, by number or name, is a failure and no connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        address = Address(host, listening.getsockname()[1])
        for own in (listening.getsockname(), ("0.0.0.0", address.port)):
            failure = await connect(Upstream(address, listening=[own]))
            assert failure is not None
            assert failure.why.endswith("is the sidecar itself")
        with pytest.raises(BlockingIOError):
            listening.accept()
        for other in (("127.0.0.1", address.port + 1), ("127.0.0.9", address.port)):
            assert await connect(Upstream(address, listening=[other])) is None
