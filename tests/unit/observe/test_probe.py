"""The probe: real sockets that accept, refuse and are full, and the kernel's tables of listening sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporter.address import Address
from exporter.observe.probe import AppProbe
from tests.waiting import WAIT_LIMIT


def accepts(app: Address) -> bool | None:
    return asyncio.run(AppProbe(app).accepts())


def listening(host: str = "127.0.0.1", family: int = socket.AF_INET, backlog: int = 8) -> socket.socket:
    sock = socket.socket(family)
    sock.bind((host, 0))
    sock.listen(backlog)
    return sock


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def test_accepts_listening_port_is_true_and_closed_port_false() -> None:
    """A port with a listener accepts, and after it is closed refuses."""
    with listening() as sock:
        app = Address("127.0.0.1", sock.getsockname()[1])
        assert accepts(app) is True
    assert accepts(app) is False


def test_accepts_sends_nothing_and_closes() -> None:
    """The app sees a connection that ends without a byte."""
    with listening() as sock:
        assert accepts(Address("127.0.0.1", sock.getsockname()[1])) is True
        peer, _ = sock.accept()
        with peer:
            peer.settimeout(5)
            assert peer.recv(1) == b""


def test_accepts_full_tcp_accept_queue_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that is too busy to accept is not down."""
    monkeypatch.setattr("exporter.observe.probe.TIMEOUT", 0.3)
    with listening(backlog=0) as sock:
        target = sock.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(target)
            fillers.append(filler)
        try:
            assert accepts(Address(*target)) is None
        finally:
            for filler in fillers:
                filler.close()


def test_accepts_address_needs_no_thread() -> None:
    """Whatever keeps the event loop's threads busy, say name look-ups that hang, an address is probed at once."""

    async def play() -> bool | None:
        loop = asyncio.get_running_loop()
        executor, held = ThreadPoolExecutor(1), threading.Event()
        loop.set_default_executor(executor)
        executor.submit(held.wait, WAIT_LIMIT)
        try:
            with socket.create_server(("127.0.0.1", 0)) as server:
                return await AppProbe(Address("127.0.0.1", server.getsockname()[1])).accepts()
        finally:
            held.set()

    assert asyncio.run(play()) is True


def test_accepts_unix_socket(tmp_path: Path) -> None:
    """A Unix socket accepts; with a full queue it is unknown; closed or without its file it refuses."""
    path = str(tmp_path / "app.sock")
    app = Address(path=path)
    assert accepts(app) is False
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen(0)
        assert accepts(app) is True
        with socket.socket(socket.AF_UNIX) as filler:
            filler.setblocking(False)
            while filler.connect_ex(path) == 0:
                filler = socket.socket(socket.AF_UNIX)
                filler.setblocking(False)
            assert accepts(app) is None
    assert accepts(app) is False


def test_accepts_unresolvable_name_is_unknown() -> None:
    """A name that cannot be resolved shows nothing about the app."""
    assert accepts(Address("app.invalid", 80)) is None


def test_look_calls_back_with_the_answer() -> None:
    """Each look is answered once; one that the end of the loop cancels is not."""

    async def look(app: Address) -> list[bool | None]:
        probe, answers = AppProbe(app), []
        for count in (1, 2):
            probe.begin(answers.append)
            async with asyncio.timeout(5):
                while len(answers) < count:
                    await asyncio.sleep(0.001)
        probe.begin(answers.append)
        return answers

    with listening() as sock:
        app = Address("127.0.0.1", sock.getsockname()[1])
        assert asyncio.run(look(app)) == [True, True]


@pytest.mark.parametrize(
    ("listen", "family", "app"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("0.0.0.0", socket.AF_INET, "127.0.0.1"),
        ("127.0.0.1", socket.AF_INET, "localhost"),
        ("::1", socket.AF_INET6, "::1"),
        ("::", socket.AF_INET6, "127.0.0.1"),
        ("::", socket.AF_INET6, "localhost"),
    ],
)
def test_listener_is_the_inode_of_the_listening_socket(listen: str, family: int, app: str) -> None:
    """The kernel's table has the socket under its inode, whichever address it listens on."""
    try:
        sock = listening(listen, family)
    except OSError as error:
        pytest.skip(f"cannot listen on {listen}: {error}")
    with sock:
        address = Address(app, sock.getsockname()[1])
        assert AppProbe(address).listener() == {inode(sock)}
    assert AppProbe(address).listener() is None


def test_listener_of_another_address_is_unknown() -> None:
    """A local listener on the port of a remote app is not the app's."""
    with listening("0.0.0.0") as sock:
        port = sock.getsockname()[1]
        assert AppProbe(Address("192.0.2.7", port)).listener() is None
        assert AppProbe(Address("app.example", port)).listener() is None


def test_listener_changes_when_the_app_is_restarted() -> None:
    """The same port, another socket."""
    with listening() as sock:
        address = Address("127.0.0.1", sock.getsockname()[1])
        before = AppProbe(address).listener()
    again = socket.socket()
    again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with again:
        again.bind((address.host, address.port))
        again.listen()
        after = AppProbe(address).listener()
    assert before
    assert after
    assert not before & after


def test_listener_of_a_unix_socket_changes_with_its_file(tmp_path: Path) -> None:
    """A new bind makes a new file; without it nothing is known."""
    path = tmp_path / "app.sock"
    probe = AppProbe(Address(path=str(path)))
    assert probe.listener() is None
    seen = []
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            seen.append(probe.listener())
            assert probe.listener() == seen[-1]
        path.unlink()
    assert seen[0] != seen[1]


def test_listener_stops_reading_at_the_first_connection(tmp_path: Path) -> None:
    """Listening sockets come first in the table, so thousands of connections cost nothing."""
    line = "{0}: 0100007F:{1:04X} 00000000:0000 {2} 00000000:00000000 00:00000000 00000000 0 0 {3} 1 0 100 0 0 10 0\n"
    table = tmp_path / "tcp"
    rows = [line.format(0, 8080, "0A", 11), line.format(1, 9090, "0A", 12), line.format(2, 8080, "01", 13),
            line.format(3, 8080, "0A", 14)]  # fmt: skip
    table.write_text("  sl  local_address rem_address   st tx_queue\n" + "".join(rows))
    assert AppProbe(Address("127.0.0.1", 8080), [table, tmp_path / "missing"]).listener() == {11}
