"""Strangers on the admin port: traffic, health checks and the rightful scraper do not feel them; memory is bounded."""

from __future__ import annotations

import base64
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import cast

import bcrypt
import pytest

from exporter.admin.auth import MAX_WAITING
from exporter.connections import MAX_CONNECTIONS
from tests.e2e.harness.process import cpu_seconds
from tests.e2e.harness.sidecar import Sidecar, audited, open_session
from tests.e2e.harness.wire import RawApp, frame
from tests.integration.faults.harness import TroubledSidecar, troubled
from tests.waiting import WAIT_LIMIT, eventually

MIB = 1024 * 1024


class OnAllInterfaces(Sidecar):
    """A sidecar whose admin port is open on all interfaces, as is the default."""

    def _argv(self, upstream: str, flags: Sequence[str]) -> list[str]:
        return [argument.replace(f"127.0.0.1:{self.admin_port}", f"0.0.0.0:{self.admin_port}")
                for argument in super()._argv(upstream, flags)]  # fmt: skip


def connect(sidecar: Sidecar, source: str = "127.0.0.1", receive_buffer: int | None = None) -> socket.socket:
    """Return a connection to the admin port from an address of the loopback network."""
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(WAIT_LIMIT)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", sidecar.admin_port))
    return connection


def ask(
    sidecar: Sidecar, path: str, source: str = "127.0.0.1", method: str = "GET", **headers: str
) -> tuple[int, bytes]:
    """Return status and body of one answer."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with connect(sidecar, source) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b""
        while more := connection.recv(65536):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def processes(sidecar: Sidecar) -> list[int]:
    """Return the supervisor and its children."""
    pid = sidecar.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def accepted(sidecar: Sidecar) -> int:
    """Return the connections that the sidecar's processes hold on the admin port."""
    port = f"{sidecar.admin_port:04X}"
    inodes = {
        fields[9]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(f":{port}") and fields[3] != "0A"
    }
    held = 0
    for pid in processes(sidecar):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                held += descriptor.readlink().name.removeprefix("socket:[").rstrip("]") in inodes
    return held


def memory(sidecar: Sidecar) -> int:
    """Return the memory of the process that grew most: the largest resident set, in bytes."""
    sizes = []
    for pid in processes(sidecar):
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            sizes += [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")]
    return max(sizes)


@contextmanager
def echoing(sidecar: Sidecar, raw_app: RawApp) -> Iterator[None]:
    """One session that passes frames before and after, over a new and an old connection."""
    client, app = open_session(sidecar, raw_app)
    data = frame(1, b"x" * 100, masked=True)

    def pass_one() -> None:
        client.send(data)
        assert app.exactly(len(data)) == data

    pass_one()
    yield
    pass_one()
    newer, its_app = open_session(sidecar, raw_app)
    for peer in (client, app, newer, its_app):
        peer.close()


def test_admin_port_with_a_thousand_idle_connections_holds_its_limit(raw_app: RawApp) -> None:
    """The sidecar holds at most its limit of them; health checks, scrapes and new clients are served all the while."""
    with audited(raw_app.port) as sidecar, ExitStack() as stack, echoing(sidecar, raw_app):
        for number in range(1000):
            stack.enter_context(connect(sidecar, "127.0.0.7"))
            if number % 250 == 249:
                assert ask(sidecar, "/livez")[0] == 200
                assert ask(sidecar, "/metrics")[0] == 200
        eventually(lambda: accepted(sidecar) <= MAX_CONNECTIONS, "the limit")


def test_admin_port_with_unread_answers_is_bounded_in_memory(raw_app: RawApp) -> None:
    """Thousands of pipelined scrapes that nobody reads take a few MiB; /livez answers beside them."""
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    with audited(raw_app.port) as sidecar, ExitStack() as stack, echoing(sidecar, raw_app):
        for _ in range(5):
            sidecar.scrape()
        before = memory(sidecar)
        for _ in range(200):
            connection = stack.enter_context(connect(sidecar, "127.0.0.7", 4096))
            connection.sendall(request)
        for _ in range(20):
            assert ask(sidecar, "/livez")[0] == 200
        assert ask(sidecar, "/metrics")[0] == 200
        assert memory(sidecar) - before < 32 * MIB
        eventually(lambda: accepted(sidecar) <= MAX_CONNECTIONS, "the limit: refused clients wait for a second")


def test_admin_port_with_wrong_passwords_serves_the_rightful_scraper(raw_app: RawApp, tmp_path: Path) -> None:
    """Floods of wrong passwords from others lock nobody out: every login of the scraper is answered with 200."""
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(8)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prometheus: {hashed}}}\n")
    wrong = "Basic " + base64.b64encode(b"prometheus:wrong").decode()
    right = "Basic " + base64.b64encode(b"prometheus:secret").decode()
    done = threading.Event()
    answers: list[int] = []

    def flood(sidecar: Sidecar, source: str) -> None:
        while not done.is_set():
            with suppress(OSError):
                answers.append(ask(sidecar, "/metrics", source, Authorization=wrong)[0])

    with audited(raw_app.port, "--web-config-file", str(tmp_path / "web.yml")) as sidecar:
        sidecar.get = lambda path: (lambda found: (found[0], found[1].decode()))(  # type: ignore[method-assign]
            ask(sidecar, path, Authorization=right)
        )
        threads = [
            threading.Thread(target=flood, args=(sidecar, f"127.0.0.{2 + number % 2}"))
            for number in range(2 * (MAX_WAITING + 4))
        ]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: 503 in answers, "the queue of an address is full")
            assert [ask(sidecar, "/metrics", Authorization=right)[0] for _ in range(10)] == [200] * 10
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert set(answers) <= {401, 503}


#: Floods of the admin port: clients, and the bytes that each sends over and over.
FLOODS = {
    "scrapes": (60, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100),
    "pages": (60, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100),
    "health checks": (60, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100),
    "reports": (60, b"GET /closes HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100),
    "connections": (128, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4000),
}
#: Seconds of a flood, and the part of one core that the observer may take meanwhile.
FLOOD_TIME, MAX_SHARE = 2.0, 0.3
#: Seconds of CPU time of the observer's longest turn: a health check waits for several.
MAX_OBSERVER_TURN = 0.025


def flood(sidecar: Sidecar, clients: int, data: bytes) -> None:
    """Have clients of eight addresses send without an end; one that is closed comes back."""
    with selectors.DefaultSelector() as selector:
        over = time.monotonic() + FLOOD_TIME
        came = 0
        while time.monotonic() < over:
            while len(selector.get_map()) < clients:
                came += 1
                connection = socket.socket()
                connection.bind((f"127.0.0.{2 + came % 8}", 0))
                connection.setblocking(False)
                connection.connect_ex(("127.0.0.1", sidecar.admin_port))
                selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
            for key, _ in selector.select(0.1):
                connection = cast(socket.socket, key.fileobj)
                try:
                    with suppress(BlockingIOError):
                        connection.send(data)
                    with suppress(BlockingIOError):
                        if not connection.recv(65536):
                            raise ConnectionResetError
                except OSError:
                    selector.unregister(connection)
                    connection.close()
            time.sleep(0.01)
        for key in tuple(selector.get_map().values()):
            cast(socket.socket, key.fileobj).close()


@pytest.fixture(scope="module")
def measured(raw_app: RawApp) -> Iterator[TroubledSidecar]:
    """A sidecar whose observer reports its long turns."""
    with troubled(raw_app.port, altered=["observer_turns_reported"]) as sidecar:
        yield sidecar
        assert "Traceback" not in sidecar.process.output()


@pytest.mark.parametrize("kind", FLOODS)
def test_admin_port_under_a_flood_keeps_turns_short_and_the_core_free(measured: TroubledSidecar, kind: str) -> None:
    """However many ask without a pause, the observer takes a part of a core, in short turns, and answers others."""
    before, used = len(measured.lines("observer.turn")), cpu_seconds(measured.observer_pid)
    began = time.monotonic()
    flooding = threading.Thread(target=flood, args=(measured, *FLOODS[kind]))
    flooding.start()
    while flooding.is_alive():
        assert ask(measured, "/livez")[0] == 200
        time.sleep(0.05)
    assert ask(measured, "/metrics")[0] == 200
    share = (cpu_seconds(measured.observer_pid) - used) / (time.monotonic() - began)
    turns = [line["seconds"] for line in measured.lines("observer.turn")[before:]]
    print(f"{kind}: {share:.0%} of a core, turns over 10 ms: {turns}")
    assert share < MAX_SHARE
    assert max(turns, default=0.0) < MAX_OBSERVER_TURN  # type: ignore[operator]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example", "Content_Type": "text/plain"},
        {"Sec_Fetch_Site": "cross-site", "Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Length": "0"},
    ],
)
def test_drain_that_another_site_asks_for_is_not_begun(raw_app: RawApp, headers: dict[str, str]) -> None:
    """A form or a script of another site cannot drain a port-forwarded pod."""
    with audited(raw_app.port) as sidecar:
        status, _ = ask(sidecar, "/drain", method="POST", **headers)
        assert status == 403
        assert b'"phase": "none"' in ask(sidecar, "/drain")[1]


def test_drain_by_a_page_in_a_browser_is_not_begun(raw_app: RawApp) -> None:
    """Chromium sends a form and a fetch of another origin to the port of this host: neither drains."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements/dev.txt)")
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("needs a browser (Debian package chromium)")
    with audited(raw_app.port) as sidecar, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(chromium), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto("data:text/html,<p>another site</p>")
        address = f"http://127.0.0.1:{sidecar.admin_port}/drain"
        page.evaluate("address => fetch(address, {method: 'POST', mode: 'no-cors'}).then(() => 0, () => 0)", address)
        page.set_content(f'<form method="post" action="{address}"><button>Win a prize</button></form>')
        page.get_by_role("button").click()
        page.wait_for_load_state()
        assert "POST /drain needs the header" in page.content()
        browser.close()
        assert b'"phase": "none"' in ask(sidecar, "/drain")[1]


def test_reports_by_the_hosts_own_address_are_refused(raw_app: RawApp) -> None:
    """Another host than loopback gets metrics and health, no reports."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("needs an address that is not loopback")
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("needs an address that is not loopback")
    sidecar = OnAllInterfaces(raw_app.port)
    try:
        for path, expected in {"/closes": 403, "/events": 403, "/metrics": 200, "/livez": 200, "/": 200}.items():
            with socket.create_connection((own, sidecar.admin_port), WAIT_LIMIT) as connection:
                request = f"GET {path} HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n"
                connection.sendall(request.encode())
                answer = b""
                while more := connection.recv(65536):
                    answer += more
            assert int(answer.split()[1]) == expected, path
    finally:
        sidecar.stop()
