"""Which cause each server stack's closes get, in each way in which a session can end.

outcomes.json holds, for each stack and action, the close that the client saw and the ending that was counted. A test
plays each row and compares; `OUTCOMES=write` writes the file anew, for the difference to be read. The file is also the
table of docs/diagnosis.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.relay.legs import NO_PROGRESS
from tests.ports import free_port, listening
from tests.waiting import WAIT_LIMIT, eventually

from .harness.outcomes import OUTCOMES, SUSPECTED, read_outcomes, verdicts
from .harness.process import Process
from .harness.scrape import ACTIVE, HANDSHAKES, Ending, Scrape
from .harness.sidecar import Sidecar, audited, open_session
from .harness.stack import STACKS
from .harness.variants import (
    ACTIONS,
    NO_PONG,
    RELOAD,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    TOO_BIG,
    VARIANTS,
    WORKER,
    Variant,
)
from .harness.wire import Peer, RawApp, upgrade_request

#: The variants that are played in every run; `make interop` plays all of them.
QUICK = {
    "websockets, closes on SIGTERM", "uvicorn (websockets)", "uvicorn, 2 workers", "granian", "daphne, Django Channels",
    "aiohttp", "tornado", "Node ws",
}  # fmt: skip

#: Above every limit that the stacks have, their defaults included.
BIG = 5 << 20
#: The one that is stopped in every run: a stopped app is silent on every stack.
STOPPED = "aiohttp"

#: A row is played again on a busy machine: some causes depend on what happens within 100 ms.
RETRIES = 2
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
#: Seconds within which a stack ends a session.
ENDS = 20.0
#: Seconds that sessions are idle before something is done to their app.
IDLE = 0.3
#: Sessions for a killed worker or a reload, each idle for another time.
SESSIONS = 12
#: Seconds after which the client of a stopped app gives up: it has pinged, and ends TCP.
NO_ANSWER = 1.3
NOTHING = "nothing"
#: FIN or RST: which of them a client sees that is still sending depends on how far it got.
TCP_END = "TCP end"


class Client:
    """A raw client: reads frames, answers Close frames, and pings if asked."""

    def __init__(self, port: int, pongs: bool = True, path: str = "/") -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), WAIT_LIMIT)
        self._sock.settimeout(WAIT_LIMIT)
        self._pongs = pongs
        self._data = b""
        self._sock.sendall(upgrade_request(path))
        while b"\r\n\r\n" not in self._data:
            self._read()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head

    def send(self, opcode: int, payload: bytes) -> None:
        """Send one masked frame; the masking key is 0."""
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
        self._sock.settimeout(ENDS)
        with contextlib.suppress(OSError):
            self._sock.sendall(head + bytes(4) + payload)

    def echo(self, text: str) -> str:
        """Send a text and return the answer."""
        self.send(TEXT, text.encode())
        while (frame := self._frame())[0] != TEXT:
            self._answer(*frame)
        return frame[1].decode()

    def end(self) -> str:
        """Read to the end; return the code of the server's Close frame, 1005 for an empty one, or how TCP ended."""
        code, deadline = "", time.monotonic() + ENDS
        try:
            while True:
                assert time.monotonic() < deadline, "the session stays open"
                self._sock.settimeout(1.0 if code else ENDS)
                opcode, payload = self._frame()
                if opcode == CLOSE and not code:
                    code = str(int.from_bytes(payload[:2], "big")) if payload else "1005"
                    code += f" {payload[2:].decode(errors='replace')}" if payload[2:] else ""
                self._answer(opcode, payload)
        except EOFError:
            return code or "FIN"
        except TimeoutError:
            assert code, "the session stays open"
            return code
        except OSError:
            return code or "RST"
        except ValueError:
            self.send(CLOSE, (1002).to_bytes(2, "big"))
            return "HTTP text"
        finally:
            self.close()

    def close(self) -> None:
        """End TCP."""
        self._sock.close()

    def _answer(self, opcode: int, payload: bytes) -> None:
        if opcode == PING and self._pongs:
            self.send(PONG, payload)
        elif opcode == CLOSE:
            self.send(CLOSE, payload[:2])

    def _frame(self) -> tuple[int, bytes]:
        head = self._take(2)
        if head == b"HT":
            raise ValueError("HTTP text")
        size = head[1] & 0x7F
        if size > 125:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._read()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def _read(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise EOFError
        self._data += data


class Stage:
    """A sidecar and, behind it, the variant that the current test needs."""

    def __init__(self) -> None:
        self._port = free_port()
        self.sidecar = Sidecar(self._port)
        self._variant: Variant | None = None
        self._app: Process | None = None

    def app(self, variant: Variant) -> Process:
        """The variant's process: the one that runs already, or a new one."""
        if self._app is None or self._variant != variant or self._app.returncode is not None:
            self.retire()
            self._app, self._variant = variant.start(self._port), variant
        return self._app

    def retire(self) -> None:
        """End the app, if one runs."""
        if self._app is not None:
            self._app.kill_group()
            self._app.stop()
            self._app = None
            eventually(lambda: not listening(self._port), "the app's port is free")

    def close(self) -> None:
        """End the app and the sidecar."""
        try:
            self.retire()
        finally:
            self.sidecar.stop()


@pytest.fixture(scope="module")
def stage(node_packages: None) -> Iterator[Stage]:
    """One sidecar for all variants."""
    stage = Stage()
    try:
        yield stage
    finally:
        stage.close()


def play(stage: Stage, variant: Variant, action: str) -> tuple[str, Ending]:
    """Do one thing to one stack; return what the client saw and the one ending that was counted."""
    app = stage.app(variant)
    before = stage.sidecar.scrape()
    client = Client(stage.sidecar.port, action != NO_PONG, variant.path)
    try:
        if "EIO=" not in variant.path:
            assert client.echo("hello") == "hello"
        match action:
            case "handler raises":
                client.send(TEXT, b"raise")
            case "handler returns":
                client.send(TEXT, b"return")
            case "SIGTERM":
                time.sleep(IDLE)
                app.signal(signal.SIGTERM)
            case "SIGKILL":
                time.sleep(IDLE)
                app.kill_group()
            case "SIGSTOP":
                app.stop_group()
                time.sleep(IDLE)  # threads on other cores run on for a moment
                client.send(PING, b"")
                time.sleep(NO_ANSWER)
                client.close()
            case "message too big":
                client.send(TEXT, b"x" * BIG)
            case "invalid UTF-8":
                client.send(TEXT, b"\xff\xfe")
        wire = NOTHING if action == SIGSTOP else client.end()
        if action == TOO_BIG and wire in ("FIN", "RST"):
            wire = TCP_END
        # An app may leave its socket open without reading it: then its client's end is behind bytes that nobody takes.
        added = stage.sidecar.settled(before, seconds=WAIT_LIMIT + (NO_PROGRESS if action == TOO_BIG else 0))
    finally:
        client.close()
        if action in (SIGTERM, SIGKILL, SIGSTOP) or variant.dies:
            stage.retire()
    ((ending, times),) = added.endings().items()
    assert times == 1
    if added.value("websocket_suspect_closes_total"):
        wire += SUSPECTED
    return wire, ending


def sessions(stage: Stage) -> list[Client]:
    """Open sessions, each idle for another time."""
    clients = []
    for _ in range(SESSIONS):
        clients.append(Client(stage.sidecar.port))
        assert clients[-1].echo("hello") == "hello"
        time.sleep(0.1)
    return clients


def most_common(stage: Stage, before: Scrape, clients: list[Client], lost: int) -> Ending:
    """Wait until that many sessions have ended; return the ending that most of them got."""
    sidecar = stage.sidecar
    counted = eventually(lambda: (now := sidecar.scrape().since(before)).closed() >= lost and now, "the sessions end")
    for client in clients:
        client.close()
    stage.retire()
    sidecar.settled(before, len(clients))  # the next row counts its own
    return Counter({ending: round(times) for ending, times in counted.endings().items()}).most_common(1)[0][0]


def play_worker(stage: Stage, variant: Variant) -> tuple[str, Ending]:
    """Kill the worker that has the most sessions; return the ending that most of its sessions got."""
    app = stage.app(variant)
    workers = children(app.pid)
    eventually(lambda: len(workers) >= 2 or workers.extend(children(app.pid)), "the workers run")
    before = stage.sidecar.scrape()
    clients = sessions(stage)
    victim = max(children(app.pid), key=connections)
    lost = connections(victim)
    assert lost >= 3, "the sessions went to other workers"
    os.kill(victim, signal.SIGKILL)
    return "FIN", most_common(stage, before, clients, lost)


def play_reload(stage: Stage, variant: Variant) -> tuple[str, Ending]:
    """Reload the app in place, by its signal or by a change of the file that it watches."""
    app = stage.app(variant)
    before = stage.sidecar.scrape()
    clients = sessions(stage)
    time.sleep(1.2)  # for watchers that compare seconds
    if isinstance(variant.reload, signal.Signals):
        app.signal(variant.reload)
    else:
        (STACKS / variant.reload).touch()
    wire = clients[0].end()
    return wire, most_common(stage, before, clients, SESSIONS)


def children(pid: int) -> list[int]:
    """The child processes of a process, and theirs."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [grandchild for child in found for grandchild in children(child)]


def connections(pid: int) -> int:
    """How many established TCP connections a process holds."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {f"socket:[{row[9]}]" for row in rows if row[3] == "01"}
    with contextlib.suppress(OSError):
        return sum(os.readlink(link) in established for link in Path(f"/proc/{pid}/fd").iterdir())
    return 0


ROWS = [(variant, action) for variant in VARIANTS for action in ACTIONS if variant.can(action)]


@pytest.mark.parametrize(("variant", "action"), ROWS, ids=str)
def test_ending_of_a_stack_has_the_recorded_cause(stage: Stage, variant: Variant, action: str) -> None:
    """The close that the client sees and the ending that is counted are those of outcomes.json."""
    quick = variant.name in QUICK and (action != SIGSTOP or variant.name == STOPPED)
    if not quick and not os.environ.get("INTEROP"):
        pytest.skip("one of those that `make interop` plays")
    outcomes = read_outcomes()
    if os.environ.get("OUTCOMES") == "write":
        outcomes.setdefault(variant.name, {})[action] = twice(stage, variant, action)
        OUTCOMES.write_text(json.dumps(outcomes, indent=1, ensure_ascii=False) + "\n")
        return
    recorded = outcomes[variant.name][action]
    found = outcome(stage, variant, action)
    for _ in range(RETRIES):
        if found == recorded:
            break
        found = outcome(stage, variant, action)
    assert found == recorded


def outcome(stage: Stage, variant: Variant, action: str) -> list[str]:
    """Play one row."""
    if action == WORKER:
        wire, ending = play_worker(stage, variant)
    elif action == RELOAD:
        wire, ending = play_reload(stage, variant)
    else:
        wire, ending = play(stage, variant, action)
    return [wire, *ending]


def twice(stage: Stage, variant: Variant, action: str) -> list[str]:
    """Play one row until two results in a row are the same."""
    found = outcome(stage, variant, action)
    while (again := outcome(stage, variant, action)) != found:
        found = again
    return found


def test_a_handler_that_fails_silently_ends_nothing(stage: Stage) -> None:
    """A failed handler that leaves the session open is no close until a peer ends the session."""
    stage.app(next(variant for variant in VARIANTS if variant.mute and variant.needs == "node"))
    before = stage.sidecar.scrape()
    client = Client(stage.sidecar.port)
    assert client.echo("hello") == "hello"
    client.send(TEXT, b"raise")
    time.sleep(IDLE)
    meanwhile = stage.sidecar.scrape()
    assert meanwhile.since(before).endings() == {}
    assert meanwhile.value(ACTIVE) == 1
    client.send(CLOSE, (1000).to_bytes(2, "big"))
    client.close()
    assert stage.sidecar.settled(before).endings() == {("1000", "normal", "client"): 1}


def test_app_that_hangs_keeps_its_sessions_and_aborts_handshakes(stage: Stage) -> None:
    """A stopped app ends nothing: sessions stay open, and a client that gives up its handshake has no session."""
    app = stage.app(next(variant for variant in VARIANTS if variant.name == "aiohttp"))
    before = stage.sidecar.scrape()
    client = Client(stage.sidecar.port)
    assert client.echo("hello") == "hello"
    app.stop_group()
    late = Peer.connect(stage.sidecar.port)
    late.send(upgrade_request())
    time.sleep(1.0)
    late.reset()
    counted = eventually(
        lambda: (now := stage.sidecar.scrape().since(before)).value(HANDSHAKES, status="aborted") and now,
        "it is counted",
    )
    assert counted.endings() == {}
    os.killpg(app.pid, signal.SIGCONT)
    assert client.echo("again") == "again"
    client.send(CLOSE, (1000).to_bytes(2, "big"))
    client.close()
    assert stage.sidecar.settled(before).endings() == {("1000", "normal", "client"): 1}


def test_app_that_a_supervisor_restarts_at_once_is_app_restarted() -> None:
    """The port accepts again before the sidecar looks, on another socket: that is no drop by a living app."""
    port = free_port()
    app = RawApp(port)
    with audited(port) as sidecar:
        before = sidecar.scrape()
        client, server = open_session(sidecar, app)
        time.sleep(1.5)  # the sidecar looks at the app's socket when a session has opened
        app.close()
        server.close()
        again = RawApp(port)
        try:
            assert sidecar.settled(before).endings() == {("1006", "app-restarted", "server"): 1}
        finally:
            client.close()
            again.close()


def test_recorded_causes_are_right_and_hardly_ever_wrong() -> None:
    """At least 92 % lead to the right conclusion, at most 1 % to a wrong one; the rest is named neutrally."""
    counted = verdicts(read_outcomes())
    total = counted.total()
    assert counted["right"] >= 0.92 * total, counted
    assert counted["wrong"] <= 0.01 * total, counted


def test_recorded_outcomes_are_of_stacks_that_exist() -> None:
    """outcomes.json has no row of a stack or action that is gone."""
    known = {(variant.name, action) for variant, action in ROWS}
    assert {(name, action) for name, actions in read_outcomes().items() for action in actions} <= known
