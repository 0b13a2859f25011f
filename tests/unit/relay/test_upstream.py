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
from exporter.relay import upstream as module
from exporter.relay.poller import new_poller
from exporter.relay.transport import TransportProtocol
from exporter.relay.upstream import Failure, Upstream, classify
from tests.unit.relay.harness import App, on_uvloop
from tests.waiting import until


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settling before a probe, where there is any."""
    if hasattr(module, "PROBE_DELAY"):
        monkeypatch.setattr(module, "PROBE_DELAY", 0.0)


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
    told: list[Failure | None] = []
    task = upstream.connect(new_poller(), leg or TransportProtocol(), told.append)
    if task is not None:
        assert not told
        await task
    (failure,) = told
    return failure


@on_uvloop
async def test_nobody_listening_is_refused() -> None:
    """A port without a listener is told as a value, not raised."""
    app = App()
    app.stop()
    failure = await connect(Upstream(app.address))
    assert failure is not None
    assert failure.error is ConnectError.REFUSED
    assert failure.why


@on_uvloop
async def test_a_missing_unix_socket_is_refused(tmp_path: Path) -> None:
    """A socket file that does not exist is an app that is not there."""
    failure = await connect(Upstream(Address(path=str(tmp_path / "none"))))
    assert failure is not None
    assert failure.error is ConnectError.REFUSED


@on_uvloop
async def test_a_unix_socket_is_connected_to(tmp_path: Path) -> None:
    """An app may listen on a Unix socket."""
    path = str(tmp_path / "app.sock")
    server = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, path)
    upstream = Upstream(Address(path=path))
    assert await connect(upstream) is None
    assert await upstream.probe()
    server.close()
    await server.wait_closed()


@on_uvloop
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


@on_uvloop
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
@on_uvloop
async def test_a_connection_that_is_under_way_is_waited_for(comes: bool) -> None:
    """An app that does not answer at once is waited for: until it does, or for the configured time."""
    app, waiting = busy()
    leg = TransportProtocol()
    told: list[Failure | None] = []
    upstream = Upstream(Address(*app.getsockname()), timeout=20.0 if comes else 0.2)
    task = upstream.connect(new_poller(), leg, told.append)
    assert task is not None
    await asyncio.sleep(0.05)
    assert told == []
    if comes:
        app.setblocking(False)
        while not task.done():
            with suppress(BlockingIOError):
                app.accept()[0].close()
            await asyncio.sleep(0.01)
    await task
    assert told == [None if comes else Failure(ConnectError.TIMEOUT, "no connection within 0.2 s")]
    for sock in (app, *waiting):
        sock.close()


@on_uvloop
async def test_a_path_that_is_too_long_is_told_as_a_value(tmp_path: Path) -> None:
    """What the system refuses before it tries is a failure like any other."""
    failure = await connect(Upstream(Address(path=str(tmp_path / ("x" * 200)))))
    assert failure is not None
    assert failure.error is ConnectError.OTHER


@on_uvloop
async def test_whether_the_app_takes_connections() -> None:
    """True while it listens, False when it is gone, True again when it is back; the probe's connection is closed."""
    module_interval = module.PROBE_INTERVAL
    module.PROBE_INTERVAL = 0.05
    try:
        app = App()
        upstream = Upstream(app.address)
        assert await upstream.probe()
        probe = await app.accept()
        assert await probe.rest() == b""
        app.stop()
        assert not await upstream.probe()
        app = App(upstream.address.port)
        assert await upstream.probe()
        app.stop()
        await upstream.close()
    finally:
        module.PROBE_INTERVAL = module_interval


@pytest.mark.parametrize("hang", [False, True])
@on_uvloop
async def test_at_most_one_probe_an_interval(hang: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, and whether or not the app answers, probes begin an interval apart; everybody gets an answer
    from after the question."""
    monkeypatch.setattr(module, "PROBE_INTERVAL", 0.2)
    monkeypatch.setattr(module, "PROBE_TIMEOUT", 0.3)
    app = App()
    upstream = Counted(app.address, hang=hang)
    loop = asyncio.get_running_loop()
    answers: list[bool] = []

    async def ask() -> None:
        asked = loop.time()
        answers.append(await upstream.probe())
        assert any(when >= asked for when in upstream.opened), "an answer from before the question"

    until = loop.time() + 1.0
    asking = []
    while loop.time() < until:
        asking.append(asyncio.create_task(ask()))
        await asyncio.sleep(0.01)
    await asyncio.gather(*asking)
    assert set(answers) == {not hang}
    gaps = [later - earlier for earlier, later in zip(upstream.opened, upstream.opened[1:], strict=False)]
    assert len(upstream.opened) >= 2
    assert min(gaps) > 0.1  # 0.2, but for a loop that was held up meanwhile; who asked came every 0.01
    await upstream.close()
    app.stop()


@on_uvloop
async def test_a_recent_answer_will_do_for_readiness() -> None:
    """Readiness asks often and gets the last second's answer without a new connection."""
    app = App()
    upstream = Counted(app.address)
    assert [await upstream.probe_cached() for _ in range(50)] == [True] * 50
    assert len(upstream.opened) == 1
    await upstream.close()
    app.stop()


@on_uvloop
async def test_a_probe_that_fails_for_want_of_our_own_resources_says_nothing_of_the_app() -> None:
    """Out of descriptors ourselves: the app is not called down for it."""

    class Exhausted(Upstream):
        async def _open(self, sock: socket.socket | None = None) -> socket.socket:
            raise OSError(errno.EMFILE, "too many open files")

    assert await Exhausted(Address("127.0.0.1", 9)).probe()


@on_uvloop
async def test_closing_ends_a_probe_that_is_under_way() -> None:
    """A process that ends does not wait for a probe, and leaves no task."""
    upstream = Counted(Address("127.0.0.1", 9), hang=True)
    asking = asyncio.create_task(upstream.probe())
    await until(lambda: upstream.opened)
    await upstream.close()
    asking.cancel()
    assert (await asyncio.gather(asking, return_exceptions=True))[0].__class__ in (asyncio.CancelledError, bool)


@on_uvloop
async def test_readiness_does_not_wait_for_anything_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look at the app is made at once: a sidecar is ready as soon as its app is. Why a connection ended is
    still asked only after things have settled."""
    monkeypatch.setattr(module, "PROBE_DELAY", 60.0)
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    upstream = Upstream(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
    async with asyncio.timeout(5):
        assert await upstream.probe_cached()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await upstream.probe()
    await upstream.close()
    server.close()
