"""Relays and observer apart: whatever happens to one process, traffic goes on, and the books balance."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import bcrypt

from tests.ports import free_port
from tests.waiting import eventually

from .harness.scrape import ACTIVE, CLOSED, HANDSHAKES, Scrape
from .harness.sidecar import Sidecar, audited, open_session
from .harness.wire import Opcode, Peer, RawApp, close_frame, frame

RESTARTS = "websocket_exporter_relay_restarts_total"


def children(sidecar: Sidecar, relays: int = 1) -> tuple[int, list[int]]:
    """Return the observer's and the relays' process ids, in the order in which they were forked."""
    command = ["ps", "--ppid", str(sidecar.process.pid), "-o", "pid=", "--sort=pid"]

    def found() -> list[int]:
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        pids = [int(pid) for pid in listed.split()]
        return pids if len(pids) == 1 + relays else []

    observer, *others = eventually(found, "all children run")
    return observer, others


def echo(client: Peer, server: Peer, text: bytes = b"hello") -> None:
    """Pass one message each way."""
    up, down = frame(Opcode.TEXT, text, masked=True), frame(Opcode.TEXT, text, masked=False)
    client.send(up)
    assert server.exactly(len(up)) == up
    server.send(down)
    assert client.exactly(len(down)) == down


def end(client: Peer, server: Peer, code: int = 1000) -> None:
    """Close a session by the client, with both Close frames."""
    closing = close_frame(code, masked=True)
    client.send(closing)
    assert server.exactly(len(closing)) == closing
    server.send(close_frame(code, masked=False))
    server.close()
    client.rest()
    client.close()


def balance(now: Scrape) -> float:
    """Return sessions opened less those closed and active: 0 if the books balance."""
    return now.value(HANDSHAKES, status="101") - now.value(CLOSED) - now.value(ACTIVE)


def test_observer_killed_under_load_no_session_notices_and_counts_go_on() -> None:
    """With the observer killed, traffic goes on; within 5 s another counts, and every session has its one close."""
    app = RawApp(free_port())
    try:
        with audited(app.port) as sidecar:
            kept = open_session(sidecar, app)
            for _ in range(5):
                end(*open_session(sidecar, app))
            observer, _ = children(sidecar)
            os.kill(observer, signal.SIGKILL)
            killed = time.monotonic()
            for _ in range(20):
                echo(*kept)
                end(*open_session(sidecar, app))
            eventually(lambda: sidecar.get("/livez")[0] == 200, "the new observer answers")
            assert time.monotonic() - killed < 5
            eventually(lambda: sidecar.scrape().value(CLOSED) == 25, "all closes are counted")
            assert balance(sidecar.scrape()) == 0
            echo(*kept)
            end(*kept)
    finally:
        app.close()


def test_observer_started_anew_reads_its_web_config_anew(tmp_path: Path) -> None:
    """An observer after the first asks at once for the logins that the file demands by then."""
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    file = tmp_path / "web.yml"
    file.write_text("basic_auth_users: {}\n")
    sidecar = Sidecar(free_port(), "--web-config-file", str(file))
    try:
        assert sidecar.get("/metrics")[0] == 200
        file.write_text(f"basic_auth_users: {{prometheus: {hashed}}}\n")
        os.kill(sidecar.observer_pid, signal.SIGKILL)
        eventually(lambda: "observer.restarted" in sidecar.process.output(), "another observer runs")
        assert sidecar.get("/metrics")[0] == 401
    finally:
        sidecar.stop()


def test_observer_stopped_records_wait_and_none_is_lost() -> None:
    """While the observer is stopped sessions open, talk and close; when it goes on it counts them all."""
    app = RawApp(free_port())
    try:
        with audited(app.port) as sidecar:
            observer, _ = children(sidecar)
            os.kill(observer, signal.SIGSTOP)
            try:
                for _ in range(50):
                    client, server = open_session(sidecar, app)
                    echo(client, server)
                    end(client, server)
            finally:
                os.kill(observer, signal.SIGCONT)
            now = eventually(lambda: (s := sidecar.scrape()).value(CLOSED) == 50 and s, "all closes are counted")
            assert balance(now) == 0
            assert now.value(CLOSED, code="1000", cause="normal", initiator="client") == 50
    finally:
        app.close()


def test_relay_killed_takes_only_its_sessions_and_is_started_anew() -> None:
    """The sessions of a relay that dies are counted as relay-lost; those of the other relay live on."""
    app = RawApp(free_port())
    try:
        with audited(app.port, "--workers", "2") as sidecar:
            sessions = [open_session(sidecar, app) for _ in range(24)]
            _, relays = children(sidecar, 2)
            os.kill(relays[0], signal.SIGKILL)
            now = eventually(
                lambda: (s := sidecar.scrape()).value(CLOSED, cause="relay-lost") and s, "the loss is counted"
            )
            lost = now.value(CLOSED, code="1006", cause="relay-lost", initiator="proxy")
            assert 0 < lost < 24
            assert balance(now) == 0
            eventually(lambda: sidecar.scrape().value(RESTARTS) == 1, "the relay is started anew")
            alive = 0
            for client, server in sessions:
                try:
                    echo(client, server)
                except (OSError, AssertionError, EOFError):
                    continue
                alive += 1
                end(client, server)
            assert alive == 24 - lost
            for _ in range(8):
                end(*open_session(sidecar, app))
            eventually(lambda: sidecar.scrape().value(CLOSED) == 32, "all are counted")
    finally:
        app.close()


def test_relay_stopped_livez_names_it_and_answers_at_once() -> None:
    """A relay without a heartbeat for 5 s fails /livez, which answers all the same; so does a scrape."""
    app = RawApp(free_port())
    try:
        with audited(app.port, "--workers", "2") as sidecar:
            _, relays = children(sidecar, 2)
            os.kill(relays[1], signal.SIGSTOP)
            try:
                text = eventually(lambda: (got := sidecar.get("/livez"))[0] == 503 and got[1], "/livez fails")
                assert "relay-1: no heartbeat for" in text
                assert balance(sidecar.scrape()) == 0
            finally:
                os.kill(relays[1], signal.SIGCONT)
            eventually(lambda: sidecar.get("/livez")[0] == 200, "/livez is right again")
    finally:
        app.close()


def test_two_relays_share_sessions_limits_and_books() -> None:
    """Both relays get sessions, and the books and --max-connections are those of the whole sidecar."""
    app = RawApp(free_port())
    try:
        with audited(app.port, "--workers", "2", "--max-connections", "40") as sidecar:
            sessions = [open_session(sidecar, app) for _ in range(40)]
            _, relays = children(sidecar, 2)
            shares = [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in relays]
            assert min(shares) > 20
            eventually(lambda: sidecar.scrape().value(ACTIVE) == 40, "all are active")
            refused = Peer.connect(sidecar.port)
            refused.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 503 " in refused.until(b"\r\n\r\n")
            refused.close()
            for session in sessions:
                end(*session)
            eventually(lambda: sidecar.scrape().value(CLOSED) == 40, "all are counted")
    finally:
        app.close()


def test_supervisor_killed_leaves_no_process() -> None:
    """When the supervisor is killed with -9, relays and observer end too."""
    app = RawApp(free_port())
    sidecar = Sidecar(app.port, "--workers", "2")
    try:
        observer, relays = children(sidecar, 2)
        os.kill(sidecar.process.pid, signal.SIGKILL)

        def gone(pid: int) -> bool:
            try:
                return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                return True

        eventually(lambda: all(map(gone, (observer, *relays))), "all have ended", 10)
    finally:
        sidecar.stop()
        app.close()
