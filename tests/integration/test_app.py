"""The whole sidecar as a process: it starts, is ready, counts, drains and ends; and says so when it cannot."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter import __version__
from tests.unit.relay.harness import REQUEST, SWITCH
from tests.waiting import WAIT_LIMIT, eventually
from tests.wire import KEY, TEXT, close, frame

ROOT = Path(__file__).parents[2]


class Sidecar:
    """A `websocket-exporter run` of its own."""

    def __init__(self, upstream: str, *flags: str) -> None:
        command = [sys.executable, "-m", "exporter", "run", "--upstream", upstream, "--log-format", "json",
                   "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *flags]  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
        )
        self.lines: queue.Queue[dict[str, object]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        started = self.line("exporter.started")
        self.port = int(str(started["listen"]).rpartition(":")[2])
        self.admin = f"http://{started['admin']}"
        assert started["version"] == __version__

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def line(self, event: str) -> dict[str, object]:
        """The next log line about ``event``."""
        while True:
            line = self.lines.get(timeout=WAIT_LIMIT)
            if line["event"] == event:
                return line

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and text of an admin endpoint."""
        request = urllib.request.Request(self.admin + path, method=method, headers={"X-Websocket-Exporter": "drain"})
        try:
            with urllib.request.urlopen(request, timeout=WAIT_LIMIT) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def value(self, name: str, **labels: str) -> float:
        """A counter's value as a scraper reads it."""
        for line in self.get("/metrics")[1].splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name:
                found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                if found == labels:
                    return float(match[3])
        raise AssertionError(f"no series {name}{labels}")

    def ended(self) -> tuple[int, str]:
        """Exit status and standard error, once it has ended."""
        status = self.process.wait(WAIT_LIMIT)
        assert self.process.stderr is not None
        return status, self.process.stderr.read()


@contextmanager
def sidecar(upstream: str, *flags: str) -> Iterator[Sidecar]:
    started = Sidecar(upstream, *flags)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait(WAIT_LIMIT)
        started._reader.join(WAIT_LIMIT)
        for stream in (started.process.stdout, started.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def app() -> Iterator[socket.socket]:
    """A listening socket that stands for the app."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT_LIMIT)
        yield listening


def address(listening: socket.socket) -> str:
    return "{}:{}".format(*listening.getsockname())


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def accept_session(app: socket.socket) -> socket.socket:
    """The app's end of the next connection that asks for something: probes ask for nothing."""
    while True:
        server, _ = app.accept()
        server.settimeout(WAIT_LIMIT)
        if read(server, len(REQUEST)) == REQUEST:
            server.sendall(SWITCH)
            return server
        server.close()


def open_session(running: Sidecar, app: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(("127.0.0.1", running.port), timeout=WAIT_LIMIT)
    client.sendall(REQUEST)
    server = accept_session(app)
    assert read(client, len(SWITCH)) == SWITCH
    return client, server


def test_a_session_is_counted_and_its_ending_told(app: socket.socket) -> None:
    """From the wire to /metrics, the log and the landing page: a crash is 1011, internal-error, server."""
    with sidecar(address(app), "--route", "/chat*") as running:
        client, server = open_session(running, app)
        eventually(lambda: running.value("websocket_connections_active", route="/chat*") == 1, "a session")
        labels = {"route": "/chat*", "code": "1011", "cause": "internal-error", "initiator": "server"}
        assert running.value("websocket_connections_closed_total", **labels) == 0
        server.sendall(frame(TEXT, b"hello") + close(1011, b"boom"))
        server.close()
        assert read(client, 1000) == frame(TEXT, b"hello") + close(1011, b"boom")
        client.close()
        line = running.line("session.closed")
        assert (line["code"], line["cause"], line["initiator"]) == ("1011", "internal-error", "server")
        assert (line["reason"], line["path"], line["level"]) == ("boom", "/chat", "warning")
        assert running.value("websocket_connections_closed_total", **labels) == 1
        assert running.value("websocket_connections_active", route="/chat*") == 0
        assert running.value("websocket_handshakes_total", route="/chat*", status="101") == 1
        assert running.value("websocket_frames_total", route="/chat*", sender="server", opcode="text") == 1
        page = running.get("/")[1]
        assert "internal-error" in page
        assert "boom" in page


def test_it_starts_without_an_app_and_recovers() -> None:
    """With no app it runs, is alive but not ready, answers 502 and counts; when the app comes it is ready by itself."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        where = address(held)
    with sidecar(where) as running:
        assert running.get("/livez") == (200, "alive\n")
        status, text = running.get("/readyz")
        assert status == 503
        assert where in text
        with socket.create_connection(("127.0.0.1", running.port), timeout=WAIT_LIMIT) as client:
            client.sendall(REQUEST)
            assert client.recv(1000).startswith(b"HTTP/1.1 502 ")
        assert running.line("upstream.connect_failed")["reason"] == "refused"
        assert running.value("websocket_upstream_connect_errors_total", reason="refused") == 1
        assert running.value("websocket_handshakes_total", route="all", status="502") == 1
        host, _, port = where.rpartition(":")
        with socket.create_server((host, int(port))) as app:
            app.settimeout(WAIT_LIMIT)
            eventually(lambda: running.get("/readyz") == (200, "ready\n"), "it is ready")
            client, server = open_session(running, app)
            client.close()
            server.close()


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_taken_port_is_one_line_and_exit_1(flag: str, app: socket.socket) -> None:
    """Whichever port is taken, one line names the flag and the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = {"--listen": "127.0.0.1:0", "--admin": "127.0.0.1:0", flag: address(taken)}
        done = subprocess.run(
            [sys.executable, "-m", "exporter", "run", "--upstream", address(app),
             *(word for pair in flags.items() for word in pair)],
            cwd=ROOT, capture_output=True, text=True, timeout=WAIT_LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("websocket-exporter: error: ")
        assert flag in done.stderr
        assert address(taken) in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_with_nobody_there_ends_it(number: signal.Signals, app: socket.socket) -> None:
    """An idle sidecar ends at once, status 0, with nothing on stderr."""
    with sidecar(address(app)) as running:
        running.process.send_signal(number)
        assert running.line("drain.started")["sessions"] == 0
        running.line("drain.finished")
        assert running.ended() == (0, "")


def test_sigterm_keeps_forwarding_until_the_last_session_has_ended(app: socket.socket) -> None:
    """After SIGTERM it is not ready, draining, and forwards as ever; when the last session has ended it ends."""
    with sidecar(address(app), "--drain-linger", "0") as running:
        client, server = open_session(running, app)
        running.process.send_signal(signal.SIGTERM)
        assert running.line("drain.started")["sessions"] == 1
        status, text = running.get("/readyz")
        assert (status, "draining" in text) == (503, True)
        assert running.value("websocket_exporter_draining") == 1
        assert running.value("websocket_exporter_drain_sessions_remaining") == 1
        for one, other, data in ((client, server, frame(TEXT, b"up", mask=KEY)), (server, client, frame(TEXT, b"dn"))):
            one.sendall(data)
            assert read(other, len(data)) == data
        assert running.process.poll() is None
        client.sendall(close(1000, mask=KEY))
        assert read(server, 8) == close(1000, mask=KEY)
        server.sendall(close(1000))
        server.close()
        assert read(client, 100) == close(1000)
        client.close()
        assert running.ended() == (0, "")


def test_post_drain_tells_the_sessions_and_sigterm_then_ends_it(app: socket.socket) -> None:
    """POST /drain gives sessions their Close now; the process stays until SIGTERM."""
    with sidecar(address(app), "--drain-spread", "0", "--drain-linger", "0", "--log-endings", "all") as running:
        client, server = open_session(running, app)
        status, text = running.get("/drain", "POST")
        assert (status, json.loads(text)["draining"]) == (202, True)
        assert read(client, 4) == close(1001)
        client.sendall(close(1001, mask=KEY))
        assert read(server, 8) == close(1001, mask=KEY)
        server.close()
        assert read(client, 1) == b""
        client.close()
        line = running.line("session.closed")
        assert (line["code"], line["cause"], line["initiator"], line["clean"]) == ("1001", "drain", "proxy", True)
        eventually(lambda: json.loads(running.get("/drain")[1])["phase"] == "done", "drained")
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == (0, "")


def test_a_second_sigterm_ends_at_once(app: socket.socket) -> None:
    """Whatever is still open, the second signal ends the process, without complaint."""
    with sidecar(address(app), "--drain-timeout", "1h") as running:
        client, server = open_session(running, app)
        running.process.send_signal(signal.SIGTERM)
        running.line("drain.started")
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == (0, "")
        client.close()
        server.close()


def test_it_waits_for_one_more_scrape(app: socket.socket) -> None:
    """A sidecar that is scraped does not end before its last ending was seen, for as long as it was told to wait."""
    with sidecar(address(app), "--drain-linger", "1h") as running:
        client, server = open_session(running, app)
        running.get("/metrics")
        running.process.send_signal(signal.SIGTERM)
        running.line("drain.started")
        client.close()
        assert read(server, 1) == b""
        server.close()
        running.line("drain.finished")
        assert running.process.poll() is None
        labels = {"route": "all", "code": "1006", "cause": "connection-lost", "initiator": "client"}
        eventually(lambda: running.value("websocket_connections_closed_total", **labels) == 1, "the last close is seen")
        assert running.ended() == (0, "")
