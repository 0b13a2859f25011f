"""Starting, stopping, and telling what is wrong: the program as its user meets it."""

from __future__ import annotations

import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.frames import Opcode

from exporter import __version__
from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, eventually

from .harness.scrape import CONNECT_ERRORS
from .harness.sidecar import ROOT, Sidecar, command, open_session
from .harness.wire import Peer, RawApp, close_frame, frame, upgrade_request

HANDSHAKES = "websocket_handshakes_total"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_LIMIT,
    )


WRONG = [
    # flags, the words that the one line must hold
    (("--upstream", "nonsense"), ("--upstream", "nonsense")),
    (("--upstream", "127.0.0.1:99999"), ("--upstream", "99999")),
    (("--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:http"), ("--listen", "127.0.0.1:http")),
    (("--upstream", "127.0.0.1:1", "--drain-timeout", "soon"), ("--drain-timeout", "soon")),
    (("--upstream", "127.0.0.1:1", "--log-endings", "some"), ("--log-endings", "some")),
    (("--upstream", "127.0.0.1:1", "--no-such-flag", "1"), ("--no-such-flag",)),
]


@pytest.mark.parametrize(("flags", "words"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_a_wrong_flag_is_one_clear_line(flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Exit status 2 and one line on standard error that names the flag and the value; no traceback."""
    done = run("run", *flags)
    assert done.returncode == 2, done
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_taken_port_is_one_clear_line(flag: str) -> None:
    """A port in use ends the start with one line that names it, and a status that is not success."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        other = "--admin" if flag == "--listen" else "--listen"
        done = run(
            *("run", "--upstream", "127.0.0.1:1"),
            *(flag, f"127.0.0.1:{port}", other, f"127.0.0.1:{free_port()}"),
        )
    assert done.returncode not in (0, None), done
    lines = [line for line in (done.stdout + done.stderr).splitlines() if str(port) in line]
    assert len(lines) == 1, done
    assert "Traceback" not in done.stdout + done.stderr


def test_app_down_at_start_and_up_later() -> None:
    """Without an app the sidecar runs, is not ready, answers 502 and counts; with one it recovers."""
    port = free_port()
    sidecar = Sidecar(port)
    try:
        assert sidecar.get("/livez")[0] == 200
        assert sidecar.get("/readyz")[0] == 503
        before = sidecar.scrape()

        client = Peer.connect(sidecar.port)
        client.send(upgrade_request())
        answer = client.rest()
        client.close()
        assert answer.startswith(b"HTTP/1.1 502 "), answer
        body = answer.partition(b"\r\n\r\n")[2]
        assert 0 < len(body) < 300, "a short text"

        with pytest.raises(urllib.error.HTTPError) as plain:
            urllib.request.urlopen(f"http://127.0.0.1:{sidecar.port}/", timeout=WAIT_LIMIT)
        assert plain.value.code == 502
        plain.value.close()

        added = sidecar.scrape().since(before)
        assert added.by(CONNECT_ERRORS, "reason") == {"refused": 2}
        assert added.by(HANDSHAKES, "status") == {"502": 1}, "plain HTTP is no handshake"
        assert added.endings() == {}

        app = RawApp(port)
        sidecar.wait_ready()
        client = Peer.connect(sidecar.port)
        client.send(upgrade_request())
        server = app.accept()
        server.accept_handshake()
        server.send(close_frame(1001, masked=False))
        client.until(b"\r\n\r\n")
        assert client.exactly(4) == close_frame(1001, masked=False)
        client.close()
        server.close()
        assert sidecar.settled(before).endings() == {("1001", "going-away", "server"): 1}

        app.close()
        eventually(lambda: sidecar.get("/readyz")[0] == 503, "not ready when the app has gone")
    finally:
        sidecar.stop()


def test_probes_count_for_nobody() -> None:
    """Readiness checks, with the app up or down, add no connect error, no handshake and no ending."""
    app = RawApp(free_port())
    sidecar = Sidecar(app.port, wait_ready=True)
    try:
        before = sidecar.scrape()
        app.close()
        eventually(lambda: sidecar.get("/readyz")[0] == 503, "not ready when the app has gone")
        added = sidecar.scrape().since(before)
        assert added.nonzero(CONNECT_ERRORS) == {}
        assert added.nonzero(HANDSHAKES) == {}
        assert added.endings() == {}
    finally:
        sidecar.stop()


def test_known_series_start_at_zero() -> None:
    """The first 1011 must show in increase(): its series is there, at 0, for every route, at the start."""
    sidecar = Sidecar(free_port(), "--route", "/chat/*", "--route", "/feed")
    try:
        start = sidecar.scrape()
        for route in ("/chat/*", "/feed", "other"):
            for code, cause, initiator in (
                ("1011", "internal-error", "server"),
                ("1011", "ping-timeout", "server"),
                ("1001", "going-away", "client"),
                ("1006", "app-down", "server"),
                ("1006", "connection-lost", "client"),
            ):
                labels = {"route": route, "code": code, "cause": cause, "initiator": initiator}
                assert start.has("websocket_connections_closed_total", **labels), labels
            for status in ("101", "401", "502", "aborted"):
                assert start.has(HANDSHAKES, route=route, status=status)
        assert start.endings() == {}
        assert start.nonzero(HANDSHAKES) == {}
    finally:
        sidecar.stop()


def test_routes_are_the_patterns_and_nothing_else(raw_app: RawApp) -> None:
    """The first pattern that matches the path is the route; a path that matches none is `other`."""
    sidecar = Sidecar(raw_app.port, "--route", "/chat/*", "--route", "/chat/vip")
    try:
        for path in ("/chat/vip", "/chat/1?token=x", "/elsewhere"):
            before = sidecar.scrape()
            client, server = open_session(sidecar, raw_app, path)
            client.close()
            server.rest()
            server.close()
            sidecar.settled(before)
        by_route = sidecar.scrape().by("websocket_connections_closed_total", "route")
        assert by_route == {"/chat/*": 2, "other": 1}
    finally:
        sidecar.stop()


def test_an_app_on_a_unix_socket(tmp_path: Path) -> None:
    """--upstream unix:/path: readiness, traffic and app-down work as they do over TCP."""
    path = tmp_path / "app.sock"
    app = RawApp(0, path=str(path))
    sidecar = Sidecar(0, upstream=f"unix:{path}", wait_ready=True)
    try:
        before = sidecar.scrape()
        client = Peer.connect(sidecar.port)
        client.send(upgrade_request())
        server = app.accept()
        server.accept_handshake()
        client.until(b"\r\n\r\n")
        app.close()
        server.close()
        assert client.rest() == b""
        client.close()
        assert sidecar.settled(before).endings() == {("1006", "app-down", "server"): 1}
    finally:
        app.close()
        sidecar.stop()


def test_sigterm_waits_for_the_last_session(raw_app: RawApp) -> None:
    """SIGTERM: not ready, but traffic flows; exit status 0 when the last session has ended and been scraped."""
    sidecar = Sidecar(raw_app.port, wait_ready=True)
    try:
        client, server = open_session(sidecar, raw_app)

        sidecar.process.signal(signal.SIGTERM)
        eventually(lambda: sidecar.get("/readyz")[0] == 503, "not ready once SIGTERM has come")
        draining = sidecar.scrape()
        assert draining.value("websocket_exporter_draining") == 1
        hello = frame(Opcode.TEXT, b"still here", masked=True)
        client.send(hello)
        assert server.exactly(len(hello)) == hello
        assert sidecar.process.returncode is None

        client.send(close_frame(1000, masked=True))
        client.close()
        server.rest()
        server.close()
        assert sidecar.settled(draining).endings() == {("1000", "normal", "client"): 1}
        assert sidecar.process.wait(WAIT_LIMIT) == 0
        assert [line["cause"] for line in sidecar.closed_lines()] == ["normal"]
    finally:
        sidecar.stop()


def test_sigterm_with_no_sessions_exits_at_once(raw_app: RawApp) -> None:
    """With nobody connected there is nothing to wait for; the exit status is 0 and nothing is a traceback."""
    sidecar = Sidecar(raw_app.port)
    try:
        sidecar.process.signal(signal.SIGTERM)
        assert sidecar.process.wait(WAIT_LIMIT) == 0
        assert "Traceback" not in sidecar.process.output()
    finally:
        sidecar.stop()


def test_a_second_sigterm_ends_at_once(raw_app: RawApp) -> None:
    """A second SIGTERM does not wait: session and process end, counted as drain."""
    sidecar = Sidecar(raw_app.port, "--drain-timeout", "1h")
    try:
        client, server = open_session(sidecar, raw_app)
        sidecar.process.signal(signal.SIGTERM)
        eventually(lambda: sidecar.get("/readyz")[0] == 503, "not ready once SIGTERM has come")
        sidecar.process.signal(signal.SIGTERM)
        sidecar.process.wait(WAIT_LIMIT)
        client.rest()
        client.close()
        server.close()
        lines = sidecar.closed_lines()
        assert [(line["cause"], line["initiator"]) for line in lines] == [("drain", "proxy")]
    finally:
        sidecar.stop()


def test_sigterm_ends_a_session_that_stays(raw_app: RawApp) -> None:
    """At the deadline a lasting session gets one Close from us, whose answer reaches the app."""
    sidecar = Sidecar(raw_app.port, "--drain-timeout", "10s", "--drain-spread", "9500ms")
    try:
        client, server = open_session(sidecar, raw_app)
        sidecar.process.signal(signal.SIGTERM)
        close = client.exactly(2)
        assert close[0] == 0x88, "a Close frame, unmasked"
        body = client.exactly(close[1])
        answer = close_frame(int.from_bytes(body[:2]), masked=True)
        client.send(answer)
        assert server.exactly(len(answer)) == answer
        server.send(bytes([0x88, 2]) + body[:2])
        server.close()
        assert client.rest() == b"", "the app's answer is consumed"
        client.close()
        assert sidecar.process.wait(WAIT_LIMIT) == 0
        lines = sidecar.closed_lines()
        assert [(line["cause"], line["initiator"]) for line in lines] == [("drain", "proxy")]
    finally:
        sidecar.stop()


def test_the_landing_page_and_openmetrics() -> None:
    """/ names the version and links /metrics; a scraper that asks for OpenMetrics gets it."""
    sidecar = Sidecar(free_port())
    try:
        status, page = sidecar.get("/")
        assert status == 200
        assert __version__ in page
        assert "/metrics" in page
        request = urllib.request.Request(
            f"http://127.0.0.1:{sidecar.admin_port}/metrics",
            headers={"Accept": "application/openmetrics-text;version=1.0.0"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_LIMIT) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            text = answer.read().decode()
        assert text.endswith("# EOF\n")
        assert "_created" not in text
    finally:
        sidecar.stop()
